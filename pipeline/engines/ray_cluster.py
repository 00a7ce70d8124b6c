"""Run tasks on a Ray cluster.

In:  a function of a module, what all its tasks share, and the arguments of each.   Out: as `Workers` says.
Guarantee: what tasks share goes to each worker process once, results are small, and neither holds a token. A task
whose node or process dies runs again elsewhere; the error of a task ends the run at once and is raised here as it was.
As many tasks are under way as keep all cores busy while nodes come and go, and none is left when the block ends.

    with ray_workers(address=None, num_workers=None, places=places, say=print) as workers:
        dict(workers.run(pow, (2,), [(1,), (2,), (3,)]))     {0: 2, 1: 4, 2: 8}
"""

from __future__ import annotations

import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from pipeline.engines.fence import put_up
from pipeline.engines.node_checks import NodeCheck, SharedFolder, installed_versions
from pipeline.engines.ray_connection import connected
from pipeline.engines.ray_losses import Losses
from pipeline.engines.ray_nodes import check_nodes, num_cpus
from pipeline.engines.ray_tasks import Run, call
from pipeline.files.contract import Files

Result = TypeVar("Result")
Say = Callable[[str], None]

TASKS_PER_CPU = 2
"""One that runs and one that waits; more would only pile up arguments."""
MIN_IN_FLIGHT = 16
"""A cluster that grows on demand has no CPU at first: something must wait for one."""
LOOK_SECONDS = 5.0
"""How often the size of the cluster is looked at."""
CANCEL_SECONDS = 3.0
"""How long a task may take to end that was asked to; it hears that only between two lines of Python."""
KILL_SECONDS = 30.0
"""How long Ray may take to kill the process of one that did not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """What the tasks of a build write to and read from, and what says that they still may."""

    fence_in: Files | None = None
    """the token store, which keeps the file that the tasks look at; None for tasks that only read"""
    out: Files | None = None
    """the output, if tasks write to it"""
    shared: tuple[SharedFolder, ...] = ()
    """what every node must reach, and be able to write to"""
    reads: tuple[tuple[str, int], ...] = ()
    """path and bytes of a few files of the corpus"""


@dataclass(kw_only=True)
class RayWorkers:
    """The CPUs of a cluster; see `pipeline.engines.workers.Workers`."""

    ray: Any
    check: NodeCheck
    num_workers: int | None
    """tasks at once; None: as many as there are CPUs"""
    say: Say
    _running: dict[Future[Any], tuple[int, Any]] = field(default_factory=dict)
    """number of the task, and Ray's reference to its result"""
    _limit: int = 0
    _looked: float = 0.0

    def run(
        self, task: Callable[..., Result], shared: tuple[Any, ...], arguments: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[int, Result]]:
        """Each task has a CPU; they are spread over the nodes, so that disks and networks share the load."""
        run = Run(task=task, shared=shared, check=self.check, folder=os.getcwd())  # noqa: PTH109 - a plain string
        key, boxed = secrets.token_hex(8), [self.ray.put(run)]
        # Ray would retry a task that does not fit in memory for ever, so what is lost is counted here.
        remote = self.ray.remote(call).options(
            name=task.__name__, num_cpus=1, max_retries=0, retry_exceptions=False, scheduling_strategy="SPREAD"
        )
        losses = Losses(ray=self.ray, say=self.say)
        finished: SimpleQueue[Future[Any]] = SimpleQueue()
        fresh, again = iter(range(len(arguments))), deque[int]()
        left = len(arguments)
        try:
            while left:
                while len(self._running) < self._in_flight():
                    number = next(fresh, None)
                    if number is None and not again:
                        break
                    number = again.popleft() if number is None else number
                    reference = remote.remote(key, boxed, arguments[number])
                    future = reference.future()
                    self._running[future] = (number, reference)
                    future.add_done_callback(finished.put)
                for future in _next(finished):
                    number, _ = self._running.pop(future)
                    error = future.exception()
                    if error is None:
                        left -= 1
                        yield number, future.result()
                    else:
                        losses.count(number, error)
                        again.append(number)
        finally:
            self.cancel()

    def prepare(self, num_tasks: int, task: Callable[..., object], *arguments: Any) -> None:
        """Nothing: Ray starts its processes by itself, and each loads what it needs with its first task."""

    def _in_flight(self) -> int:
        """How many tasks may be under way: nodes come and go."""
        if self.num_workers is not None:
            return self.num_workers
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._limit = max(MIN_IN_FLIGHT, TASKS_PER_CPU * num_cpus(self.ray))
            self._looked = time.monotonic()
        return self._limit

    def cancel(self) -> bool:
        """End all tasks that are under way; whether every one of them is known to have ended."""
        for force, seconds in ((False, CANCEL_SECONDS), (True, KILL_SECONDS)):
            for _, reference in self._running.values():
                self.ray.cancel(reference, force=force)
            done, _ = wait(self._running, timeout=seconds if self._running else 0)
            for future in done:
                del self._running[future]
        return not self._running


def _next(finished: SimpleQueue[Future[Any]]) -> Iterator[Future[Any]]:
    """A task that has ended; none after a second, so that the size of the cluster is looked at again."""
    try:
        yield finished.get(timeout=1.0)
    except Empty:
        return


@contextmanager
def ray_workers(*, address: str | None, num_workers: int | None, places: Places, say: Say) -> Iterator[RayWorkers]:
    """The workers of a cluster, after every node of it was found fit; no task of theirs is left after the block.

    Raises:
        ConfigError: Ray is not installed, or the address is none of a cluster.
        BuildError: no cluster answers, or a node of it cannot work on this build.
    """
    with connected(address) as ray:
        fence = None
        if places.fence_in is not None:
            fence = put_up(places.fence_in, num_tasks=num_workers or num_cpus(ray), out=places.out)
        check = NodeCheck(versions=installed_versions(), fence=fence, writes=places.shared, reads=places.reads)
        workers = RayWorkers(ray=ray, check=check, num_workers=num_workers, say=say)
        all_ended = False
        try:
            check_nodes(ray, check, say)
            yield workers
        finally:
            all_ended = workers.cancel()
            if fence is not None and all_ended:
                fence.take_down()  # else the next build takes it down, and waits
