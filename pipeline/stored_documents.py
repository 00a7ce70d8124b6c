"""Documents of the token store, in whatever order they are wanted.

In:  the parts that hold a corpus, ranges of keys.   Out: `Documents`, the index rows of those in the ranges; their
tokens, copied to where they are wanted.
Guarantee: one file is open at a time, and each is opened once for all ranges, in the order of the parts. Memory is that
of the documents that were chosen, and of one read, whatever the size of a part: 64 bytes of a document while it is
sorted (`Documents`), 24 once its place is all that matters (`Places`).

    parts of documents with keys 3 8 and 5 9      range 4 .. 9: documents 8 | 5, sorted by key: 5 8
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from pipeline.files.contract import Files
from pipeline.order import IntArray
from pipeline.part_index import INDEX_SCHEMA, PartIndex, UInt64Array, read_index, read_tokens

MAX_READ_GAP_TOKENS = 128 << 10
"""Documents closer than this in a part are read together: reading 256 kB costs less than another call."""
MAX_READ_TOKENS = 8 << 20
"""A read ends with the document that crosses a multiple of this: memory does not grow with the size of a part."""

KeyRange = tuple[int, int]
"""Keys whose upper 64-bit word is `low <= word < high`."""
EVERY_KEY: KeyRange = (0, 1 << 64)


@dataclass(frozen=True, kw_only=True, slots=True)
class PartFiles:
    """The parts of the store that a corpus is read from: its own, or larger ones that they were merged into."""

    names: tuple[str, ...]
    ranges: tuple[KeyRange, ...]
    """the keys that each of them holds all of, for its share of the corpus"""

    @classmethod
    def of_parts(cls, names: tuple[str, ...]) -> PartFiles:
        """Parts as they were encoded: documents of any key in each."""
        return cls(names=names, ranges=(EVERY_KEY,) * len(names))

    def overlapping(self, low: int, high: int) -> list[int]:
        """Numbers of the parts that may hold keys of a range."""
        return [i for i, (first, stop) in enumerate(self.ranges) if first < high and low < stop]


@dataclass(frozen=True, kw_only=True, slots=True)
class Documents:
    """Some documents of the store, in an order that matters. Arrays are [num_documents]."""

    index: PartIndex
    part: IntArray
    """which of the files that were read holds the document"""

    def rows(self, chosen: Any) -> Documents:
        """The documents that an index array or mask chooses, in that order."""
        return Documents(index=self.index.rows(chosen), part=self.part[chosen])

    def places(self, chosen: Any = slice(None)) -> Places:
        """Where the tokens lie of those that an index array or mask chooses, in that order."""
        return Places(part=self.part[chosen], start=self.index.start[chosen], num_tokens=self.index.num_tokens[chosen])


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """Where the tokens of some documents lie, or of pieces of them. Arrays are [num_documents]."""

    part: IntArray
    """which of the files that were read"""
    start: UInt64Array
    """position in it of the first token"""
    num_tokens: UInt64Array


def collect(
    store: Files, files: PartFiles, ranges: Sequence[KeyRange], choose: Callable[[PartIndex], Any]
) -> Iterator[Documents]:
    """Documents of ranges of keys, file by file, one index open at a time and each opened once. What was collected of a
    range is let go when the next one is asked for.

    Args:
        store: the token store.
        files: the parts to read.
        ranges: upper words of the keys.
        choose: mask, bool [documents], of those to take.
    """
    found: list[list[Documents]] = [[] for _ in ranges]
    wanted: dict[int, list[int]] = {}
    for number, keys in enumerate(ranges):
        for file in files.overlapping(*keys):
            wanted.setdefault(file, []).append(number)
    for file, numbers in sorted(wanted.items()):
        index = read_index(store, files.names[file])
        for number in numbers:
            of_range = index.rows(_key_slice(index, *ranges[number]))
            of_range = of_range.rows(np.flatnonzero(choose(of_range)))  # copies: the map is let go
            if len(of_range.key_high):
                part = np.full(len(of_range.key_high), file, np.int64)
                found[number].append(Documents(index=of_range, part=part))
    while found:
        yield join(found.pop(0))


def sort_by_key(documents: Documents) -> Documents:
    """Documents in the order of their keys."""
    return documents.rows(np.lexsort((documents.index.key_low, documents.index.key_high)))


def join(parts: Sequence[Documents]) -> Documents:
    """The documents of all parts, one after the other."""
    empty = np.empty(0, np.uint64)
    columns = {
        name: np.concatenate([empty, *(getattr(part.index, name) for part in parts)]) for name in INDEX_SCHEMA.names
    }
    return Documents(
        index=PartIndex(**columns), part=np.concatenate([np.empty(0, np.int64), *(part.part for part in parts)])
    )


def join_places(parts: Sequence[Places]) -> Places:
    """The places of all parts, one after the other."""
    empty = np.empty(0, np.uint64)
    return Places(
        part=np.concatenate([np.empty(0, np.int64), *(part.part for part in parts)]),
        start=np.concatenate([empty, *(part.start for part in parts)]),
        num_tokens=np.concatenate([empty, *(part.num_tokens for part in parts)]),
    )


def fill(store: Files, names: Sequence[str], places: Places, starts: IntArray, out: np.ndarray[Any, Any]) -> int:
    """Copy documents into `out` so that document i begins at starts[i]; what lies outside `out` is left away.

    Returns the number of tokens copied.

    Reads one part after the other, in file order, neighbours together.

    Args:
        store: the token store.
        names: the parts that `places.part` points at.
        places: of the documents that are wanted.
        starts: int64 [documents], positions in `out`.
        out: of the store's dtype.
    """
    order = np.lexsort((places.start, places.part))
    part = places.part[order]
    # The wanted range of each document, clipped to `out`.
    begin = places.start[order].astype(np.int64)
    to = starts[order]
    skipped = np.maximum(-to, 0)
    count = np.minimum(places.num_tokens[order].astype(np.int64), len(out) - to) - skipped
    begin, to = begin + skipped, to + skipped
    block = np.empty(0, out.dtype)
    for first, stop in _read_together(part, begin, begin + count):
        # A window of two epochs may hold a document twice, clipped at its beginning and at its end: not in file order.
        base = int(begin[first:stop].min())
        num_read = int((begin[first:stop] + count[first:stop]).max()) - base
        if num_read > len(block):
            block = np.empty(num_read, out.dtype)
        read_tokens(store, names[part[first]], base, block[:num_read])
        ranges = zip(
            (begin[first:stop] - base).tolist(), to[first:stop].tolist(), count[first:stop].tolist(), strict=True
        )
        for source, target, length in ranges:
            out[target : target + length] = block[source : source + length]
    return int(count.sum())


def _read_together(part: IntArray, begin: IntArray, end: IntArray) -> Iterator[tuple[int, int]]:
    """Runs `first <= i < stop` of ranges of one part: gaps small enough to read across, and not too long in all."""
    other = part[1:] != part[:-1]
    distant = begin[1:] - end[:-1] > MAX_READ_GAP_TOKENS
    crossing = begin[1:] // MAX_READ_TOKENS != begin[:-1] // MAX_READ_TOKENS
    yield from pairwise([0, *(np.flatnonzero(other | distant | crossing) + 1).tolist(), len(begin)])


def _key_slice(index: PartIndex, low: int, high: int) -> slice:
    first = int(np.searchsorted(index.key_high, np.uint64(low))) if low else 0
    last = len(index.key_high) if high == 2**64 else int(np.searchsorted(index.key_high, np.uint64(high)))
    return slice(first, last)
