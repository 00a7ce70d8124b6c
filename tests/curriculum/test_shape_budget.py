"""A shape budget is the best there is, and the same on every machine."""

from fractions import Fraction
from itertools import combinations, pairwise
from math import exp, log, prod
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curriculum.errors import PlanError
from curriculum.schedule import Pacing
from curriculum.shape_budget import Runs, fit_shapes, shape_table


def nearest(chosen: tuple[int, ...], ideal: int, by: str) -> int:
    """By exact products or differences, a tie to the shorter."""
    return min(
        chosen, key=lambda c: (Fraction(max(c, ideal), min(c, ideal)) if by == "relative" else abs(c - ideal), c)
    )


def exact_cost(chosen: tuple[int, ...], runs: Runs, by: str) -> Fraction | int:
    """Absolute: the sum. Relative: the product of the ratios, which orders like the sum of their logarithms."""
    assigned = [(nearest(chosen, ideal, by), ideal, steps) for ideal, steps in runs]
    if by == "absolute":
        return sum(abs(got - ideal) * steps for got, ideal, steps in assigned)
    return prod(
        (Fraction(max(got, ideal), min(got, ideal)) ** steps for got, ideal, steps in assigned), start=Fraction(1)
    )


def best_by_brute_force(runs: Runs, most: int, by: str, ends: tuple[int, int]) -> tuple[int, ...]:
    inner = sorted({seq_len for seq_len, _ in runs} - set(ends))
    sets = [
        tuple(sorted({*ends, *chosen}))
        for size in range(min(most - len(set(ends)), len(inner)) + 1)
        for chosen in combinations(inner, size)
    ]
    return min(sets, key=lambda chosen: (exact_cost(chosen, runs, by), len(chosen), chosen))


def assigned_to(chosen: tuple[int, ...], runs: Runs, by: str) -> Runs:
    steps: dict[int, int] = {}
    for ideal, count in runs:
        got = nearest(chosen, ideal, by)
        steps[got] = steps.get(got, 0) + count
    return tuple(sorted(steps.items()))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Runs, int, tuple[int, int]]:
    """Few distinct lengths with many common factors and equal weights, so that ties are the rule."""
    pool = draw(
        st.sampled_from([range(8, 80, 8), (8, 16, 32, 64, 128, 256, 512), (6, 9, 12, 18, 24, 27, 36, 54), range(1, 30)])
    )
    lengths = sorted(draw(st.sets(st.sampled_from(pool), min_size=1, max_size=7)))
    weight = st.integers(1, draw(st.sampled_from([1, 2, 9])))
    runs = tuple((seq_len, draw(weight)) for seq_len in lengths)
    start, top = draw(st.sampled_from([(lengths[0], lengths[-1]), (min(pool), max(pool)), (1, 600)]))
    return runs, draw(st.integers(2, 7)), (start, top)


@pytest.mark.parametrize("by", ["relative", "absolute"])
@given(case=cases())
@settings(max_examples=300, deadline=None)
def test_no_set_of_lengths_is_better(by: str, case: tuple[Runs, int, tuple[int, int]]) -> None:
    """Cost, number and lengths are those that trying every set finds, ties by exact arithmetic included."""
    runs, most, ends = case
    expected = best_by_brute_force(runs, most, by, ends)
    assert fit_shapes(runs, max_shapes=most, by=by, lengths=ends) == assigned_to(expected, runs, by)


@given(case=cases())
@settings(max_examples=100, deadline=None)
def test_the_table_is_what_fitting_gives(case: tuple[Runs, int, tuple[int, int]]) -> None:
    """One run of the dynamic program serves every row: each is the fit of that many shapes."""
    runs, _, ends = case
    candidates = sorted({*ends, *(seq_len for seq_len, _ in runs)})
    table = shape_table(runs, lengths=ends)
    assert [row.num_shapes for row in table] == list(range(min(2, len(candidates)), len(candidates) + 1))
    total = sum(steps for _, steps in runs)
    for row in table:
        fitted = fit_shapes(runs, max_shapes=max(2, row.num_shapes), lengths=ends)
        spread = [(got, ideal) for got, ideal in zip(steps_of(fitted), steps_of(runs), strict=True)]
        ratios = [max(two) / min(two) for two in spread]
        assert row.mean_deviation == pytest.approx(exp(sum(map(log, ratios)) / total) - 1, abs=1e-12)
        assert row.worst_deviation == pytest.approx(max(ratios) - 1, abs=1e-12)
        assert row.largest_jump == max((b / a for (a, _), (b, _) in pairwise(fitted)), default=1.0)
        assert row.relative_length_sum == sum(got for got, _ in spread) / sum(ideal for _, ideal in spread)


def steps_of(runs: Runs) -> list[int]:
    return [seq_len for seq_len, steps in runs for _ in range(steps)]


def test_equal_products_tie_exactly() -> None:
    """16 is as far from 8 as from 32, by a factor of 2: the step goes to the shorter, whatever rounding says."""
    assert fit_shapes(((8, 1), (16, 1), (32, 1)), max_shapes=2, lengths=(8, 32)) == ((8, 2), (32, 1))
    assert fit_shapes(((6, 1), (12, 1), (24, 1)), max_shapes=2, lengths=(6, 24)) == ((6, 2), (24, 1))


