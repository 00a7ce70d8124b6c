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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curriculum.errors import BuildError
from pipeline.files.contract import Files
from pipeline.order import IntArray, permutation
from pipeline.part_index import read_index
from pipeline.segment import WindowText
from pipeline.sources import CORPUS
from pipeline.stored_documents import EVERY_KEY, Documents, PartFiles, Places, collect, fill, join_places, sort_by_key

PARTITION_TOKENS = 16 << 20
"""Part of the algorithm: another value gives another order."""


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
    merged: PartFiles | None = None
    """decides no byte"""

    source: str = CORPUS
    """name of the source; each of a mixture has an order of its own"""

    @property
    def files(self) -> PartFiles:
        """The parts that are read."""
        return self.merged or PartFiles.of_parts(self.parts)

    def purpose(self, what: str) -> str:
        """Of a permutation of this stream: sources of equal text must not come in equal order."""
        return what if self.source == CORPUS else f"{what}:{self.source}"


@dataclass(frozen=True, kw_only=True, slots=True)
class NumberedStream:
    """The stream of a source, and where it lies among those of all sources."""

    spec: StreamSpec
    offset: int
    first_document: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamPiece:
    """One partition in one epoch, and where it lies in the stream."""

    epoch: int
    partition: int
    offset: int
    num_tokens: int
    first_document: int


def count_partitions(num_tokens: int) -> int:
    """Number of partitions of a corpus with that many training tokens."""
    return max(1, -(-num_tokens // PARTITION_TOKENS))


def partition_totals(spec: StreamSpec) -> tuple[IntArray, IntArray]:
    """(documents, tokens) of each partition, int64 [num_partitions]; reads one index at a time."""
    documents = np.zeros(spec.num_partitions, np.int64)
    tokens = np.zeros(spec.num_partitions, np.int64)
    edges = np.array([_first_key(spec, i) for i in range(spec.num_partitions)], np.uint64)
    for name in spec.files.names:
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
    chosen: list[Places] = []
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
        chosen.append(documents.places(inside))
    doc_positions = np.concatenate([np.empty(0, np.int64), *positions])
    del positions
    places = join_places(chosen)
    del chosen
    filled = fill(spec.store, spec.files.names, places, doc_positions - offset, tokens) if len(doc_positions) else 0
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
    found = collect(spec.store, spec.files, ranges, lambda index: index.text_hash >= spec.held_out_below)
    for piece, documents in zip(pieces, found, strict=True):
        index = (piece.epoch, piece.partition)
        chosen = permutation(len(documents.part), seed=spec.seed, purpose=spec.purpose("documents"), index=index)
        yield sort_by_key(documents).rows(chosen)


def held_out_documents(spec: StreamSpec, low: int, high: int) -> Documents:
    """The validation documents with text hash `low <= hash < high`, by text hash, then key: an order that neither seed
    nor schedule changes."""
    high = min(high, spec.held_out_below)
    (documents,) = collect(
        spec.store, spec.files, [EVERY_KEY], lambda index: (index.text_hash >= low) & (index.text_hash < high)
    )
    index = documents.index
    return documents.rows(np.lexsort((index.key_low, index.key_high, index.text_hash)))


def overlapping(pieces: Sequence[StreamPiece], offset: int, num_tokens: int) -> Sequence[StreamPiece]:
    """The pieces that share a token with the interval of `read_interval`."""
    first = bisect_right(pieces, offset, key=lambda piece: piece.offset + piece.num_tokens)
    stop = bisect_left(pieces, offset + num_tokens + 1, key=lambda piece: piece.offset)
    return pieces[first:stop]


def _first_key(spec: StreamSpec, partition: int) -> int:
    """Smallest upper key word of a partition; that of the partition after the last is 2**64."""
    return (partition << 64) // spec.num_partitions
