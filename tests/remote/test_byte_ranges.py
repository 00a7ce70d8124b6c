"""Which bytes are asked for: all that are needed, none twice."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from curriculum.remote.byte_ranges import Span, join, lacking, rows_span, split

spans = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)).map(lambda p: Span(p[0], p[0] + p[1])), max_size=8)


def members(of: list[Span]) -> set[int]:
    return {byte for span in of for byte in range(span.start, span.stop)}


def test_rows_become_bytes() -> None:
    assert rows_span(100, 10, 2, 4) == (120, 140)


def test_neighbours_share_a_request_if_the_gap_is_small() -> None:
    asked = [Span(12, 20), Span(0, 10), Span(90, 99)]
    assert join(asked, 5) == [(0, 20), (90, 99)]
    assert join(asked, 1) == [(0, 10), (12, 20), (90, 99)]
    assert join([Span(0, 10), Span(16, 20)], 6) == [(0, 20)]
    assert join([Span(0, 10), Span(2, 5)], 0) == [(0, 10)]


@given(asked=spans, gap_bytes=st.integers(0, 10))
def test_joined_spans_cover_what_was_asked_and_only_small_gaps(asked: list[Span], gap_bytes: int) -> None:
    joined = join(asked, gap_bytes)
    assert members(joined) >= members(asked)
    assert all(right.start - left.stop > gap_bytes for left, right in pairwise(joined))
    extra = members(joined) - members(asked)
    runs = join([Span(byte, byte + 1) for byte in extra], 0)
    assert all(span.stop - span.start <= gap_bytes for span in runs)


@given(span=spans.filter(len).map(lambda some: some[0]), size=st.integers(1, 9))
def test_pieces_lie_end_to_end(span: Span, size: int) -> None:
    pieces = list(split(span, size))
    assert [byte for piece in pieces for byte in range(*piece)] == list(range(*span))
    assert all(0 < piece.stop - piece.start <= size for piece in pieces)


@given(wanted=spans.filter(len).map(lambda some: some[0]), there=spans)
def test_what_is_lacking_is_what_is_wanted_and_not_there(wanted: Span, there: list[Span]) -> None:
    disjoint = join(there, 0)
    gaps = list(lacking(wanted, disjoint))
    assert members(gaps) == members([wanted]) - members(disjoint)
    assert sum(span.stop - span.start for span in gaps) == len(members(gaps))
