"""How much of a download arrived, told to progress.

In:  bytes, as the library tells of them, attempt by attempt.   Out: calls of `advance`.
Guarantee: `advance` is told each byte once, however often attempts repeat, and all of them in the end, also where the
library tells of nothing.

    arrivals = Arrivals(advance, 100); arrivals(60); arrivals.begin(50); arrivals(50)       advance(60), advance(40)
"""

from __future__ import annotations

import threading

from pipeline.progress import Advance


class Arrivals:
    """Of one call of `fetch`; may be told by several threads."""

    def __init__(self, advance: Advance, total: int) -> None:
        self._advance, self._total = advance, total
        self._arrived = self._told = 0
        self._lock = threading.Lock()

    def __call__(self, amount: int) -> None:
        """So many more bytes arrived."""
        with self._lock:
            self._arrived += amount
            more = min(self._arrived, self._total) - self._told
            if more > 0:
                self._told += more
                self._advance(more)

    def begin(self, arrived: int) -> None:
        """An attempt begins, and finds so many bytes of before."""
        with self._lock:
            self._arrived = 0
        self(arrived)

    def end(self) -> None:
        """Everything is there."""
        self(self._total)
