"""A clock that only sleeping moves: tests that wait for nothing, and that no busy machine makes late."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.files.lease import Pace


class StillClock:
    """`then` is called at each sleep."""

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        self._then = then

    def clock(self) -> float:
        """Seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Takes no time."""
        self.pauses.append(seconds)
        self.now += seconds
        self._then()

    def pace(self, renew: float = 5.0) -> Pace:
        """A lease whose counter moves every `renew` real seconds, and that waits by this clock."""
        return Pace(renew=renew, clock=self.clock, sleep=self.sleep)
