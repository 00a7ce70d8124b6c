"""Which rows a rank takes: exhaustive over small plans, against lists written out by a loop."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curriculum.budget import Batch, Budget
from curriculum.errors import CursorError
from curriculum.plan import Plan, compile_plan
from curriculum.schedule import parse_phases
from curriculum.share import Share


def plan_of(phases: str, **batch: int) -> Plan:
    """A plan of explicit phases."""
    return compile_plan(pacing=parse_phases(phases), warmup=None, batch=Batch(**batch), budget=Budget())


GROWING = plan_of("8:3,16:2,64:4", rows=16)
CYCLIC = plan_of("8:2,16:1,8:3,32:2,16:2", rows=24)
CONSTANT_TOKENS = plan_of("8:3,16:2,64:4", tokens=512, rows_multiple_of=4)
"""64, 32 and 8 rows per step."""


def walked(share: Share) -> list[tuple[int, int, tuple[int, ...]]]:
    """(step, micro, rows of the step) of every micro-batch, from the definition rather than from the code."""
    found = []
    for step in range(share.plan.total_steps):
        phase, _ = share.plan.locate(step)
        total, seq_len = share.plan.phases[phase].rows_per_step, share.plan.phases[phase].seq_len
        if share.micro_tokens is None:
            rows = total // share.world_size // (share.micro_batches or 1)
        else:
            mine = total // share.world_size
            rows = max(b for b in range(1, mine + 1) if mine % b == 0 and b * seq_len <= share.micro_tokens)
        for micro in range(total // share.world_size // rows):
            first = (micro * share.world_size + share.rank) * rows
            found.append((step, micro, tuple(range(first, first + rows))))
    return found


def placed(share: Share, step: int = 0, row: int = 0) -> list[tuple[int, int, tuple[int, ...]]]:
    """The same from `places`, which counts rows in the phase."""
    found = []
    for phase, first, rows, now, micro in share.places(step, row):
        expected_phase, begin = share.plan.locate(now)
        assert phase == expected_phase
        found.append((now, micro, tuple(range(first - begin, first - begin + rows))))
    return found


SHARES = [
    Share(plan=plan, rank=rank, world_size=world_size, **size)
    for plan in (GROWING, CYCLIC, CONSTANT_TOKENS)
    for world_size in (1, 2, 4)
    for rank in range(world_size)
    for size in ({}, {"micro_batches": 2}, {"micro_tokens": 64}, {"micro_tokens": 200}, {"micro_tokens": 10**9})
]


@pytest.mark.parametrize("share", SHARES, ids=lambda s: f"{s.rank}of{s.world_size}-{s.micro_batches}-{s.micro_tokens}")
def test_places_counts_and_positions_agree_with_the_definition(share: Share) -> None:
    """len, `at`, `micro_batches_before` and iteration from any step are four views of one list."""
    expected = walked(share)
    assert placed(share) == expected
    assert len(share) == len(expected)
    assert [share.at(i) for i in range(len(share))] == [(step, micro) for step, micro, _ in expected]
    for step in range(share.plan.total_steps + 1):
        assert share.micro_batches_before(step) == sum(now < step for now, _, _ in expected)
        assert placed(share, step) == [entry for entry in expected if entry[0] >= step]
    for index in (-1, len(share)):
        with pytest.raises(IndexError, match=f"micro-batch {index} is out of range"):
            share.at(index)


def test_many_short_rows_and_few_long_ones() -> None:
    """micro_tokens=64 on two ranks: 8 rows of 8 at once, 4 of 16, 1 of 64: about equal memory, never another batch."""
    share = Share(plan=GROWING, rank=0, world_size=2, micro_tokens=64)
    assert [(share.rows(phase), share.num_micro(phase)) for phase in range(3)] == [(8, 1), (4, 2), (1, 8)]
    assert placed(share)[3] == (3, 0, (0, 1, 2, 3))
    assert placed(share)[4] == (3, 1, (8, 9, 10, 11))


def test_a_bound_that_does_not_divide_takes_the_next_smaller_number_of_rows() -> None:
    """12 rows of 8 with at most 5 rows at once: 4, since 5 does not divide 12 and a remainder would be lost."""
    share = Share(plan=plan_of("8:1", rows=12), micro_tokens=47)
    assert (share.rows(0), share.num_micro(0)) == (4, 3)


@given(data=st.data())
def test_all_ranks_together_read_every_row_once_in_every_step(data: st.DataObject) -> None:
    """Whatever the sizes: no row twice, none left out, none of a bound too large."""
    lengths = data.draw(st.lists(st.sampled_from([8, 16, 24, 40]), min_size=1, max_size=5))
    world_size = data.draw(st.integers(1, 6))
    rows = world_size * data.draw(st.integers(1, 12))
    plan = plan_of(",".join(f"{n}:{data.draw(st.integers(1, 3))}" for n in lengths), rows=rows)
    micro_tokens = data.draw(st.integers(40, 700))
    shares = [Share(plan=plan, rank=r, world_size=world_size, micro_tokens=micro_tokens) for r in range(world_size)]
    for step in range(plan.total_steps):
        phase, _ = plan.locate(step)
        taken = [row for share in shares for now, _, rows_of in placed(share, step) if now == step for row in rows_of]
        assert sorted(taken) == list(range(rows))
        assert shares[0].rows(phase) * plan.phases[phase].seq_len <= micro_tokens


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"rank": 2, "world_size": 2}, "rank 2 of world_size 2: world_size starts at 1, ranks run from 0"),
        ({"world_size": 0}, "rank 0 of world_size 0"),
        ({"micro_batches": 0}, "micro_batches is 0; it starts at 1"),
        ({"micro_tokens": 0}, "micro_tokens is 0; it starts at 1"),
        ({"micro_batches": 2, "micro_tokens": 64}, "not both"),
        ({"world_size": 2.0}, "world_size is 2.0; give an integer"),
        ({"rank": None}, "rank is None; give an integer"),
        ({"micro_tokens": True}, "micro_tokens is True; give an integer"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(size: dict[str, int], message: str) -> None:
    """Each would otherwise read another rank's rows, or divide by zero."""
    with pytest.raises(CursorError, match=message):
        Share(plan=GROWING, **size)


