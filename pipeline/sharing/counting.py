"""How far a transfer is, told by several threads.

In:  amounts, as they come.   Out: amounts for one stage of `Progress`.
Guarantee: what is told at once is not lost; a part of a stage ends at what it stands for, also if some of it was done
again, or was told of in other units, as of compressed bytes.

    with share(advance, 42, 300) as sent: sent(21); sent(21)     advance(150), advance(150)
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.progress import Advance


def uncounted(amount: int) -> None:
    """Nobody watches."""


def from_threads(advance: Advance) -> Advance:
    """The same, for several threads: a sum that two change at once loses one of them."""
    lock = threading.Lock()

    def one_at_a_time(amount: int) -> None:
        with lock:
            advance(amount)

    return one_at_a_time


@contextmanager
def share(advance: Advance, expected: int, counts: int) -> Iterator[Advance]:
    """Of a stage the part that counts `counts`; the block is given what is told of `expected`, in all."""
    lock = threading.Lock()
    told = counted = 0

    def tell(amount: int) -> None:
        nonlocal told, counted
        with lock:
            told += amount
            step = min(counts, told * counts // max(1, expected)) - counted
            counted += step
            if step:
                advance(step)

    yield tell
    advance(counts - counted)
