"""The order of document curricula: OLMo-core's shares where they add up, and nothing lost where they do not."""

from collections import Counter
from itertools import pairwise
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curriculum.document_order import (
    MAX_ORDER_STEPS,
    document_runs,
    growth_odds,
    steps_of_cycle,
    steps_of_sub_cycles,
)
from curriculum.errors import PlanError
from curriculum.limits import MAX_RUNS

Runs = tuple[tuple[int, int], ...]


def spread(runs: Runs) -> list[int]:
    return [seq_len for seq_len, num_steps in runs for _ in range(num_steps)]


def shares(name: str, num_buckets: int, num_steps: int) -> list[list[int]]:
    """Steps of each bucket (rows, shortest first) in each sub-cycle."""
    odds = [growth_odds(name, bucket, num_buckets) for bucket in range(num_buckets)]
    return [list(steps_of_sub_cycles(num_steps, bucket_odds)) for bucket_odds in odds]


def olmo_core_counts(odds: tuple[int, ...], num_steps: int) -> list[int] | None:
    """OLMo-core's arithmetic as described in shared notes; None where its chunking asserts."""
    counts = [round(num_steps * share / sum(odds)) for share in odds]
    counts[-1] += max(0, num_steps - sum(counts))
    return counts if sum(counts) == num_steps else None


def test_odds_of_four_lengths() -> None:
    """Each length peaks in the sub-cycle of its own number."""
    linear = [growth_odds("grow-linear", bucket, 4) for bucket in range(4)]
    assert linear == [(4, 3, 2, 1), (3, 4, 2, 1), (2, 3, 4, 1), (1, 2, 3, 4)]
    doubling = [growth_odds("grow-p2", bucket, 4) for bucket in range(4)]
    assert doubling == [(8, 4, 2, 1), (4, 8, 2, 1), (2, 4, 8, 1), (1, 2, 4, 8)]
    assert growth_odds("grow-p2", 0, 1) == (1,)


@pytest.mark.parametrize(
    ("name", "num_steps", "expected"),
    [
        ("grow-p2", 30, [[16, 8, 4, 2], [8, 16, 4, 2], [4, 8, 16, 2], [2, 4, 8, 16]]),
        ("grow-linear", 30, [[12, 9, 6, 3], [9, 12, 6, 3], [6, 9, 12, 3], [3, 6, 9, 12]]),
        ("grow-p2", 15, [[8, 4, 2, 1], [4, 8, 2, 1], [2, 4, 8, 1], [1, 2, 4, 8]]),
        ("grow-linear", 15, [[6, 4, 3, 2], [4, 6, 3, 2], [3, 4, 6, 2], [2, 3, 4, 6]]),
        ("grow-p2", 8, [[4, 2, 1, 1], [2, 4, 1, 1], [1, 2, 4, 1], [1, 1, 2, 4]]),
        ("grow-linear", 8, [[3, 2, 2, 1], [2, 3, 2, 1], [2, 2, 3, 1], [1, 2, 2, 3]]),
        ("grow-p2", 100, [[53, 27, 13, 7], [27, 53, 13, 7], [13, 27, 53, 7], [7, 13, 27, 53]]),
    ],
)
def test_shares_are_those_of_olmo_core(name: str, num_steps: int, expected: list[list[int]]) -> None:
    """Golden tables that its own code printed, 4 lengths."""
    assert shares(name, 4, num_steps) == expected


def test_nine_steps_that_crash_olmo_core() -> None:
    """9 by 4 3 2 1 rounds to 4 3 2 1 = 10 and its run dies; here the last gives the step back."""
    assert shares("grow-linear", 4, 9) == [[4, 3, 2, 0], [3, 4, 2, 0], [2, 3, 4, 0], [1, 2, 3, 3]]


@pytest.mark.parametrize(("num_buckets", "failures"), [(3, 99), (4, 160), (5, 265), (6, 456)])
def test_no_number_of_steps_crashes(num_buckets: int, failures: int) -> None:
    """Where OLMo-core adds up we agree to the step; in the known number of cases where it asserts we still add up."""
    refused = 0
    for name in ("grow-linear", "grow-p2"):
        for bucket in range(num_buckets):
            odds = growth_odds(name, bucket, num_buckets)
            for num_steps in range(400):
                ours = list(steps_of_sub_cycles(num_steps, odds))
                theirs = olmo_core_counts(odds, num_steps)
                assert sum(ours) == num_steps
                assert min(ours) >= 0
                assert theirs in (None, ours)
                refused += theirs is None
    assert refused == failures


def test_rounding_is_half_to_even() -> None:
    """5 by halves is 2.5 and 2.5: both round to 2 and the last gets the fifth; 7 rounds to 4 and 4, one too many."""
    assert steps_of_sub_cycles(5, (1, 1)) == (2, 3)
    assert steps_of_sub_cycles(7, (1, 1)) == (4, 3)
    assert steps_of_sub_cycles(6, (1, 1, 1, 1)) == (2, 2, 2, 0)  # 1.5 four times is 8: two steps are taken back
    assert steps_of_sub_cycles(0, (2, 1)) == (0, 0)


