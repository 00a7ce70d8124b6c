"""The packed rows of one window: documents kept whole where they fit, or rows that never cross one.

In:  what all windows share (`CutJob`), one window and its pieces of the stream.
Out: `PackedWindow`: the rows of any of its shards, and where its tokens went.
Guarantee: a pure function, like all cutting. In best-fit mode a window owns an interval of the stream, as in segment
mode; in document mode it owns a run of the rows that the documents give to each length, wherever those lie.

    document mode, rows of 8 in the stream 0 .. 999, window 3 has steps with 96 of them    rows 288 .. 383
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from curriculum.plan import Plan
from pipeline.document_rows import lay_piece
from pipeline.gather import Layout, rows_from_store, rows_from_text
from pipeline.order import IntArray, permutation
from pipeline.pieces import Pieces, concatenate, count_packing
from pipeline.segment import Rows
from pipeline.stored_documents import Documents, join
from pipeline.stream import StreamPiece, StreamSpec, read_interval
from pipeline.window_counts import WindowCounts, count_window
from pipeline.window_packing import pack_window
from pipeline.windows import ShardSlot, Window, rows_by_phase


@dataclass(frozen=True, kw_only=True, slots=True)
class BucketRows:
    """Document mode: which rows of each bucket a window owns, and how many lie before each piece that it reads."""

    buckets: tuple[int, ...]
    first_rows: tuple[int, ...]
    rows_before: tuple[tuple[int, ...], ...]
    """one line per piece of the stream"""


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedWindow:
    """The rows of a window, laid out; tokens are copied shard by shard."""

    pieces: Pieces
    """rows of each phase are numbered in training order"""
    counts: WindowCounts
    fill: Callable[[Pieces, int, int], Rows]
    """(pieces of rows 0 .. n of one phase, n, sequence length) -> their columns"""
    plan: Plan

    def rows(self, slot: ShardSlot) -> Rows:
        """The rows of one shard."""
        of_shard = self.pieces.rows(slot.phase, slot.first_row, slot.stop_row)
        return self.fill(of_shard, slot.stop_row - slot.first_row, self.plan.phases[slot.phase].seq_len)


def pack_interval(
    plan: Plan, spec: StreamSpec, window: Window, pieces: tuple[StreamPiece, ...], eos_id: int
) -> PackedWindow:
    """Best-fit mode: the documents of the window's interval, whole where they fit."""
    text = read_interval(spec, pieces, window.offset, window.num_tokens)
    starts = np.maximum(text.doc_positions, window.offset)
    stops = np.concatenate((starts[1:], [window.offset + window.num_tokens + 1]))
    rows = rows_by_phase(plan, window)
    packed = pack_window(
        starts,
        stops - starts,
        offset=window.offset,
        rows_by_phase=rows,
        seq_lens={phase: plan.phases[phase].seq_len for phase in rows},
        seed=spec.seed,
        window=window.index,
    )
    ordinals = text.first_document + np.arange(len(starts))

    def fill(of_shard: Pieces, num_rows: int, seq_len: int) -> Rows:
        layout = Layout(
            pieces=of_shard, num_rows=num_rows, seq_len=seq_len, ordinals=ordinals, eos_id=eos_id, dtype=spec.dtype
        )
        return rows_from_text(layout, text)

    counts = count_window(packed.counts, packed.pieces, text.doc_positions)
    return PackedWindow(pieces=packed.pieces, counts=counts, fill=fill, plan=plan)


def lay_window(
    plan: Plan, spec: StreamSpec, window: Window, pieces: tuple[StreamPiece, ...], owned: BucketRows, eos_id: int
) -> PackedWindow:
    """Document mode: the rows that the window owns of each bucket, dealt to its steps."""
    wanted = rows_by_phase(plan, window)
    chosen = [
        _owned_rows(plan, spec, piece, owned, before, wanted)
        for piece, before in zip(pieces, owned.rows_before, strict=True)
    ]
    firsts = np.cumsum([0, *(len(of_piece.starts) for of_piece in chosen)]).tolist()
    in_stream_order = concatenate(
        [of_piece.rows.shift_documents(first) for of_piece, first in zip(chosen, firsts, strict=False)]
    )
    dealt = concatenate(
        [
            in_stream_order.take(phase, permutation(count, seed=spec.seed, purpose="deal", index=(window.index, phase)))
            for phase, count in wanted.items()
        ]
    )
    documents = join([of_piece.documents for of_piece in chosen])
    starts, ordinals = (
        np.concatenate([getattr(of_piece, name) for of_piece in chosen]) for name in ("starts", "ordinals")
    )

    def fill(of_shard: Pieces, num_rows: int, seq_len: int) -> Rows:
        layout = Layout(
            pieces=of_shard, num_rows=num_rows, seq_len=seq_len, ordinals=ordinals, eos_id=eos_id, dtype=spec.dtype
        )
        return rows_from_store(layout, spec, documents, starts)

    packing = count_packing(
        dealt,
        documents.index.num_tokens.astype(np.int64),
        rows_by_phase=wanted,
        seq_lens={phase: plan.phases[phase].seq_len for phase in wanted},
    )
    # What the window does not hold of its documents is in other windows, or unused: not dropped.
    counts = count_window(replace(packing, dropped_targets=0), dealt, starts)
    return PackedWindow(pieces=dealt, counts=counts, fill=fill, plan=plan)


@dataclass(frozen=True, kw_only=True, slots=True)
class _OwnedRows:
    """Rows of one piece of the stream that a window owns, and the documents in them; arrays are [num_documents]."""

    rows: Pieces
    documents: Documents
    starts: IntArray
    """stream positions where they begin"""
    ordinals: IntArray


def _owned_rows(
    plan: Plan,
    spec: StreamSpec,
    piece: StreamPiece,
    owned: BucketRows,
    before: tuple[int, ...],
    wanted: Mapping[int, int],
) -> _OwnedRows:
    """Of a partition only the documents that the window needs are kept: it may read many for a few rows of each."""
    phase_of = {plan.phases[phase].seq_len: phase for phase in wanted}
    documents, laid, starts = lay_piece(spec, piece, owned.buckets)
    parts = []
    for bucket, seq_len in enumerate(owned.buckets):
        if seq_len in phase_of:
            phase = phase_of[seq_len]
            first = owned.first_rows[bucket] - before[bucket]
            stop = min(first + wanted[phase], laid.num_rows(bucket))
            rows = laid.rows(bucket, max(0, first), max(0, stop))
            parts.append(replace(rows, phase=np.full(len(rows), phase, np.int64)))
    rows = concatenate(parts)
    used = np.unique(rows.document)
    return _OwnedRows(
        rows=replace(rows, document=np.searchsorted(used, rows.document)),
        documents=documents.rows(used),
        starts=starts[used],
        ordinals=piece.first_document + used,
    )
