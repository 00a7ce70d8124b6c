"""Which bytes to ask for: arithmetic on half-open spans.

In:  rows of a shard, or spans that are wanted and spans that are there.   Out: spans to request.
Guarantee: pure integers; what comes out covers what was asked for, is sorted and does not overlap.

    rows 2 to 4 of rows of 10 bytes that begin at byte 100    ->   120 to 140
    join [0, 10) [12, 20) [90, 99) with gaps up to 5          ->   [0, 20) [90, 99)
    what [0, 30) lacks where [5, 10) and [20, 40) are there   ->   [0, 5) [10, 20)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

RANGE_BYTES = 8 << 20
"""One request asks for at most this: long enough that latency (20 to 100 ms) is small beside the transfer, short enough
that a lost connection costs little. Object stores advise 8 to 16 MiB."""
JOIN_GAP_BYTES = 64 << 10
"""Bytes between two spans that are fetched and thrown away rather than asked for separately: at 50 MB/s for each
connection they take 1.3 ms, a request of its own takes 20 ms or more."""


class Span(NamedTuple):
    """Bytes start to stop of a file, stop not included."""

    start: int
    stop: int


def rows_span(data_offset: int, row_bytes: int, start: int, stop: int) -> Span:
    """The bytes of rows start to stop of a shard whose tokens begin at `data_offset`."""
    return Span(data_offset + start * row_bytes, data_offset + stop * row_bytes)


def join(spans: Iterable[Span], gap_bytes: int = JOIN_GAP_BYTES) -> list[Span]:
    """Spans sorted, and those at most `gap_bytes` apart made one."""
    joined: list[Span] = []
    for span in sorted(spans):
        if joined and span.start - joined[-1].stop <= gap_bytes:
            joined[-1] = Span(joined[-1].start, max(joined[-1].stop, span.stop))
        else:
            joined.append(span)
    return joined


def split(span: Span, range_bytes: int = RANGE_BYTES) -> Iterator[Span]:
    """The span in pieces of at most `range_bytes`."""
    for start in range(span.start, span.stop, range_bytes):
        yield Span(start, min(start + range_bytes, span.stop))


def lacking(span: Span, there: Iterable[Span]) -> Iterator[Span]:
    """The parts of a span that sorted, disjoint spans leave open."""
    start = span.start
    for other in there:
        if start < min(other.start, span.stop):
            yield Span(start, min(other.start, span.stop))
        start = max(start, other.stop)
    if start < span.stop:
        yield Span(start, span.stop)
