"""Windows that are cut from one source alone, and where they lie in the common numbering of all streams.

In:  windows as a plan divides into, and for each phase the source that its rows are cut from alone (None if mixed).
Out: the same windows with the offset at which each begins among the streams of all sources.
Guarantee: arithmetic alone. The windows of a source follow one another without a gap, from the beginning of its stream
on, whatever other windows lie between them; nothing changes for a dataset of one source.

    windows of 40, 40 and 20 tokens, of source 0, 1 and 0; streams at 0 and 100      they begin at 0, 100 and 40
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from curriculum.plan import Plan
from pipeline.stream import StreamPiece
from pipeline.windows import Window


def place_windows(
    plan: Plan, windows: Sequence[Window], lone: Sequence[int | None], offsets: Sequence[int]
) -> Iterator[tuple[Window, int | None]]:
    """Each window at its place, and the source that it is cut from alone; a window of several is given back as it is.

    Args:
        plan: the plan.
        windows: all of them, in step order.
        lone: [num_phases] as `Manifest.lone_sources` has it.
        offsets: [num_sources] where the stream of each begins.
    """
    ends = list(offsets)
    for window in windows:
        source = lone[plan.locate(window.first_step)[0]]
        if source is None:
            yield window, None
            continue
        yield replace(window, offset=ends[source]), source
        ends[source] += window.num_tokens


def shift_pieces(pieces: Sequence[StreamPiece], offset: int, document: int) -> list[StreamPiece]:
    """Pieces of a stream that begins at `offset` with the document `document` of the common numbering."""
    return [
        replace(piece, offset=piece.offset + offset, first_document=piece.first_document + document) for piece in pieces
    ]
