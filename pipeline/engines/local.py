"""Run tasks on this machine: in this process, or in spawned workers.

In:  a function of a module, and the arguments of each task.   Out: (task number, result) as tasks finish.
Guarantee: never fork (tokenizer thread pools and storage clients hang in forked children); a worker ends when its
parent is gone, however it died; the first error of a task ends the run and is raised here.

    for number, result in run(square, [1, 2, 3], workers=2): ...     (0, 1), (2, 9), (1, 4)
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait as wait_for_any
from typing import Any, TypeVar

from curriculum.errors import BuildError

Result = TypeVar("Result")


class Workers:
    """A pool that is started at the first task and kept for all stages of a build."""

    def __init__(self, num_workers: int) -> None:
        self.num_workers = num_workers
        self._pool: ProcessPoolExecutor | None = None

    def run(self, task: Callable[..., Result], arguments: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Result]]:
        """Call `task(*arguments[i])` for every i; yields (i, result) in the order of completion."""
        if self.num_workers == 1 or len(arguments) == 1:
            for number, values in enumerate(arguments):
                yield number, task(*values)
            return
        try:
            yield from self._run_in_pool(task, arguments)
        except BrokenProcessPool:
            raise BuildError(
                "A worker process died, most likely for want of memory. Run the same command again to continue; "
                "fewer --workers, or smaller --unit-bytes and --shuffle-window, need less."
            ) from None

    def _run_in_pool(
        self, task: Callable[..., Result], arguments: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[int, Result]]:
        pool = self._started()
        waiting = list(enumerate(arguments))[::-1]
        running: dict[Future[Result], int] = {}
        # Two tasks per worker keep them busy; more would only pile up pickled arguments.
        while waiting or running:
            while waiting and len(running) < 2 * self.num_workers:
                number, values = waiting.pop()
                running[pool.submit(task, *values)] = number
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield running.pop(future), future.result()

    def prepare(self, task: Callable[..., object], *arguments: Any) -> None:
        """Start the workers and let each load something while this process goes on; what goes wrong is no error yet."""
        if self.num_workers > 1:
            with suppress(BrokenProcessPool):  # `run` will say it
                for _ in range(self.num_workers):
                    self._started().submit(task, *arguments)

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.num_workers, mp_context=context, initializer=_start_worker)
        return self._pool

    def close(self) -> None:
        """End the workers; tasks that have not begun are dropped."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


@contextmanager
def local_workers(num_workers: int) -> Iterator[Workers]:
    """Workers that end with the block."""
    workers = Workers(num_workers)
    try:
        yield workers
    finally:
        workers.close()


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start_worker() -> None:
    """One thread per worker, since there is a worker per core; and a watch on the parent."""
    os.environ["RAYON_NUM_THREADS"] = "1"
    os.environ["FASTOKENS_BPE_THREADS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    """Exit at once when the parent is gone: an orphan must not write beside the next build."""
    wait_for_any([sentinel])
    os._exit(1)
