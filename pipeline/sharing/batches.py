"""Files in runs that are moved together, and several of them at once.

In:  the files and their sizes.   Out: the same in their order, a few at a time; or what is done with each.
Guarantee: every run but the last is at least as large as was asked, or has `MAX_FILES` files. After one that fails, no
other is begun.

    batches([3, 3, 3, 3], int, 5)     [[3, 3], [3, 3]]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
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


def do_each(do: Callable[[T], object], items: Sequence[T], at_once: int) -> None:
    """Call `do` with each, several at once; all are done when it returns, or none goes on when it raises."""
    with ThreadPoolExecutor(at_once) as threads:
        jobs = [threads.submit(do, item) for item in items]
        try:
            wait(jobs, return_when=FIRST_EXCEPTION)
        finally:
            ended = [job for job in jobs if not job.cancel()]
        for job in ended:
            job.result()
