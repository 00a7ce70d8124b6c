"""The figures in numbers: curves, groups, labels, flows. A wrong one would show another dataset than there is."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curriculum.accounting import Accounting
from curriculum.manifest import SourceEntry
from curriculum.schedule import Pacing
from pipeline.page.curve import Band, Stairs, curve_of
from pipeline.page.draw_build import duration
from pipeline.page.draw_flow import percent_of
from pipeline.page.flow import THINNEST, Flow, lay_out_flow
from pipeline.page.groups import group_starts, group_sums, shown_ticks
from pipeline.page.ideal import ideal_lengths
from pipeline.page.inline_svg import short
from pipeline.page.label_places import spread
from pipeline.page.length_estimate import estimated_bins, survival

COUNTS = st.integers(0, 10**12)


@pytest.mark.parametrize("name", ["linear", "root", "exponential", "sine", "cosine", "logarithmic"])
def test_the_ideal_is_within_one_multiple_above_the_plan(name: str) -> None:
    """The dashed curve is that of the formula that was planned, not of one that looks like it: every warmup to 60."""
    pacing = Pacing(name=name, start_length=8, max_length=64, degree=3 if name == "root" else 1)
    for warmup in range(1, 61):
        planned = np.array([length for length, steps in pacing.runs(80, warmup) for _ in range(steps)])
        ideal = ideal_lengths(pacing.describe(warmup), np.arange(1.0, 81.0))
        assert ideal is not None
        above = ideal - planned
        assert above.min() > -1e-6
        assert above.max() < 8


def test_ideal_curves_by_hand() -> None:
    """8 + 1016 / 2, the root of a quarter, the geometric mean; listed phases have none."""
    ends: dict[str, int | str] = {"start_length": 8, "max_length": 1024, "length_warmup_steps": 1000}
    at = np.array([250.0, 500.0])
    assert (ideal_lengths({"name": "linear", **ends}, at) == [262, 516]).all()  # type: ignore[union-attr]
    assert ideal_lengths({"name": "root", "degree": 2, **ends}, at)[0] == 516  # type: ignore[index]
    assert ideal_lengths({"name": "exponential", **ends}, at)[1] == pytest.approx((8 * 1024) ** 0.5)  # type: ignore[index]
    for name in ("phases", "grow-p2", "step", "doubling", "somebody.else:function"):
        assert ideal_lengths({"name": name, **ends}, at) is None


def test_curves_by_hand() -> None:
    """Few runs are drawn as they are; many as lowest, highest and mean of equal parts."""
    stairs = curve_of([(8, 3), (16, 1)])
    assert isinstance(stairs, Stairs)
    assert (stairs.edges.tolist(), stairs.values.tolist()) == ([0, 3, 4], [8, 16])
    band = curve_of([(8, 1), (16, 1), (8, 1), (24, 1)], most=2, parts=2)
    assert isinstance(band, Band)
    assert (band.low.tolist(), band.high.tolist(), band.mean.tolist()) == ([8, 8], [16, 24], [12, 16])
    assert isinstance(curve_of([(8 + k % 2, 1) for k in range(300)]), Band)
    assert isinstance(curve_of([(8 + k, 1) for k in range(300)]), Stairs)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=4, max_size=40), st.integers(1, 12))
def test_a_band_holds_all_steps(runs: list[tuple[int, int]], parts: int) -> None:
    """Nothing of a cyclic plan is lost: means weighed by steps add up, and lie between lowest and highest."""
    band = curve_of(runs, most=1, parts=parts)
    assert isinstance(band, Band)
    assert float((band.mean * np.diff(band.edges)).sum()) == pytest.approx(sum(value * steps for value, steps in runs))
    assert (band.low - 1e-9 <= band.mean).all()
    assert (band.mean <= band.high + 1e-9).all()


@given(st.lists(COUNTS, min_size=1, max_size=300), st.integers(1, 50))
def test_grouped_bars_add_up(values: list[int], most: int) -> None:
    """Phases that share a bar keep their sum; none is in two bars or in none."""
    starts = group_starts(len(values), most)
    assert sum(group_sums(values, starts)) == sum(values)
    sizes = {after - before for before, after in pairwise(starts)}
    assert len(starts) <= most + 1
    assert max(sizes) - min(sizes) <= 1


def test_ticks_have_the_ends() -> None:
    """The shortest and the longest rows are always labelled."""
    assert shown_ticks(128, 5) == [0, 32, 64, 95, 127]
    assert shown_ticks(3, 5) == [0, 1, 2]


@given(st.lists(st.floats(0, 300), max_size=9), st.floats(1, 30))
def test_labels_never_cover_each_other(wanted: list[float], gap: float) -> None:
    """Order kept, far enough apart, in the room if they fit, and where they want to be if nobody is near."""
    places = spread(sorted(wanted), gap, 0, 300)
    assert all(after - before >= gap - 1e-6 for before, after in pairwise(places))
    if len(wanted) * gap < 300:
        assert all(-1e-6 <= place <= 300 + 1e-6 for place in places)
    if all(after - before > gap for before, after in pairwise(sorted(wanted))):
        assert places == pytest.approx(sorted(wanted))


def test_labels_by_hand() -> None:
    """Two that are crowded move apart evenly; the third stays."""
    assert spread([10, 12, 50], 6, 0, 100) == [8, 14, 50]
    assert spread([99, 99], 6, 0, 100) == [94, 100]


@st.composite
def accountings(draw: st.DrawFn) -> Accounting:
    """Any that adds up."""
    trained, truncated, validation, unused = (draw(COUNTS) for _ in range(4))
    repeated = draw(st.integers(0, trained))
    return accounting(trained + 1, truncated, validation, unused, repeated=repeated, padding=draw(st.none() | COUNTS))


def accounting(
    trained: int,
    truncated: int = 0,
    validation: int = 0,
    unused: int = 0,
    *,
    repeated: int = 0,
    padding: int | None = None,
) -> Accounting:
    """Numbers of a manifest."""
    return Accounting(
        corpus_tokens=trained + truncated + validation + unused - repeated,
        trained_tokens=trained,
        truncated_tokens=truncated,
        validation_tokens=validation,
        unused_tokens=unused,
        repeated_tokens=repeated,
        context_tokens=0,
        padding_tokens=padding,
        documents=1,
        empty_documents=0,
        skipped_records=0,
    )


def sources(*tokens: int) -> list[SourceEntry]:
    """Entries of a manifest."""
    return [
        SourceEntry(name=f"s{k}", documents=1, tokens=count, offset=0, weight=1.0, fingerprint="")
        for k, count in enumerate(tokens)
    ]


@given(accountings())
def test_flows_keep_every_token(a: Accounting) -> None:
    """What goes into the picture comes out of it, and widths are to scale but for those that would not be seen."""
    flow = lay_out_flow(a, sources(a.corpus_tokens), height=300, gap=10)
    tokens = {node.key: node.tokens for node in flow.nodes}
    ends = sum(tokens.get(key, 0) for key in ("trained", "truncated", "validation", "unused"))
    assert ends == a.corpus_tokens + a.repeated_tokens
    assert tokens.get("padding", 0) == (a.padding_tokens or 0)
    assert all(node.tokens for node in flow.nodes)
    require_to_scale(flow)


def require_to_scale(flow: Flow) -> None:
    """One pixel is the same number of tokens everywhere."""
    scales = [node.height / node.tokens for node in flow.nodes if not node.is_thin]
    assert max(scales) == pytest.approx(min(scales))
    for node in flow.nodes:
        assert not node.is_thin or (node.height == THINNEST and node.tokens * min(scales) <= THINNEST * (1 + 1e-9))


def test_flows_by_hand() -> None:
    """640 of 1,000 are trained: 64 % of the height; two sources and text read again meet in the middle."""
    flow = lay_out_flow(accounting(640, 0, 100, 260), sources(1000), height=320, gap=10)
    assert [(node.key, node.column, node.height) for node in flow.nodes] == [
        ("corpus", 0, 300),
        ("trained", 1, pytest.approx(192)),
        ("validation", 1, pytest.approx(30)),
        ("unused", 1, pytest.approx(78)),
    ]
    assert [(link.source, link.target, link.tokens) for link in flow.links] == [(0, 1, 640), (0, 2, 100), (0, 3, 260)]
    mixed = lay_out_flow(accounting(1200, repeated=200), sources(600, 400), height=320, gap=10)
    assert [(node.label, node.column, node.tokens) for node in mixed.nodes] == [
        ("s0", 0, 600),
        ("s1", 0, 400),
        ("read again", 0, 200),
        ("tokens read", 1, 1200),
        ("trained", 2, 1200),
    ]
    many = lay_out_flow(accounting(36), sources(*range(1, 9)), height=320, gap=10)
    assert [node.label for node in many.nodes if node.column == 0] == ["s3", "s4", "s5", "s6", "s7", "3 others"]


def test_lengths_by_hand() -> None:
    """Two of three documents are longer than 2; of one nothing is known but that it has 3 or more."""
    assert survival([2, 4], [3]) == [(2, pytest.approx(2 / 3)), (4, 0)]
    bins = estimated_bins([2, 4], [3], num_tokens=12, most=8)
    assert [(one.low, one.documents, one.tokens) for one in bins] == [(2, 1, 2), (4, 2, 8)]
    bins = estimated_bins([2, 2, 3], [8], num_tokens=100, most=8)
    assert [(one.low, one.documents, one.tokens) for one in bins] == [(2, 3, 7), (4, 0, 0), (8, 1, 93)]


@given(st.lists(st.integers(1, 500), min_size=1))
def test_without_rows_that_end_too_early_lengths_are_counted(lengths: list[int]) -> None:
    """The estimate is the plain count where every document was seen whole."""
    for length, longer in survival(lengths, []):
        assert longer == pytest.approx(sum(n > length for n in lengths) / len(lengths), abs=1e-9)


def test_numbers_for_people() -> None:
    """No share is rounded to nothing or to all; times and axes are short."""
    assert [percent_of(n, 10**6) for n in (0, 1, 9_876, 98_765, 999_999, 10**6)] == [
        "0.00 %",
        "< 0.01 %",
        "0.99 %",
        "9.88 %",
        "> 99.99 %",
        "100.0 %",
    ]
    assert [short(n) for n in (0, 0.5, 1024, 12_500, 8_585_216)] == ["0", "0.5", "1,024", "12.5k", "8.59M"]
    assert [duration(n) for n in (0.05, 18.73, 119.6, 3_725, 36_000)] == [
        "0.05 s",
        "18.7 s",
        "120 s",
        "1 h 02 min",
        "10 h 00 min",
    ]