def test_cycles_lose_no_remainder() -> None:
    """OLMo-core floors 78 70 78 53 56 to 72 64 72 48 56 for 8 cycles and drops 23 of 335 steps; we keep them."""
    steps = {256: 78, 512: 70, 1024: 78, 2048: 53, 4096: 56}
    assert [count // 8 * 8 for count in steps.values()] == [72, 64, 72, 48, 56]
    runs = document_runs(steps, name="grow-linear", cycles=8, seed=0)
    assert Counter(spread(runs)) == steps
    assert [steps_of_cycle(10, cycle, 4) for cycle in range(4)] == [2, 3, 2, 3]
    assert [steps_of_cycle(1, cycle, 3) for cycle in range(3)] == [0, 0, 1]


def test_each_cycle_grows() -> None:
    """Cut at the sub-cycle borders, the order holds exactly the shares, and every cycle starts short again."""
    lengths = (256, 512, 1024, 2048)
    order = spread(document_runs(dict.fromkeys(lengths, 60), name="grow-p2", cycles=2, seed=7))
    table = shares("grow-p2", 4, 30)
    at = 0
    for _ in range(2):
        for sub_cycle in range(4):
            counts = {seq_len: row[sub_cycle] for seq_len, row in zip(lengths, table, strict=True)}
            size = sum(counts.values())
            part = order[at : at + size]
            assert Counter(part) == counts
            assert part != sorted(part)  # shuffled inside
            at += size
    assert at == len(order)
    assert order[:120] != order[120:]  # each cycle has its own shuffle


@pytest.mark.parametrize(
    ("name", "cycles", "expected"),
    [
        ("natural", None, (16, 32, 8, 8, 16, 8, 32, 32, 8, 16, 16, 8)),
        ("grow-linear", 2, (8, 16, 8, 16, 32, 8, 16, 8, 16, 8, 32, 32)),
        ("grow-p2", 1, (8, 8, 16, 8, 8, 32, 16, 16, 32, 16, 8, 32)),
    ],
)
def test_the_order_never_changes(name: str, cycles: int | None, expected: tuple[int, ...]) -> None:
    """Golden: a dataset built by an older release must verify, so these numbers hold for ever."""
    assert spread(document_runs({8: 5, 16: 4, 32: 3}, name=name, cycles=cycles, seed=1)) == list(expected)


@given(
    steps=st.dictionaries(st.sampled_from([8, 16, 32, 64, 128]), st.integers(0, 40), min_size=1),
    name=st.sampled_from(["natural", "grow-linear", "grow-p2"]),
    cycles=st.integers(1, 12),
    seed=st.integers(0, 2**63 - 1),
)
@settings(max_examples=150, deadline=None)
def test_every_step_appears_once(steps: dict[int, int], name: str, cycles: int, seed: int) -> None:
    """Any steps and cycles: all steps, runs in canonical form, and the mapping's own order does not matter."""
    total = sum(steps.values())
    if total == 0 or (name != "natural" and cycles > total):
        return
    arguments = {"name": name, "cycles": None if name == "natural" else cycles, "seed": seed}
    runs = document_runs(steps, **arguments)  # type: ignore[arg-type]
    assert Counter(spread(runs)) == {seq_len: count for seq_len, count in steps.items() if count}
    assert all(before[0] != after[0] for before, after in pairwise(runs))
    shuffled = dict(sorted(steps.items(), reverse=True))
    assert document_runs(shuffled, **arguments) == runs  # type: ignore[arg-type]


def test_a_seed_gives_another_order_of_the_same_steps() -> None:
    first, second = (spread(document_runs({8: 50, 16: 50}, name="natural", seed=seed)) for seed in (0, 1))
    assert first != second
    assert sorted(first) == sorted(second)


def test_natural_mixes_lengths_evenly() -> None:
    """2,000 steps, half of each length: a window of 200 has 100 of each, give or take four standard deviations."""
    order = spread(document_runs({8: 1000, 16: 1000}, name="natural", seed=3))
    counts = [order[at : at + 200].count(8) for at in range(0, 2000, 200)]
    assert all(72 <= count <= 128 for count in counts)


def test_hundreds_of_thousands_of_steps_are_quick() -> None:
    started = process_time()
    runs = document_runs({2**k: 40_000 for k in range(8, 13)}, name="grow-p2", cycles=8, seed=0)
    assert sum(num_steps for _, num_steps in runs) == 200_000
    assert process_time() - started < 5


def test_more_steps_than_an_order_may_have_runs() -> None:
    """10 T tokens at 4 M a step are 2.5 M steps; most of one length, they come to few runs, and those are limited."""
    runs = document_runs({256: 3, 8192: 1_050_000}, name="natural", seed=0)
    assert sum(num_steps for _, num_steps in runs) == 1_050_003
    assert len(runs) <= 7 < MAX_RUNS < 1_050_003


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "linear"}, "document schedule is 'linear'; choose one of natural, grow-linear, grow-p2"),
        ({"name": "natural"}, "cycles 2 does not apply to schedule 'natural'"),
        ({"cycles": None}, "cycles is None; it must be a whole number"),
        ({"cycles": 0}, "cycles is 0; choose a whole number from 1"),
        ({"cycles": 8}, "cycles 8 is above the total of 7 steps; use cycles 7 or fewer"),
        ({"seed": -1}, "seed is -1; choose a whole number from 0"),
        ({"seed": 2**63}, "seed is 9223372036854775808"),
        ({"steps_by_length": {8: 0}}, "a document curriculum of 0 steps has no order"),
        ({"steps_by_length": {8: MAX_ORDER_STEPS + 1}}, "of 4194305 steps has no order .* a larger batch or a budget"),
        ({"steps_by_length": {8: -1}}, "the number of steps of length 8 is -1"),
        ({"steps_by_length": {8: True}}, "the number of steps of length 8 is True"),
    ],
)
def test_what_cannot_work_is_refused(change: dict[str, object], words: str) -> None:
    arguments = {"steps_by_length": {8: 4, 16: 3}, "name": "grow-p2", "cycles": 2, "seed": 0} | change
    with pytest.raises(PlanError, match=words):
        document_runs(**arguments)  # type: ignore[arg-type]