@pytest.mark.parametrize(
    ("size", "step", "message"),
    [
        (
            {"world_size": 3},
            0,
            "there: world_size 3 x micro_batches 1 = 3 does not divide the 64 rows per step of phase 0. Products that "
            "divide every remaining phase: 1, 2, 4, 8.",
        ),
        (
            {"world_size": 16, "micro_tokens": 64},
            0,
            "there: world_size 16 does not divide the 8 rows per step of phase 2. World sizes that divide every "
            "remaining phase: 1, 2, 4, 8.",
        ),
        (
            {"micro_tokens": 63},
            0,
            "there: micro_tokens is 63, less than one row of phase 2, which has 64; give at least 64.",
        ),
        (
            {"world_size": 16},
            5,
            "there: world_size 16 x micro_batches 1 = 16 does not divide the 8 rows per step of phase 2. Products that "
            "divide every remaining phase: 1, 2, 4, 8.",
        ),
    ],
)
def test_what_fails_at_a_later_step_is_refused_at_the_first(size: dict[str, int], step: int, message: str) -> None:
    """Phase 2 begins at step 5; a run must not find out there that its processes cannot share the rows."""
    with pytest.raises(CursorError) as caught:
        Share(plan=CONSTANT_TOKENS, **size).require_fits(step, 0, "there")
    assert str(caught.value) == message


def test_phases_that_lie_behind_do_not_matter() -> None:
    """A run that grows to 16 ranks after the phase of 8 rows is behind it may do so; before, it is refused."""
    plan = plan_of("8:2,16:2", tokens=128, rows_multiple_of=4)  # 16 and 8 rows
    share = Share(plan=plan, world_size=16)
    with pytest.raises(CursorError, match="does not divide the 8 rows"):
        share.require_fits(1, 0, "there")
    shrinking = Share(plan=plan_of("16:2,8:2", tokens=128, rows_multiple_of=4), world_size=16)
    shrinking.require_fits(2, 0, "there")
    assert shrinking.rows(1) == 1


def test_a_cursor_inside_a_step_fits_the_micro_batches_that_made_it() -> None:
    """With micro_tokens the unit differs between phases: 16 rows in phase 0, 8 in phase 1, 2 in phase 2."""
    share = Share(plan=GROWING, world_size=2, micro_tokens=64)
    share.require_fits(3, 8, "there")
    assert placed(share, 3, 8)[0] == (3, 1, (8, 9, 10, 11))
    share.require_fits(6, 14, "there")
    assert placed(share, 6, 14)[0] == (6, 7, (14,))
    with pytest.raises(CursorError, match="row 4 of step 3; with 2 micro-batches of 8 rows it can stand at multiples"):
        share.require_fits(3, 4, "there")
    with pytest.raises(CursorError, match="row 8 of step 0"):
        share.require_fits(0, 8, "there")
