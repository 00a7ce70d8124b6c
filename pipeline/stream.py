"""The stream: the documents of the store in seeded order, each followed by its EOS.

In:  the parts of the store, the seed, the number of epochs, which documents are held out.
Out: any interval of the stream, `WindowText`.
Guarantee: the order depends on the documents' keys and the seed alone, not on how the corpus was divided into parts.
Memory is bounded by one interval and the documents of the partitions that it touches, whatever the size of the corpus;
one file is open at a time.

Two levels make a global shuffle out of small sorts: ranges of the key space are partitions of about 16 Mi tokens; the
seed permutes the partitions, and the documents inside each. Keys are hashes, so a partition is a random sample of the
corpus. Epochs follow one another, each with its own permutations.

    P = 2, epoch 0: partitions 1 0, documents of 1: c a, of 0: b      ->  stream  c a b | second epoch ...
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from curriculum.errors import BuildError
from pipeline.files.contract import Files
from pipeline.order import IntArray, permutation
from pipeline.segment import WindowText
from pipeline.sources import CORPUS
from pipeline.store import INDEX_SCHEMA, PartIndex, read_index, read_tokens

PARTITION_TOKENS = 16 << 20
"""Part of the algorithm: another value gives another order."""
MAX_READ_GAP_TOKENS = 128 << 10
"""Documents closer than this in a part are read together: reading 256 kB costs less than another call."""
MAX_READ_TOKENS = 8 << 20
"""A read ends with the document that crosses a multiple of this: memory does not grow with the size of a part."""


KeyRange = tuple[int, int]
"""Keys whose upper 64-bit word is `low <= word < high`."""
EVERY_KEY: KeyRange = (0, 1 << 64)


@dataclass(frozen=True, kw_only=True, slots=True)
class MergedParts:
    """Larger parts with the same documents: the files that are read in place of the corpus's own."""

    names: tuple[str, ...]
    ranges: tuple[KeyRange, ...]
    """the keys that each of them holds all of, for its share of the corpus"""


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamSpec:
    """What decides the stream, and which files to read it from; small, sent to every worker."""

    store: Files
    parts: tuple[str, ...]
    """the corpus"""
    dtype: str
    seed: int
    held_out_below: int
    """documents whose text hash is below this are validation, not training"""
    num_partitions: int
    merged: MergedParts | None = None
    """decides no byte"""

    source: str = CORPUS
    """name of the source; each of a mixture has an order of its own"""

    @property
    def files(self) -> tuple[str, ...]:
        """The parts that are read."""
        return self.parts if self.merged is None else self.merged.names

    def overlapping(self, low: int, high: int) -> list[int]:
        """Numbers of the files that may hold keys of a range."""
        if self.merged is None:
            return list(range(len(self.parts)))
        return [i for i, (first, stop) in enumerate(self.merged.ranges) if first < high and low < stop]

    def purpose(self, what: str) -> str:
        """Of a permutation of this stream: sources of equal text must not come in equal order."""
        return what if self.source == CORPUS else f"{what}:{self.source}"


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamPiece:
    """One partition in one epoch, and where it lies in the stream."""

    epoch: int
    partition: int
    offset: int
    num_tokens: int
    first_document: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Documents:
    """Some documents of the store, in an order that matters. Arrays are [num_documents]."""

    index: PartIndex
    part: IntArray
    """which of the spec's files holds the document"""

    def rows(self, chosen: Any) -> Documents:
        """The documents that an index array or mask chooses, in that order."""
        return Documents(index=self.index.rows(chosen), part=self.part[chosen])


