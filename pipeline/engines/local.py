"""Run tasks on this machine: in this process, or in spawned workers.

In:  a function of a module, what all its tasks share, and the arguments of each.   Out: as `Workers` says.
Guarantee: never fork (tokenizer thread pools and storage clients hang in forked children); a worker ends when its
parent is gone, however it died; the first error of a task ends the run and is raised here.

    with local_workers(2) as workers:
        dict(workers.run(pow, (2,), [(1,), (2,), (3,)]))     {0: 2, 1: 4, 2: 8}
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from itertools import count
from multiprocessing.connection import wait as wait_for_any
from typing import Any, TypeVar

from curriculum.errors import BuildError

Result = TypeVar("Result")
_RUNS = count()


class _Missing(Enum):
    SHARED = 1
    """the answer of a worker that was not told yet what the tasks of a run share"""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shared:
    """What the tasks of a run share, pickled once; or only the number of the run."""

    run: int
    pickled: bytes | None = None


class LocalWorkers:
    """A pool of spawned processes; see `pipeline.engines.workers.Workers`."""

    def __init__(self, num_workers: int) -> None:
        self.num_workers = num_workers
        self._pool: ProcessPoolExecutor | None = None

    def run(
        self, task: Callable[..., Result], shared: tuple[Any, ...], arguments: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[int, Result]]:
        """In this process if there is one worker or one task."""
        if self.num_workers == 1 or len(arguments) == 1:
            for number, values in enumerate(arguments):
                yield number, task(*shared, *values)
            return
        try:
            yield from self._run_in_pool(task, shared, arguments)
        except BrokenProcessPool:
            raise BuildError(
                "A worker process died, most likely for want of memory. Run the same command again to continue; "
                "fewer --workers, or smaller --unit-bytes and --shuffle-window, need less."
            ) from None

    def _run_in_pool(
        self, task: Callable[..., Result], shared: tuple[Any, ...], arguments: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[int, Result]]:
        pool = self._started()
        packed = _Shared(run=next(_RUNS), pickled=pickle.dumps(shared))
        waiting = list(range(len(arguments)))[::-1]
        left_to_tell = self.num_workers
        running: dict[Future[Any], int] = {}
        # Two tasks per worker keep them busy; more would only pile up pickled arguments.
        while waiting or running:
            while waiting and len(running) < 2 * self.num_workers:
                number = waiting.pop()
                sent = packed if left_to_tell > 0 else _Shared(run=packed.run)
                left_to_tell -= 1
                running[pool.submit(_call, task, sent, arguments[number])] = number
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                number, result = running.pop(future), future.result()
                if result is _Missing.SHARED:  # another worker took the tasks that carried it
                    waiting.append(number)
                    left_to_tell = max(left_to_tell, 0) + 1
                else:
                    yield number, result

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
def local_workers(num_workers: int) -> Iterator[LocalWorkers]:
    """Workers that end with the block."""
    workers = LocalWorkers(num_workers)
    try:
        yield workers
    finally:
        workers.close()


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_KNOWN: tuple[int, tuple[Any, ...]] = (-1, ())
"""In a worker: number of the run, and what its tasks share."""


def _call(task: Callable[..., Any], shared: _Shared, values: tuple[Any, ...]) -> Any:
    """In a worker: one task, if what it shares with the others has come."""
    global _KNOWN
    if shared.run != _KNOWN[0]:
        if shared.pickled is None:
            return _Missing.SHARED
        _KNOWN = (shared.run, pickle.loads(shared.pickled))
    return task(*_KNOWN[1], *values)


def one_thread_per_worker() -> None:
    """There is a worker per core. Heard by libraries that are loaded after this."""
    os.environ["RAYON_NUM_THREADS"] = "1"
    os.environ["FASTOKENS_BPE_THREADS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _start_worker() -> None:
    """In a worker, before its first task."""
    one_thread_per_worker()
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    """Exit at once when the parent is gone: an orphan must not write beside the next build."""
    wait_for_any([sentinel])
    os._exit(1)
