"""Files in runs that are moved together.

In:  the files and their sizes.   Out: the same in their order, a few at a time.
Guarantee: every run but the last is at least as large as was asked, or has `MAX_FILES` files.

    batches([3, 3, 3, 3], int, 5)     [[3, 3], [3, 3]]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
MAX_FILES = 1000


def batches(items: Iterable[T], size: Callable[[T], int], batch_bytes: int) -> Iterator[list[T]]:
    """Runs of at least `batch_bytes` bytes."""
    run: list[T] = []
    num_bytes = 0
    for item in items:
        run.append(item)
        num_bytes += size(item)
        if num_bytes >= batch_bytes or len(run) == MAX_FILES:
            yield run
            run, num_bytes = [], 0
    if run:
        yield run