def count_partitions(num_tokens: int) -> int:
    """Number of partitions of a corpus with that many training tokens."""
    return max(1, -(-num_tokens // PARTITION_TOKENS))


def partition_totals(spec: StreamSpec) -> tuple[IntArray, IntArray]:
    """(documents, tokens) of each partition, int64 [num_partitions]; reads one index at a time."""
    documents = np.zeros(spec.num_partitions, np.int64)
    tokens = np.zeros(spec.num_partitions, np.int64)
    edges = np.array([_first_key(spec, i) for i in range(spec.num_partitions)], np.uint64)
    for name in spec.files:
        index = read_index(spec.store, name)
        if not len(index.key_high):
            continue
        # A merged part holds few of the partitions: only those are counted, or many parts would cost their square.
        first, stop = np.searchsorted(edges, index.key_high[[0, -1]], side="right").tolist()
        inside = slice(first - 1, stop)
        borders = np.append(np.searchsorted(index.key_high, edges[inside]), len(index.key_high))
        trained = index.text_hash >= spec.held_out_below
        for counts, values in ((documents, trained), (tokens, index.num_tokens * trained)):
            sums = np.concatenate(([0], np.cumsum(values, dtype=np.int64)))
            counts[inside] += sums[borders[1:]] - sums[borders[:-1]]
    return documents, tokens


def lay_out_stream(spec: StreamSpec, stop: int) -> list[StreamPiece]:
    """The partitions of as many epochs as it takes to reach position `stop`, in stream order."""
    documents, tokens = partition_totals(spec)
    pieces: list[StreamPiece] = []
    epoch = offset = ordinal = 0
    while offset < stop:
        order = permutation(spec.num_partitions, seed=spec.seed, purpose=spec.purpose("partitions"), index=(epoch,))
        for partition in order.tolist():
            piece = StreamPiece(
                epoch=epoch,
                partition=partition,
                offset=offset,
                num_tokens=int(tokens[partition]),
                first_document=ordinal,
            )
            pieces.append(piece)
            offset += piece.num_tokens
            ordinal += int(documents[partition])
        epoch += 1
    return pieces


def read_interval(
    spec: StreamSpec,
    pieces: Sequence[StreamPiece],
    offset: int,
    num_tokens: int,
    out: np.ndarray[Any, Any] | None = None,
) -> WindowText:
    """Tokens `offset <= i <= offset + num_tokens` of the stream (one more than asked: the last target).

    Args:
        pieces: those that overlap the interval, in stream order.
        out: [num_tokens + 1], where to put them; None makes an array.
    """
    tokens = np.empty(num_tokens + 1, spec.dtype) if out is None else out
    stop = offset + num_tokens + 1
    chosen: list[Documents] = []
    positions: list[IntArray] = []
    first_document = -1
    for piece, documents in zip(pieces, documents_of_pieces(spec, pieces), strict=True):
        ends = np.cumsum(documents.index.num_tokens.astype(np.int64)) + piece.offset
        starts = ends - documents.index.num_tokens.astype(np.int64)
        inside = np.flatnonzero((ends > offset) & (starts < stop))
        if len(inside) == 0:
            continue
        if first_document < 0:
            first_document = piece.first_document + int(inside[0])
        positions.append(starts[inside])
        chosen.append(documents.rows(inside))
    doc_positions = np.concatenate([np.empty(0, np.int64), *positions])
    filled = fill(spec, join(chosen), doc_positions - offset, tokens) if chosen else 0
    if filled != len(tokens):
        raise BuildError(
            f"{spec.store.where}: the parts hold {filled:,} of the {len(tokens):,} tokens from {offset:,} of the "
            f"stream: the token store was changed while it was read. Run the same command again."
        )
    return WindowText(offset=offset, tokens=tokens, doc_positions=doc_positions, first_document=first_document)


def piece_documents(spec: StreamSpec, piece: StreamPiece) -> Documents:
    """The training documents of a partition in stream order."""
    return next(documents_of_pieces(spec, [piece]))


def documents_of_pieces(spec: StreamSpec, pieces: Sequence[StreamPiece]) -> Iterator[Documents]:
    """The training documents of each piece in stream order; every index is opened once for all of them."""
    ranges = [(_first_key(spec, piece.partition), _first_key(spec, piece.partition + 1)) for piece in pieces]
    found = collect(spec, ranges, lambda index: index.text_hash >= spec.held_out_below)
    for piece, documents in zip(pieces, found, strict=True):
        index = (piece.epoch, piece.partition)
        chosen = permutation(len(documents.part), seed=spec.seed, purpose=spec.purpose("documents"), index=index)
        yield sort_by_key(documents).rows(chosen)


def held_out_documents(spec: StreamSpec, low: int, high: int) -> Documents:
    """The validation documents with text hash `low <= hash < high`, by text hash, then key: an order that neither seed
    nor schedule changes."""
    high = min(high, spec.held_out_below)
    (documents,) = collect(spec, [EVERY_KEY], lambda index: (index.text_hash >= low) & (index.text_hash < high))
    index = documents.index
    return documents.rows(np.lexsort((index.key_low, index.key_high, index.text_hash)))


def fill(spec: StreamSpec, documents: Documents, starts: IntArray, out: np.ndarray[Any, Any]) -> int:
    """Copy documents into `out` so that document i begins at starts[i]; what lies outside `out` is left away.

    Returns the number of tokens copied.

    Reads one part after the other, in file order, neighbours together.
    """
    order = np.lexsort((documents.index.start, documents.part))
    part = documents.part[order]
    # The wanted range of each document, clipped to `out`.
    begin = documents.index.start[order].astype(np.int64)
    to = starts[order]
    skipped = np.maximum(-to, 0)
    count = np.minimum(documents.index.num_tokens[order].astype(np.int64), len(out) - to) - skipped
    begin, to = begin + skipped, to + skipped
    block = np.empty(0, spec.dtype)
    names = spec.files
    for first, stop in _read_together(part, begin, begin + count):
        # A window of two epochs may hold a document twice, clipped at its beginning and at its end: not in file order.
        base = int(begin[first:stop].min())
        num_read = int((begin[first:stop] + count[first:stop]).max()) - base
        if num_read > len(block):
            block = np.empty(num_read, spec.dtype)
        read_tokens(spec.store, names[part[first]], base, block[:num_read])
        ranges = zip(
            (begin[first:stop] - base).tolist(), to[first:stop].tolist(), count[first:stop].tolist(), strict=True
        )
        for source, target, length in ranges:
            out[target : target + length] = block[source : source + length]
    return int(count.sum())


def overlapping(pieces: Sequence[StreamPiece], offset: int, num_tokens: int) -> Sequence[StreamPiece]:
    """The pieces that share a token with the interval of `read_interval`."""
    first = bisect_right(pieces, offset, key=lambda piece: piece.offset + piece.num_tokens)
    stop = bisect_left(pieces, offset + num_tokens + 1, key=lambda piece: piece.offset)
    return pieces[first:stop]


def _read_together(part: IntArray, begin: IntArray, end: IntArray) -> Iterator[tuple[int, int]]:
    """Runs `first <= i < stop` of ranges of one part: gaps small enough to read across, and not too long in all."""
    other = part[1:] != part[:-1]
    distant = begin[1:] - end[:-1] > MAX_READ_GAP_TOKENS
    crossing = begin[1:] // MAX_READ_TOKENS != begin[:-1] // MAX_READ_TOKENS
    yield from pairwise([0, *(np.flatnonzero(other | distant | crossing) + 1).tolist(), len(begin)])


def collect(spec: StreamSpec, ranges: Sequence[KeyRange], choose: Callable[[PartIndex], Any]) -> list[Documents]:
    """Documents of ranges of keys, file by file, one index open at a time and each opened once.

    Args:
        spec: the stream.
        ranges: upper words of the keys.
        choose: mask, bool [documents], of those to take.
    """
    found: list[list[Documents]] = [[] for _ in ranges]
    wanted: dict[int, list[int]] = {}
    for number, keys in enumerate(ranges):
        for file in spec.overlapping(*keys):
            wanted.setdefault(file, []).append(number)
    names = spec.files
    for file, numbers in sorted(wanted.items()):
        index = read_index(spec.store, names[file])
        for number in numbers:
            of_range = index.rows(_key_slice(index, *ranges[number]))
            of_range = of_range.rows(np.flatnonzero(choose(of_range)))  # copies: the map is let go
            if len(of_range.key_high):
                part = np.full(len(of_range.key_high), file, np.int64)
                found[number].append(Documents(index=of_range, part=part))
    return [join(of_range) for of_range in found]


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


def _key_slice(index: PartIndex, low: int, high: int) -> slice:
    first = int(np.searchsorted(index.key_high, np.uint64(low))) if low else 0
    last = len(index.key_high) if high == 2**64 else int(np.searchsorted(index.key_high, np.uint64(high)))
    return slice(first, last)


def _first_key(spec: StreamSpec, partition: int) -> int:
    """Smallest upper key word of a partition; that of the partition after the last is 2**64."""
    return (partition << 64) // spec.num_partitions