def test_a_tie_of_two_sets_takes_the_shorter_lengths() -> None:
    """16 or 32 as the third length, each leaves one step off by a factor of 2; every machine takes 16."""
    runs = ((8, 5), (16, 1), (32, 1), (64, 5))
    assert fit_shapes(runs, max_shapes=3, lengths=(8, 64)) == ((8, 5), (16, 2), (64, 5))
    even = ((8, 5), (16, 1), (24, 1), (32, 5))
    assert fit_shapes(even, max_shapes=3, by="absolute", lengths=(8, 32)) == ((8, 5), (16, 2), (32, 5))


def test_relative_and_absolute_differ() -> None:
    """Absolute leaves short lengths coarse: 40 tokens matter more at 8 than at 1000."""
    runs = tuple((seq_len, 1) for seq_len in range(8, 1025, 8))
    relative = fit_shapes(runs, max_shapes=4, lengths=(8, 1024))
    absolute = fit_shapes(runs, max_shapes=4, by="absolute", lengths=(8, 1024))
    assert [seq_len for seq_len, _ in relative] == [8, 160, 496, 1024]
    assert [seq_len for seq_len, _ in absolute] == [8, 336, 680, 1024]


def test_the_ends_count_even_without_a_step() -> None:
    """A root schedule jumps over its start: 8 takes one of the three shapes and gets no step."""
    runs = ((40, 10), (48, 10), (56, 10), (64, 10))
    assert fit_shapes(runs, max_shapes=3, lengths=(8, 64)) == ((40, 20), (64, 20))  # 48 costs the same: 48/40 * 64/56
    assert fit_shapes(runs, max_shapes=5, lengths=(8, 64)) == runs
    assert fit_shapes(runs, max_shapes=4, lengths=(40, 64)) == runs


def test_one_length_stays_one_length() -> None:
    assert fit_shapes(((1024, 7),), max_shapes=2, lengths=(1024, 1024)) == ((1024, 7),)
    (row,) = shape_table(((1024, 7),), lengths=(1024, 1024))
    assert (row.num_shapes, row.mean_deviation, row.largest_jump, row.relative_length_sum) == (1, 0.0, 1.0, 1.0)


def test_the_paper_schedule_in_eight_shapes() -> None:
    """8 -> 1024 over 1,000 steps: golden, so that a dataset built today has the same plan tomorrow."""
    runs = Pacing(name="linear", start_length=8, max_length=1024).runs(3000, 1000)
    fitted = fit_shapes(runs, max_shapes=8, lengths=(8, 1024))
    assert fitted == ((8, 15), (48, 55), (120, 87), (224, 118), (368, 165), (552, 197), (768, 229), (1024, 2134))
    assert sum(steps for _, steps in fitted) == 3000


def test_thousands_of_lengths_in_a_moment() -> None:
    """SkyLadder grows by one token a step: 8,162 lengths. Plain dynamic programming would need minutes."""
    runs = Pacing(name="linear", start_length=32, max_length=8193, multiple_of=1).runs(100_000, 65_288)
    started = process_time()
    fitted = fit_shapes(runs, max_shapes=8, lengths=(32, 8193))
    assert process_time() - started < 5
    assert len(fitted) == 8
    assert sum(steps for _, steps in fitted) == 100_000
    counts = [row.num_shapes for row in shape_table(runs, lengths=(32, 8193))]
    assert counts == [2, 3, 4, 6, 8, 12, 16, 8162]


def test_table_limits() -> None:
    """Few lengths: every K. 128 of them: a ladder up to all."""
    few = tuple((seq_len, 1) for seq_len in range(8, 136, 8))
    assert [row.num_shapes for row in shape_table(few, lengths=(8, 128))] == list(range(2, 17))
    many = tuple((seq_len, 1) for seq_len in range(8, 1025, 8))
    ladder = [2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128]
    table = shape_table(many, lengths=(8, 1024))
    assert [row.num_shapes for row in table] == ladder
    assert all(more.mean_deviation < fewer.mean_deviation for fewer, more in pairwise(table))
    chosen = shape_table(many, lengths=(8, 1024), counts=(500, 5, 7, 5))
    assert [row.num_shapes for row in chosen] == [5, 7, 128]
    assert set(chosen[0].to_json()) == {
        "num_shapes", "mean_deviation", "worst_deviation", "largest_jump", "relative_length_sum",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"max_shapes": 1}, "max_shapes is 1; choose a whole number from 2"),
        ({"max_shapes": True}, "max_shapes is True; it must be a whole number"),
        ({"by": "length"}, "shapes_by is 'length'; choose one of relative, absolute"),
        ({"runs": ((16, 1), (8, 1))}, "lengths that grow; leave max_shapes out"),
        ({"runs": ()}, "needs steps at lengths within these ends"),
        ({"lengths": (16, 32)}, "from 16 to 32 needs steps at lengths within these ends"),
        ({"lengths": (8, 16)}, "from 8 to 16 needs steps"),
    ],
)
def test_what_cannot_work_is_refused(change: dict[str, object], words: str) -> None:
    arguments: dict[str, object] = {"runs": ((8, 1), (32, 1)), "max_shapes": 2, "lengths": (8, 32)} | change
    with pytest.raises(PlanError, match=words):
        fit_shapes(arguments.pop("runs"), **arguments)  # type: ignore[arg-type]


def test_a_search_without_end_is_refused() -> None:
    """30,000 of 60,000 lengths would fill gigabytes: the message names what works."""
    runs = tuple((seq_len, 1) for seq_len in range(1, 60_001))
    with pytest.raises(PlanError, match="use at most 279 shapes, a larger multiple_of"):
        fit_shapes(runs, max_shapes=30_000, by="absolute", lengths=(1, 60_000))
