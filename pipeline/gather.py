"""Fill packed rows with tokens: pieces of documents, laid end to end, padding after them.

In:  where every piece goes (`Pieces`), and its tokens: in a window that was read, or in the token store.
Out: `Rows`, the columns of a packed shard.
Guarantee: pure copying. A row that one piece fills is one memcpy; the others are copied piece by piece, never token by
token.

    pieces of rows of 4 + 1 tokens: (row 0: 5 6 7) (row 0: 8 9) (row 1: 3 4 0), EOS 0
    tokens [[5 6 7 8 9] [3 4 0 0 0]]    num_tokens [5 3]    doc_starts [[3] []]
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.order import IntArray
from pipeline.pieces import Pieces
from pipeline.segment import Rows, TokenArray, WindowText, rows_at
from pipeline.stored_documents import Documents, fill
from pipeline.stream import StreamSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Rows of one length, to be filled."""

    pieces: Pieces
    """of rows 0 .. num_rows, sorted by row and position"""
    num_rows: int
    seq_len: int
    ordinals: IntArray
    """int64 [documents]: place in the stream of each document that `pieces.document` points at"""
    eos_id: int
    dtype: str

    def to(self) -> IntArray:
        """Where each piece goes, as a position in the flattened rows."""
        return self.pieces.row * (self.seq_len + 1) + self.pieces.position

    def blank(self) -> TokenArray:
        """The flattened rows, all padding."""
        return np.full(self.num_rows * (self.seq_len + 1), self.eos_id, self.dtype)


def rows_from_text(layout: Layout, text: WindowText) -> Rows:
    """Rows whose pieces lie in an interval of the stream that was read."""
    pieces, row_tokens = layout.pieces, layout.seq_len + 1
    begin = pieces.offset - text.offset
    whole = pieces.num_tokens == row_tokens
    tokens = layout.blank()
    if whole.any():
        tokens.reshape(-1, row_tokens)[pieces.row[whole]] = rows_at(text.tokens, begin[whole], row_tokens)
    rest = ~whole
    for source, target, count in zip(
        begin[rest].tolist(), layout.to()[rest].tolist(), pieces.num_tokens[rest].tolist(), strict=True
    ):
        tokens[target : target + count] = text.tokens[source : source + count]
    return _rows(layout, tokens)


def rows_from_store(layout: Layout, spec: StreamSpec, documents: Documents, starts: IntArray) -> Rows:
    """Rows whose pieces are read from the token store.

    Args:
        layout: the rows.
        spec: the stream.
        documents: what `layout.pieces.document` points at.
        starts: stream positions where those documents begin.
    """
    pieces = layout.pieces
    of_pieces = documents.places(pieces.document)
    inside = (pieces.offset - starts[pieces.document]).astype(np.uint64)
    places = replace(of_pieces, start=of_pieces.start + inside, num_tokens=pieces.num_tokens.astype(np.uint64))
    tokens = layout.blank()
    fill(spec.store, spec.files.names, places, layout.to(), tokens)
    return _rows(layout, tokens)


def _rows(layout: Layout, tokens: TokenArray) -> Rows:
    pieces = layout.pieces
    further = pieces.position > 0
    counts = np.bincount(pieces.row[further], minlength=layout.num_rows)
    first = ~further
    ordinals = layout.ordinals[pieces.document].astype(np.uint64)
    offsets: np.ndarray[Any, np.dtype[np.uint64]] = pieces.offset.astype(np.uint64)
    return Rows(
        tokens=tokens.reshape(layout.num_rows, layout.seq_len + 1),
        doc_positions=pieces.position[further].astype(np.uint32),
        doc_offsets=np.concatenate(([0], np.cumsum(counts))).astype(np.int32),
        offset=offsets[first],
        document=ordinals[first],
        num_tokens=np.bincount(pieces.row, pieces.num_tokens, layout.num_rows).astype(np.uint32),
        piece_offset=offsets[further],
        piece_document=ordinals[further],
    )
