"""Which parts of the token store are merged, so that no slice that a window reads gets too small: arithmetic alone.

In:  the parts with their sizes, the number of partitions.   Out: rounds of `MergeTask`, and the parts to read then.
Guarantee: every part goes in once per round and every key comes out once. A task writes about `OUTPUT_BYTES`, whatever
the size of the corpus, and reads a slice of each part of its group: as large as that allows, about `SLICE_BYTES`.

A window reads one slice of every part per partition. With N parts of a corpus of many partitions, that is a partition
(32 MB of 16-bit ids) divided by N. A task merges G parts over one of K ranges of the key space; then a partition lies
in one range, where there are N / G parts in place of N. Another round follows while that is still too many.

    1,000 parts of 64 MB, partitions of 32 MB: slices of 32 kB, 2 million of them.
    G = 250 (4 groups), K = 63 ranges: 252 tasks read 250 slices of 1 MB and write 254 MB; then slices of 8 MB
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import orjson

from pipeline.store import ALGORITHM
from pipeline.store_names import merged_name
from pipeline.stored_documents import EVERY_KEY, KeyRange, PartFiles

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
SLICE_BYTES = 1 << 20
"""Smaller reads cost more than the data: 10 ms of a disk that seeks, or 30 ms of an object store, move 1 MB or more."""
FEW_SLICES = 1 << 16
"""So many small slices in all are read as they are, in seconds; merging writes the corpus once more."""
OUTPUT_BYTES = 256 << 20
"""What a task holds and writes."""
INDEX_BYTES = 3 * 64
"""A document's row of the index, as it was read, sorted and written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredPart:
    """A part, and what decides its tokens."""

    name: str
    digest: str
    """of its tokens: the same name may stand for other ids after an encoder was found wrong"""
    num_bytes: int
    """of ids and index in memory"""


@dataclass(frozen=True, kw_only=True, slots=True)
class MergeTask:
    """Write the part `name` of the documents of `sources` whose keys are in `keys`."""

    name: str
    sources: tuple[str, ...]
    keys: KeyRange


@dataclass(frozen=True, kw_only=True, slots=True)
class MergeLayout:
    """Tasks of each round, and the parts that are read in the end."""

    rounds: tuple[tuple[MergeTask, ...], ...]
    merged: PartFiles


@dataclass(frozen=True, kw_only=True, slots=True)
class _Cell:
    """A range of keys and the parts that hold it; `sizes` are their bytes in the range, float64 [parts]."""

    keys: KeyRange
    names: tuple[str, ...]
    digests: tuple[str, ...]
    sizes: FloatArray


def part_bytes(num_tokens: int, documents: int, itemsize: int) -> int:
    """What the documents of a part take while they are merged."""
    return num_tokens * itemsize + documents * INDEX_BYTES


def lay_out_merge(parts: Sequence[StoredPart], num_partitions: int) -> MergeLayout | None:
    """The rounds that it takes, or None if the parts are read as they are; a source without a unit has none."""
    if not parts:
        return None
    total = sum(part.num_bytes for part in parts)
    cells = [
        _Cell(
            keys=EVERY_KEY,
            names=tuple(part.name for part in parts),
            digests=tuple(part.digest for part in parts),
            sizes=np.array([part.num_bytes for part in parts], np.float64),
        )
    ]
    rounds: list[tuple[MergeTask, ...]] = []
    while _too_small(most := max(len(cell.names) for cell in cells), total / num_partitions, num_partitions):
        divided = [_merge(cell) for cell in cells]
        smaller = [cell for _, of_cell in divided for cell in of_cell]
        if max(len(cell.names) for cell in smaller) == most:
            break  # one file is left, or each is as large as a task writes: slices are what they can be
        cells = smaller
        rounds.append(tuple(task for tasks, _ in divided for task in tasks))
    if not rounds:
        return None
    named = [(name, cell.keys) for cell in cells for name in cell.names]
    merged = PartFiles(names=tuple(name for name, _ in named), ranges=tuple(keys for _, keys in named))
    return MergeLayout(rounds=tuple(rounds), merged=merged)


def _too_small(num_parts: int, partition_bytes: float, num_partitions: int) -> bool:
    return partition_bytes / num_parts < SLICE_BYTES and num_parts * num_partitions > FEW_SLICES


def _merge(cell: _Cell) -> tuple[list[MergeTask], list[_Cell]]:
    """The tasks of one round in a cell, and the cells that it becomes."""
    groups = _groups(cell.sizes)
    low, high = cell.keys
    what = [[ALGORITHM, cell.names[first:stop], cell.digests[first:stop]] for first, stop in groups]
    of_groups = [_digest(group) for group in what]
    sources = [cell.names[first:stop] for first, stop in groups]
    group_sizes = np.array([cell.sizes[first:stop].sum() for first, stop in groups])
    num_ranges = max(1, int(np.ceil(float(group_sizes.max()) / OUTPUT_BYTES)))
    tasks: list[MergeTask] = []
    cells = []
    for number in range(num_ranges):
        keys = (low + (high - low) * number // num_ranges, low + (high - low) * (number + 1) // num_ranges)
        digests = tuple(_digest([of_group, str(keys)]) for of_group in of_groups)
        names = tuple(merged_name(digest) for digest in digests)
        tasks += [
            MergeTask(name=name, sources=of_task, keys=keys) for name, of_task in zip(names, sources, strict=True)
        ]
        cells.append(_Cell(keys=keys, names=names, digests=digests, sizes=group_sizes / num_ranges))
    return tasks, cells


def _groups(sizes: FloatArray) -> list[tuple[int, int]]:
    """Runs of parts of nearly equal size; borders at the first part that reaches a share of the total.

    A task holds `OUTPUT_BYTES` of its group: slices are of `SLICE_BYTES` with that many parts in it, or whole parts
    where these are smaller.
    """
    total = float(sizes.sum())
    fan_in = max(OUTPUT_BYTES // SLICE_BYTES, round(OUTPUT_BYTES * len(sizes) / max(total, 1.0)), 2)
    count = -(-len(sizes) // fan_in)
    reached = np.cumsum(sizes)
    borders = np.searchsorted(reached, [total * k / count for k in range(1, count)]) + 1
    edges = sorted({0, *borders.tolist(), len(sizes)})
    return list(pairwise(edges))


def _digest(what: list[Any]) -> str:
    return hashlib.sha256(orjson.dumps(what)).hexdigest()[:32]
