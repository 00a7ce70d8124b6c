"""Run tasks on this machine: in this process, or in spawned workers.

In:  a function of a module, what all its tasks share, and the arguments of each.   Out: as `Workers` says.
Guarantee: never fork (tokenizer thread pools and storage clients hang in forked children); a worker has one task at a
time, so that neither its death nor a large result holds up the others; the first error of a task, or the first death
of a worker, ends the run and is raised here; when the block ends, its workers end within about a second.

    with local_workers(2) as workers:
        dict(workers.run(pow, (2,), [(1,), (2,), (3,)]))     {0: 2, 1: 4, 2: 8}
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for_any
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar

from curriculum.errors import BuildError
from pipeline.engines.deaths import AGAIN, count_oom_kills, why
from pipeline.engines.worker_process import Answer, Common, Preparation, Task, work

Result = TypeVar("Result")
OUR_SIGNAL_SECONDS = 0.5
"""A worker may die of a signal that was sent to all of us; ours says more, and comes within this time."""
TIDY_SECONDS = 1.0
"""What a worker may take to remove what it has not finished."""
LOWER = "fewer --workers need less"


@dataclass(kw_only=True, slots=True)
class _Worker:
    """A process, and the number of the task that it has."""

    process: SpawnProcess
    orders: Connection
    run: int = -1
    """number of the run whose function and shared arguments it knows"""
    task: int | None = None


class LocalWorkers:
    """Spawned processes; see `pipeline.engines.workers.Workers`."""

    def __init__(self, num_workers: int, lower: Callable[[str], str]) -> None:
        self.num_workers = num_workers
        self._lower = lower
        self._workers: list[_Worker] = []
        self._num_runs = 0
        self._stage = ""
        self._oom_kills = count_oom_kills()

    def run(
        self, task: Callable[..., Result], shared: tuple[Any, ...], arguments: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[int, Result]]:
        """In this process if there is one worker or one task."""
        self._stage = task.__module__
        try:
            if self.num_workers == 1 or len(arguments) == 1:
                for number, values in enumerate(arguments):
                    yield number, task(*shared, *values)
            else:
                yield from self._run_in_processes(task, shared, arguments)
        except MemoryError:
            raise BuildError(f"Out of memory. {AGAIN}; {self._lower(self._stage)}.") from None

    def _run_in_processes(
        self, task: Callable[..., Any], shared: tuple[Any, ...], arguments: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[int, Any]]:
        self._start(min(self.num_workers, len(arguments)))
        self._num_runs += 1
        common = Common(pickled=pickle.dumps((task, shared)))
        waiting = deque(range(len(arguments)))
        num_left = len(arguments)
        self._give(common, waiting, arguments)
        while num_left:
            results: list[tuple[int, Any]] = []
            for worker, answer in self._answers():
                number, is_ours, worker.task = worker.task or 0, worker.run == self._num_runs, None
                if is_ours:  # else of a run whose results nobody waited for
                    if answer.error is not None:
                        raise answer.error
                    results.append((number, answer.result))
            self._give(common, waiting, arguments)  # before the caller takes its time
            num_left -= len(results)
            yield from results

    def _give(self, common: Common, waiting: deque[int], arguments: Sequence[tuple[Any, ...]]) -> None:
        """A task for each worker that has none."""
        for worker in self._workers:
            if worker.task is None and waiting:
                try:
                    if worker.run != self._num_runs:
                        worker.orders.send(common)
                    worker.orders.send(Task(arguments=arguments[waiting[0]]))
                except (BrokenPipeError, ConnectionResetError):
                    raise self._death(worker) from None
                worker.run, worker.task = self._num_runs, waiting.popleft()

    def _answers(self) -> list[tuple[_Worker, Answer]]:
        """Wait until there is at least one."""
        ready = wait_for_any([one for worker in self._workers for one in (worker.orders, worker.process.sentinel)])
        found = []
        for worker in self._workers:
            try:
                if worker.orders in ready:
                    found.append((worker, worker.orders.recv()))
                elif worker.process.sentinel in ready:
                    raise EOFError
            except (EOFError, ConnectionResetError):
                raise self._death(worker) from None
        return found

    def _death(self, worker: _Worker) -> BuildError:
        time.sleep(OUR_SIGNAL_SECONDS)
        worker.process.join(TIDY_SECONDS)
        lower = self._lower(self._stage)
        return BuildError(why(worker.process.exitcode, oom_kills_before=self._oom_kills, lower=lower))

    def prepare(self, num_tasks: int, task: Callable[..., object], *arguments: Any) -> None:
        """Start a worker for each task, at most `num_workers`; none for a single task, which this process does."""
        num_workers = min(self.num_workers, num_tasks)
        if num_workers > 1:
            self._start(num_workers)
            for worker in self._workers:
                with suppress(BrokenPipeError, ConnectionResetError):  # `run` will say it
                    worker.orders.send(Preparation(function=task, arguments=arguments))

    def _start(self, num_workers: int) -> None:
        resource_tracker.ensure_running()  # it would let Ctrl-C through again if the first worker started it
        # Ctrl-C reaches all processes of a terminal; a worker that is still importing would show a traceback.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            while len(self._workers) < num_workers:
                self._workers.append(_started())
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        workers, self._workers = self._workers, []
        for worker in workers:
            if worker.task is not None:
                worker.process.terminate()
            worker.orders.close()
        deadline = time.monotonic() + TIDY_SECONDS
        for worker in workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.exitcode is None:
                worker.process.kill()
                worker.process.join()


def _started() -> _Worker:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=work, args=(theirs,), daemon=True)
    with ThreadPoolExecutor(1) as aside:  # a signal must not stop it half-way: the child would complain of its orders
        aside.submit(process.start).result()
    theirs.close()
    return _Worker(process=process, orders=ours)


@contextmanager
def local_workers(num_workers: int, lower: Callable[[str], str] = lambda stage: LOWER) -> Iterator[LocalWorkers]:
    """Workers that end with the block.

    Args:
        lower: the options whose smaller values make the tasks of a module need less memory, as a clause.
    """
    workers = LocalWorkers(num_workers, lower)
    try:
        yield workers
    finally:
        workers.close()
