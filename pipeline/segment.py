"""Cut a window of the stream into rows and deal them to the phases.

In:  how many rows of which phase the window holds, and the tokens of its interval of the stream.
Out: for each phase the stream positions of its rows in training order; for a range of rows the four columns of a shard.
Guarantee: pure functions over integers and arrays. The rows of a window tile its interval: sorted by offset, each row
begins where the one before it was consumed, so in segment mode every token is a target exactly once.

The list of row lengths is permuted before cutting. Cut in stream order, a batch of 512 rows of 8 tokens would come from
4,096 neighbouring tokens, a few documents; dealt from a permuted list its rows come from all over the window.

    rows: phase 0 (length 2) x 2, phase 1 (length 4) x 1; permuted list 2 4 2; window at 100
    offsets 100 102 106  ->  phase 0: [100, 106] (then permuted), phase 1: [102]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.order import IntArray, permutation

TokenArray = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowText:
    """Tokens of an interval of the stream and the documents in it."""

    offset: int
    """stream position of the first token"""
    tokens: TokenArray
    """uint16 or uint32 [num_tokens + 1]: the last one is only the target of the one before"""
    doc_positions: IntArray
    """int64 [num_documents], ascending stream positions where the documents of the interval begin; the first may lie
    before `offset`"""
    first_document: int
    """ordinal in the stream of the document at doc_positions[0]"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """The columns of consecutive rows: four, or seven where rows are packed."""

    tokens: TokenArray
    """[num_rows, seq_len + 1]"""
    doc_positions: np.ndarray[Any, np.dtype[np.uint32]]
    doc_offsets: np.ndarray[Any, np.dtype[np.int32]]
    """[num_rows + 1]: row i owns doc_positions[doc_offsets[i] : doc_offsets[i + 1]]"""
    offset: np.ndarray[Any, np.dtype[np.uint64]]
    document: np.ndarray[Any, np.dtype[np.uint64]]
    num_tokens: np.ndarray[Any, np.dtype[np.uint32]] | None = None
    """[num_rows]: stored tokens before the padding; this and the next two are all there, or none is"""
    piece_offset: np.ndarray[Any, np.dtype[np.uint64]] | None = None
    """[num_doc_starts], parallel to doc_positions: stream position of the piece that begins there"""
    piece_document: np.ndarray[Any, np.dtype[np.uint64]] | None = None
    """[num_doc_starts], parallel to doc_positions: ordinal of the document of that piece"""


def deal_rows(
    rows_by_phase: dict[int, int],
    consumed_per_row: dict[int, int],
    *,
    offset: int,
    seed: int,
    window: int,
    source: str = "",
) -> dict[int, IntArray]:
    """Stream position of every row of a window, per phase and in training order.

    Args:
        rows_by_phase: number of rows per phase index, ascending.
        consumed_per_row: tokens of the stream that a row of each phase consumes.
        offset: stream position where the window begins.
        seed, window, source: choose the permutations; the sources of a mixture have permutations of their own.

    Returns:
        int64 [number of rows] per phase index.
    """
    cut, deal = (f"{purpose}:{source}" if source else purpose for purpose in ("cut", "deal"))
    phases = np.array(list(rows_by_phase), dtype=np.uint16)
    counts = np.array(list(rows_by_phase.values()), dtype=np.int64)
    consumed = np.array([consumed_per_row[int(phase)] for phase in phases], dtype=np.int64)
    # uint16 makes the grouping sort below a radix sort; a plan has at most 65,536 phases (lengths to 524,288 by 8).
    slot = np.repeat(np.arange(len(phases), dtype=np.uint16), counts)
    slot = slot[permutation(len(slot), seed=seed, purpose=cut, index=(window,))]
    row_tokens = consumed[slot]
    offsets = np.cumsum(row_tokens) - row_tokens + offset
    grouped = offsets[np.argsort(slot, kind="stable")]
    dealt = {}
    edges = np.concatenate(([0], np.cumsum(counts)))
    for i, phase in enumerate(phases.tolist()):
        rows = grouped[edges[i] : edges[i + 1]]
        dealt[phase] = rows[permutation(len(rows), seed=seed, purpose=deal, index=(window, phase))]
    return dealt


def cut_rows(text: WindowText, offsets: IntArray, seq_len: int) -> Rows:
    """Columns of the rows that begin at `offsets` (stream positions, any order) and hold `seq_len + 1` tokens.

    Rows end inside the interval of `text`; a document that begins exactly at a row's first token is not listed in its
    doc_starts, since that token is no boundary inside the row.
    """
    tokens = rows_at(text.tokens, offsets - text.offset, seq_len + 1)
    first = np.searchsorted(text.doc_positions, offsets, side="right")
    stop = np.searchsorted(text.doc_positions, offsets + seq_len, side="right")
    counts = stop - first
    edges = np.concatenate(([0], np.cumsum(counts)))
    # Row i lists documents first[i] .. stop[i]: ranges laid end to end without a loop.
    which = np.arange(edges[-1]) + np.repeat(first - edges[:-1], counts)
    positions = text.doc_positions[which] - np.repeat(offsets, counts)
    return Rows(
        tokens=tokens,
        doc_positions=positions.astype(np.uint32),
        doc_offsets=edges.astype(np.int32),
        offset=offsets.astype(np.uint64),
        document=(first - 1 + text.first_document).astype(np.uint64),
    )


def rows_at(tokens: TokenArray, begin: IntArray, row_tokens: int) -> TokenArray:
    """[len(begin), row_tokens]: a copy of `tokens[b : b + row_tokens]` for each b of `begin`.

    A view of all rows that could be cut, then one gather: one memcpy per row, no index per token. A row is one opaque
    item: as an array of ids, gathering rows of 9 takes 2.2 times as long, rows of 1,025 1.1 times.
    """
    row = np.dtype((np.void, row_tokens * tokens.itemsize))
    candidates = np.ndarray(len(tokens) - row_tokens + 1, row, tokens, strides=(tokens.itemsize,))
    return candidates[begin].view(tokens.dtype).reshape(-1, row_tokens)
