"""Threads that read from a store, try again what may pass, and never keep anyone waiting for ever.

In:  jobs, each one attempt to do something with a time limit.   Out: their results, or one sentence.
Guarantee: at most `CONNECTIONS` attempts run at once; a job that does not succeed within its deadline raises a
`DataError` that names it, in the thread that waits for it, even if the library below never returns. Threads are
daemons: they do not keep a process alive.

    attempt fails with 503  ->  wait 0.2 s, again, 0.4 s, again ... until `timeout_seconds` have passed since it began
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from queue import SimpleQueue
from time import monotonic
from typing import Any, Generic, TypeVar

from curriculum.errors import DataError
from curriculum.remote.failures import RESUME, final_error, may_pass, reason

T = TypeVar("T")
CONNECTIONS = 8
"""Attempts at once: with 8 MiB each at most 64 MiB in flight. s3fs keeps 10 connections open."""
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
FIRST_ATTEMPT = 1 / 3
"""Part of the deadline that the first attempt may take: a connection that stalls is given up while there is time for
another, which may take all that is left, since the store may only be slow."""
GRACE_SECONDS = 1.0
"""The thread that waits gives the working thread so long to say itself what went wrong."""


class Job(Generic[T]):
    """Something to be done by a thread of a `Fetcher`."""

    __slots__ = ("attempt", "future", "queued_at", "started_at", "still_wanted", "what")

    def __init__(
        self, attempt: Callable[[float], T], what: str, still_wanted: Callable[[], bool] = lambda: True
    ) -> None:
        """Describe a job.

        Args:
            attempt: called with the seconds it may take, again and again while it raises what may pass.
            what: address, and bytes where a part is read; begins messages.
            still_wanted: asked before each attempt; False cancels the job.
        """
        self.attempt = attempt
        self.what = what
        self.still_wanted = still_wanted
        self.future: Future[T] = Future()
        self.queued_at = monotonic()
        self.started_at: float | None = None


class Fetcher:
    """A few daemon threads and the jobs they do, in order."""

    def __init__(self, timeout_seconds: float) -> None:
        self.timeout_seconds = timeout_seconds
        self._queue: SimpleQueue[Job[Any] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._open_jobs = 0
        """queued or being done"""
        self._threads = 0
        self._last_end = monotonic()
        self._given_up: set[int] = set()

    def submit(self, job: Job[T]) -> Job[T]:
        """Have a job done; returns at once."""
        self._queue.put(job)
        with self._lock:
            self._open_jobs += 1
            if self._threads < min(self._open_jobs, CONNECTIONS):
                self._threads += 1
                threading.Thread(target=self._work, name="curriculum-remote", daemon=True).start()
        return job

    def run(self, attempt: Callable[[float], T], what: str) -> T:
        """Do something now.

        Raises:
            DataError: it failed for good, or did not succeed in time.
        """
        return self.wait(self.submit(Job(attempt, what)))

    def wait(self, job: Job[T]) -> T:
        """The result of a job.

        Raises:
            DataError: it failed for good, or did not succeed in time.
        """
        while True:
            remaining = self._expires(job) - monotonic()
            try:
                return job.future.result(timeout=max(0.0, remaining))
            except CancelledError:
                raise DataError(f"{job.what}: given up, because another part of the shard failed. {RESUME}") from None
            except TimeoutError:
                if job.future.done() or self._expires(job) > monotonic():
                    continue
                self._give_up(job)
                raise DataError(
                    f"{job.what}: nothing arrived for {self.timeout_seconds:g} s: the store or the network stalls. "
                    f"Check them, or allow more with timeout_seconds. {RESUME}"
                ) from None

    def wait_for(self, future: Future[T], what: str) -> T:
        """The result of something that ends soon after the last of its jobs.

        Raises:
            DataError: it failed, or did not end in time.
        """
        try:
            return future.result(timeout=self.timeout_seconds + GRACE_SECONDS)
        except TimeoutError:
            raise DataError(f"{what}: not there after {self.timeout_seconds:g} s. {RESUME}") from None

    def close(self) -> None:
        """End the threads after what is queued."""
        with self._lock:
            for _ in range(self._threads):
                self._queue.put(None)

    def _expires(self, job: Job[Any]) -> float:
        began = job.started_at
        if began is None:  # it waits for others: as long as some of them end, the store is only slow
            began = max(job.queued_at, self._last_end)
        return began + self.timeout_seconds + GRACE_SECONDS

    def _give_up(self, job: Job[Any]) -> None:
        """A thread that does not come back is replaced by the next `submit`."""
        with self._lock:
            if job.started_at is not None and id(job) not in self._given_up:
                self._given_up.add(id(job))
                self._threads -= 1
                self._open_jobs -= 1

    def _work(self) -> None:
        while True:
            job = self._queue.get()
            if job is None:
                with self._lock:
                    self._threads -= 1
                return
            try:
                self._do(job)
            except BaseException as error:  # nobody may wait for a thread that ended
                job.future.set_exception(error)
            with self._lock:
                self._last_end = monotonic()
                if id(job) in self._given_up:
                    self._given_up.discard(id(job))
                    return
                self._open_jobs -= 1
            del job  # an idle thread keeps no shard alive

    def _do(self, job: Job[Any]) -> None:
        job.started_at = began = monotonic()
        deadline = began + self.timeout_seconds
        pause, attempts = FIRST_PAUSE_SECONDS, 0
        while job.still_wanted():
            attempts += 1
            limit = self.timeout_seconds * FIRST_ATTEMPT if attempts == 1 else deadline - monotonic()
            try:
                result = job.attempt(max(limit, 0.01))
            except BaseException as error:
                if not may_pass(error):
                    sentence = final_error(error, job.what)
                    sentence.__cause__ = error if error is not sentence else None
                    job.future.set_exception(sentence)
                    return
                if monotonic() + pause >= deadline:
                    job.future.set_exception(self._exhausted(job, error, attempts))
                    return
                threading.Event().wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                job.future.set_result(result)
                return
        job.future.cancel()

    def _exhausted(self, job: Job[Any], error: BaseException, attempts: int) -> DataError:
        return DataError(
            f"{job.what}: no success within {self.timeout_seconds:g} s, {attempts} attempts; the last one ended with "
            f"{reason(error)}. Check the store and the network, or allow more with timeout_seconds. {RESUME}"
        )
