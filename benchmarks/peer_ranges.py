"""A .jsonl file in ranges of whole lines, for tools that are given a function and a list of inputs.

In:  a path and a number of ranges.   Out: borders in bytes; the texts of one range.
Guarantee: the ranges tile the file, and each begins at the start of a line. Only the standard library: this runs in
every environment, and in the worker processes of the tools.

    "a\\n" "bb\\n" "c\\n", 2 ranges  ->  borders 0 5 7
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

Range = tuple[str, int, int]


def line_borders(path: str, count: int) -> list[int]:
    """`count + 1` ascending positions in bytes, the first 0 and the last the size of the file."""
    size = Path(path).stat().st_size
    borders = [0]
    with Path(path).open("rb") as file:
        for number in range(1, count):
            file.seek(max(borders[-1], size * number // count))
            file.readline()
            borders.append(file.tell())
    return [*borders, size]


def ranges(path: str, count: int) -> list[Range]:
    """The ranges between the borders."""
    borders = line_borders(path, count)
    return [(path, start, stop) for start, stop in pairwise(borders)]


def texts(of: Range) -> Iterator[str]:
    """The texts of the documents of one range, in order."""
    path, start, stop = of
    with Path(path).open("rb", buffering=1 << 20) as file:
        file.seek(start)
        while file.tell() < stop:
            yield json.loads(file.readline())["text"]


def batches(of: Range, size: int) -> Iterator[list[str]]:
    """The same, `size` documents at a time."""
    batch: list[str] = []
    for text in texts(of):
        batch.append(text)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
