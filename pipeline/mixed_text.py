"""The tokens of a window of several sources as one array, and where its rows lie in it.

In:  the part of a window in every source, and the streams of the sources.
Out: rows of any shard of the window, each of one source, interleaved.
Guarantee: pure functions but for the reading. Each source's rows are dealt as if it were alone, with permutations of
its own; then the rows of a shard are permuted, so that every batch is a random part of the mixture.

    rows per shard 2 and 1, dealt offsets of the sources [8 0] and [4]     laid [8 0 | 4], permuted 1 2 0: [0 | 4 | 8]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from curriculum.plan import Plan
from pipeline.mixed_windows import MixedWindow
from pipeline.order import IntArray, permutation
from pipeline.segment import Rows, WindowText, cut_rows, deal_rows
from pipeline.sources import CORPUS
from pipeline.stream import StreamPiece, StreamSpec, read_interval
from pipeline.windows import ShardSlot, Window


@dataclass(frozen=True, kw_only=True, slots=True)
class NumberedStream:
    """The stream of a source, and where it lies among those of all sources."""

    spec: StreamSpec
    offset: int
    first_document: int


@dataclass(frozen=True, kw_only=True, slots=True)
class MixedText:
    """The intervals of all sources end to end."""

    text: WindowText
    """positions from 0 on: one token more than its rows consume for every source that has rows"""
    begins: tuple[int, ...]
    """[num_sources] where the interval of each source begins in `text`"""
    shifts: IntArray
    """[num_sources] from a position in `text` to the numbering of all streams"""
    ordinals: IntArray
    """[num_documents] of the documents in `text`, among those of all streams"""


def read_mixed(
    streams: Sequence[NumberedStream], window: MixedWindow, pieces: Sequence[Sequence[StreamPiece]]
) -> MixedText:
    """Read what a window takes of every source.

    Args:
        streams: of the sources.
        window: the part of each.
        pieces: of each stream, those that overlap.
    """
    lengths = [tokens + 1 if tokens else 0 for tokens in window.num_tokens]
    edges = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))).tolist()
    tokens = np.empty(edges[-1], streams[0].spec.dtype)
    positions, ordinals = [], []
    for k, stream in enumerate(streams):
        if not window.num_tokens[k]:
            continue
        out = tokens[edges[k] : edges[k + 1]]
        text = read_interval(stream.spec, pieces[k], window.offsets[k], window.num_tokens[k], out)
        # The first document may have begun before the interval: here it begins with it.
        positions.append(np.maximum(text.doc_positions - window.offsets[k], 0) + edges[k])
        first = stream.first_document + text.first_document
        ordinals.append(np.arange(first, first + len(text.doc_positions), dtype=np.int64))
    places = zip(streams, window.offsets, edges[:-1], strict=True)
    return MixedText(
        text=WindowText(offset=0, tokens=tokens, doc_positions=np.concatenate(positions), first_document=0),
        begins=tuple(edges[:-1]),
        shifts=np.array([stream.offset + offset - begin for stream, offset, begin in places], np.int64),
        ordinals=np.concatenate(ordinals),
    )


def cut_mixed(mixed: MixedText, offsets: IntArray, seq_len: int) -> Rows:
    """Columns of the rows at these positions of the text, numbered as in all streams."""
    rows = cut_rows(mixed.text, offsets, seq_len)
    source = np.searchsorted(mixed.begins, offsets, side="right") - 1  # of equal begins, only the last has rows
    return replace(
        rows,
        offset=(offsets + mixed.shifts[source]).astype(np.uint64),
        document=mixed.ordinals[rows.document.astype(np.int64)].astype(np.uint64),
    )


def deal_mixed(
    plan: Plan,
    window: Window,
    slots: Sequence[ShardSlot],
    mixed: MixedWindow,
    *,
    begins: Sequence[int],
    names: Sequence[str],
    seed: int,
) -> Iterator[IntArray]:
    """Where the rows of each shard of a window lie, in training order.

    Args:
        plan: the plan.
        window: the window.
        slots: its shards.
        mixed: its part in every source.
        begins: where the interval of each source begins.
        names: of the sources.
        seed: of the build.
    """
    dealt = []
    for k, name in enumerate(names):
        rows = _rows_by_phase(slots, (of_shard[k] for of_shard in mixed.rows))
        consumed = {phase: plan.consumed_per_row(phase) for phase in rows}
        source = "" if name == CORPUS else name
        dealt.append(deal_rows(rows, consumed, offset=begins[k], seed=seed, window=window.index, source=source))
    used: dict[tuple[int, int], int] = {}
    for slot, counts in zip(slots, mixed.rows, strict=True):
        parts = []
        for k, count in enumerate(counts):
            first = used.get((slot.phase, k), 0)
            used[slot.phase, k] = first + count
            if count:
                parts.append(dealt[k][slot.phase][first : first + count])
        laid = np.concatenate(parts)
        index = (window.index, slot.phase, slot.first_row)
        yield laid[permutation(len(laid), seed=seed, purpose="mix", index=index)]


def _rows_by_phase(slots: Sequence[ShardSlot], counts: Iterable[int]) -> dict[int, int]:
    """Rows of one source in each phase, phases ascending, those without any left out."""
    rows: dict[int, int] = {}
    for slot, count in zip(slots, counts, strict=True):
        if count:
            rows[slot.phase] = rows.get(slot.phase, 0) + count
    return dict(sorted(rows.items()))
