"""The tokens of a window of several sources as one array, and rows cut of it.

In:  the part of a window in every source, and the streams of the sources.
Out: rows at any positions of that array, each of one source, numbered as in the streams of all of them.
Guarantee: pure functions but for the reading. The interval of a source ends with the target of its last token, which no
row of the next source begins with.

    sources with 8 and 4 tokens of a window      array of 9 + 5 tokens, the second source begins at 9
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.mixed_windows import MixedWindow
from pipeline.order import IntArray
from pipeline.segment import Rows, WindowText, cut_rows
from pipeline.stream import NumberedStream, StreamPiece, read_interval


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
