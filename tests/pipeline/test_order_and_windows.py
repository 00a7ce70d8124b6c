"""The arithmetic that decides where every token goes: fixed for ever, exhaustive on small domains."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curriculum.extension import extend_plan
from curriculum.plan import Batch, Budget, Plan, compile_plan
from curriculum.schedule import Pacing, parse_phases
from pipeline.lone_windows import place_windows
from pipeline.order import permutation
from pipeline.segment import WindowText, cut_rows, deal_rows
from pipeline.windows import lay_out_shards, rows_by_phase, split_windows, window_runs, window_size


def explicit(text: str, rows: int = 2, mode: str = "segment") -> Plan:
    """A plan of explicit phases."""
    pacing = parse_phases(text, multiple_of=1)
    return compile_plan(pacing=pacing, warmup=None, batch=Batch(rows=rows), budget=Budget(), mode=mode)


def test_permutations_are_golden() -> None:
    """Other values would silently reorder every dataset that is built again."""
    assert permutation(8, seed=0, purpose="documents", index=(0, 7)).tolist() == [5, 0, 2, 7, 4, 1, 3, 6]
    assert permutation(8, seed=1, purpose="documents", index=(0, 7)).tolist() == [4, 3, 2, 0, 5, 1, 7, 6]
    assert permutation(8, seed=0, purpose="cut", index=(0,)).tolist() == [6, 3, 0, 1, 2, 7, 5, 4]


@given(st.integers(0, 300), st.integers(0, 2**63 - 1), st.integers(0, 5))
def test_permutations_hold_every_index_once(size: int, seed: int, index: int) -> None:
    """Else a document would be trained on twice and another never."""
    assert sorted(permutation(size, seed=seed, purpose="x", index=(index,)).tolist()) == list(range(size))


@pytest.mark.parametrize("size", range(1, 200))
def test_windows_tile_the_steps_and_their_borders_are_the_first_that_reach(size: int) -> None:
    """Every step is cut once, and no tiny last window appears."""
    plan = explicit("3:5,7:4,3:2,11:3", rows=2)
    windows = split_windows(plan, size)
    per_step = [2 * length for length in [3] * 5 + [7] * 4 + [3] * 2 + [11] * 3]
    reached = np.concatenate(([0], np.cumsum(per_step)))
    total, count = int(reached[-1]), max(1, round(Fraction(int(reached[-1]), size)))
    borders = [0] + [int(np.argmax(reached * count >= k * total)) for k in range(1, count)] + [len(per_step)]
    if len(set(borders)) == len(borders):  # steps are far smaller than windows in practice
        assert [(w.first_step, w.stop_step) for w in windows] == list(pairwise(borders))
    assert windows[0].offset == 0
    for one, other in pairwise(windows):
        assert (one.stop_step, one.offset + one.num_tokens) == (other.first_step, other.offset)
    assert windows[-1].offset + windows[-1].num_tokens == total


def test_a_window_is_at_least_32_of_the_largest_steps() -> None:
    """A window of one step would not mix anything."""
    plan = explicit("8:100,64:100", rows=4)
    assert window_size(plan, 1) == 32 * 4 * 64
    assert window_size(plan, 10**6) == 10**6
    assert window_size(plan, None) == 32 << 20


@pytest.mark.parametrize("shard_bytes", [1, 40, 100, 1_000, 10**6])
@pytest.mark.parametrize("size", [20, 77, 10**6])
def test_shards_hold_whole_steps_and_tile_each_phase(size: int, shard_bytes: int) -> None:
    """A step that spanned two shards would not be one slice."""
    plan = explicit("3:5,7:4,3:2,11:3", rows=2)
    windows = split_windows(plan, size)
    layout = lay_out_shards(plan, windows, shard_bytes=shard_bytes, itemsize=2)
    paths = [slot.path for slots in layout for slot in slots]
    assert len(set(paths)) == len(paths)
    for window, slots in zip(windows, layout, strict=True):
        rows = rows_by_phase(plan, window)
        assert sum(steps for _, steps in window_runs(plan, window)) == window.stop_step - window.first_step
        for phase, count in rows.items():
            pieces = [(s.first_row, s.stop_row) for s in slots if s.phase == phase]
            assert pieces[0][0] == 0
            assert pieces[-1][1] == count
            assert all(a[1] == b[0] for a, b in pairwise(pieces))
            per_row = 2 * (plan.phases[phase].seq_len + 1)
            assert all(stop % 2 == 0 and stop > first for first, stop in pieces)
            assert all((stop - first) * per_row <= max(shard_bytes, 2 * per_row) for first, stop in pieces)


def test_more_than_a_thousand_shards_go_to_numbered_folders() -> None:
    """Object stores and file browsers choke on huge folders."""
    plan = explicit("1:2500", rows=1)
    slots = lay_out_shards(plan, split_windows(plan, 10**9), shard_bytes=1, itemsize=2)[0]
    assert slots[0].path == "phases/00000-len0000001/00000/shard-000000.arrow"
    assert slots[2499].path == "phases/00000-len0000001/00002/shard-002499.arrow"


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 5)), min_size=1, max_size=4, unique_by=lambda phase: phase[0]),
    st.sampled_from(["segment", "truncate"]),
    st.integers(0, 3),
)
def test_rows_of_a_window_tile_it(phases: list[tuple[int, int]], mode: str, seed: int) -> None:
    """Each token of the window is consumed by exactly one row, and rows show the tokens of their place."""
    plan = explicit(",".join(f"{length}:{steps}" for length, steps in phases), rows=3, mode=mode)
    (window,) = split_windows(plan, 10**9)
    rows = rows_by_phase(plan, window)
    consumed = {phase: plan.consumed_per_row(phase) for phase in rows}
    dealt = deal_rows(rows, consumed, offset=100, seed=seed, window=0)
    assert {phase: len(offsets) for phase, offsets in dealt.items()} == rows
    spans = sorted((int(offset), consumed[phase]) for phase, offsets in dealt.items() for offset in offsets)
    position = 100
    for offset, length in spans:
        assert offset == position
        position += length
    tokens = np.arange(window.num_tokens + 1, dtype=np.uint16)
    starts = np.arange(95, 100 + window.num_tokens + 1, 4, dtype=np.int64)
    text = WindowText(offset=100, tokens=tokens, doc_positions=starts, first_document=50)
    for phase, offsets in dealt.items():
        seq_len = plan.phases[phase].seq_len
        cut = cut_rows(text, offsets, seq_len)
        for row, offset in enumerate(offsets.tolist()):
            assert cut.tokens[row].tolist() == list(range(offset - 100, offset - 100 + seq_len + 1))
            inside = [int(s) - offset for s in starts if offset < s <= offset + seq_len]
            assert cut.doc_positions[cut.doc_offsets[row] : cut.doc_offsets[row + 1]].tolist() == inside
            assert cut.document[row] == 50 + sum(1 for s in starts if s <= offset) - 1
            assert cut.offset[row] == offset


def test_short_rows_come_from_all_over_the_window() -> None:
    """In stream order the first step of 8-token rows would be 64 neighbours; dealt, it spans the window."""
    pacing = Pacing(name="linear", start_length=8, max_length=64, multiple_of=8, degree=1)
    plan = compile_plan(pacing=pacing, warmup=100, batch=Batch(rows=64), budget=Budget(steps=400))
    (window,) = split_windows(plan, 10**9)
    rows = rows_by_phase(plan, window)
    dealt = deal_rows(rows, {p: plan.consumed_per_row(p) for p in rows}, offset=0, seed=0, window=0)
    first_step = np.sort(dealt[0][:64])
    assert first_step[-1] - first_step[0] > 0.8 * window.num_tokens
    assert np.diff(first_step).max() < 0.15 * window.num_tokens


def test_windows_of_one_source_follow_one_another_across_those_of_others() -> None:
    """An extension by new text lies between two by the corpus: each goes on where its own stream stopped."""
    plan = explicit("4:10,8:5")
    for _ in range(3):
        plan = extend_plan(plan, 4)
    windows = split_windows(plan, 40)
    lone = (0, 0, 1, 0, 1)
    at = {0: 0, 1: 1_000}
    for window, (placed, source) in zip(windows, place_windows(plan, windows, lone, [0, 1_000]), strict=True):
        assert source == lone[plan.locate(window.first_step)[0]]
        assert placed.offset == at[source]
        at[source] += window.num_tokens
        assert (placed.index, placed.first_step, placed.num_tokens) == (
            window.index,
            window.first_step,
            window.num_tokens,
        )
    assert at == {0: 80 + 80 + 64, 1: 1_000 + 64 + 64}
    mixed = list(place_windows(plan, windows, (None,) * 5, [0, 1_000]))
    assert mixed == [(window, None) for window in windows], "of several sources nothing is placed"
