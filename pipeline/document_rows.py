"""Where the rows of every length are when rows never cross a document: the census that plans and cuts document mode.

In:  the stream, the lengths of the buckets.   Out: `DocumentRows`: rows of every bucket in each piece of the stream.
Guarantee: reads lengths of documents, never tokens; memory is that of one partition per worker and a few numbers per
partition. What is counted here is exactly what `lay_documents` gives a worker that cuts.

    buckets 8, 16; a document of 30 tokens has 29 targets: one row of 16, one of 8, and 5 that go into a packed row of 8
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.decompose import lay_documents
from pipeline.engines.workers import Workers
from pipeline.order import IntArray
from pipeline.pieces import Pieces
from pipeline.progress import Progress
from pipeline.stored_documents import Documents
from pipeline.stream import StreamPiece, StreamSpec, piece_documents


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentRows:
    """Rows of every bucket, along the stream."""

    buckets: tuple[int, ...]
    """row lengths, ascending powers of two"""
    pieces: tuple[StreamPiece, ...]
    rows_before: IntArray
    """int64 [num_pieces + 1, num_buckets]: rows in all pieces before; the last line is the total"""

    @property
    def rows_by_length(self) -> dict[int, int]:
        """Rows of each length in the whole stream, which a plan is made of."""
        return dict(zip(self.buckets, self.rows_before[-1].tolist(), strict=True))

    def overlapping(self, wanted: Sequence[tuple[int, int]]) -> list[int]:
        """The pieces that hold rows `start <= row < stop` of any bucket, one pair per bucket, ascending.

        Buckets advance at different rates, so the pieces between two of them may hold nothing that is wanted.
        """
        found: set[int] = set()
        for bucket, (start, stop) in enumerate(wanted):
            if start < stop:
                before = self.rows_before[:, bucket]
                first = int(np.searchsorted(before, start, side="right")) - 1
                found.update(range(first, int(np.searchsorted(before, stop, side="left"))))
        return sorted(found)


def count_document_rows(
    spec: StreamSpec, pieces: Sequence[StreamPiece], buckets: tuple[int, ...], workers: Workers, progress: Progress
) -> DocumentRows:
    """Count the rows that every piece of the stream gives to each bucket."""
    counts = np.zeros((len(pieces), len(buckets)), np.int64)
    with progress.stage("count", total=sum(piece.num_tokens for piece in pieces), unit=" tokens") as advance:
        for number, rows in workers.run(count_rows, (spec, buckets), [(piece,) for piece in pieces]):
            counts[number] = rows
            advance(pieces[number].num_tokens)
    before = np.concatenate((np.zeros((1, len(buckets)), np.int64), np.cumsum(counts, axis=0)))
    return DocumentRows(buckets=buckets, pieces=tuple(pieces), rows_before=before)


def count_rows(spec: StreamSpec, buckets: tuple[int, ...], piece: StreamPiece) -> list[int]:
    """Rows of each bucket in one piece of the stream: the task of a worker."""
    laid = lay_piece(spec, piece, buckets)[1]
    return [int(laid.row[laid.phase == bucket].max(initial=-1)) + 1 for bucket in range(len(buckets))]


def lay_piece(spec: StreamSpec, piece: StreamPiece, buckets: tuple[int, ...]) -> tuple[Documents, Pieces, IntArray]:
    """The documents of one piece of the stream, the rows they give (phase = bucket), and where they begin in it."""
    documents = piece_documents(spec, piece)
    num_tokens = documents.index.num_tokens.astype(np.int64)
    starts = piece.offset + np.cumsum(num_tokens) - num_tokens
    laid = lay_documents(starts, num_tokens, buckets, seed=spec.seed, index=(piece.epoch, piece.partition))
    return documents, laid, starts
