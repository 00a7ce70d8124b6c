"""Pacing is design.md's formula, in integers, and agrees with the published numbers."""

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise, product
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curriculum.errors import PlanError
from curriculum.schedule import Pacing, parse_frac, warmup_steps_of


def pacing(start: int, top: int, degree: int = 1, multiple_of: int = 8) -> Pacing:
    name = "linear" if degree == 1 else "root"
    return Pacing(name=name, start_length=start, max_length=top, multiple_of=multiple_of, degree=degree)


def length_by_the_book(p: Pacing, step: int, warmup_steps: int) -> int:
    """design.md section 4, word for word: search x one by one, round down, clamp."""
    t, grow = step + 1, p.max_length - p.start_length
    x = grow if t >= warmup_steps else 0
    while warmup_steps * (x + 1) ** p.degree <= t * grow**p.degree and x < grow:
        x += 1
    aligned = (p.start_length + x) // p.multiple_of * p.multiple_of
    return max(p.start_length, min(aligned, p.max_length))


def spread(runs: tuple[tuple[int, int], ...]) -> list[int]:
    return [seq_len for seq_len, num_steps in runs for _ in range(num_steps)]


# DeepSpeed's scheduler code, run for shared research notes: {its 1-based step: length}.
GOLDEN = {
    "linear 8->1024 T=1000": (
        pacing(8, 1024),
        1000,
        {1: 8, 7: 8, 8: 16, 16: 24, 50: 56, 100: 104, 125: 128, 200: 208, 250: 256, 333: 344, 400: 408, 500: 512}
        | {600: 616, 700: 712, 750: 768, 800: 816, 900: 920, 990: 1008, 992: 1008, 993: 1016, 999: 1016, 1000: 1024}
        | {24: 32, 32: 40, 40: 48, 48: 56, 56: 64, 63: 72, 71: 80, 79: 88, 87: 96, 969: 992, 977: 1000, 985: 1008}
        | {2000: 1024},
    ),
    "root 2 8->1024 T=1000": (
        pacing(8, 1024, degree=2),
        1000,
        {1: 40, 2: 48, 7: 88, 8: 96, 9: 104, 15: 128, 16: 136, 50: 232, 100: 328, 125: 360, 200: 456, 250: 512}
        | {333: 592, 400: 648, 500: 720, 600: 792, 700: 856, 750: 880, 800: 912, 900: 968, 990: 1016, 999: 1016}
        | {1000: 1024},
    ),
    "root 3 8->1024 T=1000": (
        pacing(8, 1024, degree=3),
        1000,
        {1: 104, 10: 224, 100: 472, 250: 648, 500: 808, 750: 928, 900: 984, 999: 1016, 1000: 1024},
    ),
    "paper GPT-2 1.5B 64->1024 T=45000": (
        pacing(64, 1024),
        45000,
        {1: 64, 374: 64, 375: 72, 750: 80, 1000: 80, 3000: 128, 10000: 272, 22500: 544, 30000: 704, 44999: 1016}
        | {45000: 1024},
    ),
    "first paper version 8->1024 T=15000": (
        pacing(8, 1024),
        15000,
        {1: 8, 118: 8, 119: 16, 1000: 72, 3000: 208, 7500: 512, 10000: 680, 14999: 1016, 15000: 1024},
    ),
    "BigScience 104B 64->2048 T=36000": (
        pacing(64, 2048),
        36000,
        {145: 64, 146: 72, 1000: 112, 9000: 560, 18000: 1056, 27000: 1552, 35999: 2040, 36000: 2048},
    ),
    "DeepSpeed unit test 2->10 T=8": (
        pacing(2, 10, multiple_of=2),
        8,
        dict(enumerate([2, 4, 4, 6, 6, 8, 8, 10, 10, 10], 1)),
    ),
    "8->1024 T=100": (pacing(8, 1024), 100, dict(enumerate([16, 24, 32, 48, 56], 1))),
    "64->1024 by 16 T=100": (
        pacing(64, 1024, multiple_of=16),
        100,
        dict(enumerate([64, 80, 80, 96, 112], 1)),
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_published_schedules_are_reproduced_at_every_recorded_step(name: str) -> None:
    p, warmup_steps, lengths = GOLDEN[name]
    found = {step: p.length(step - 1, warmup_steps) for step in lengths}
    assert found == lengths
    by_run = spread(p.runs(max(lengths), warmup_steps))
    assert {step: by_run[step - 1] for step in lengths} == lengths


@pytest.mark.parametrize(
    ("p", "warmup_steps", "total", "num_lengths"),
    [
        (pacing(8, 1024), 1000, 512_512, 128),
        (pacing(8, 1024, degree=2), 1000, 681_856, 123),
        (pacing(64, 1024), 45_000, 24_300_960, 121),
    ],
)
def test_the_warmup_trains_the_published_number_of_tokens(
    p: Pacing, warmup_steps: int, total: int, num_lengths: int
) -> None:
    runs = p.runs(warmup_steps, warmup_steps)
    assert sum(seq_len * num_steps for seq_len, num_steps in runs) == total
    assert len(runs) == num_lengths


def test_the_example_of_the_design_page() -> None:
    lengths = [pacing(8, 1024).length(step, 1000) for step in range(1000)]
    assert [lengths[step] for step in (0, 7, 499, 998, 999)] == [8, 16, 512, 1016, 1024]
    assert sum(lengths) == 512_512
    dwell = [num_steps for _, num_steps in pacing(8, 1024).runs(1000, 1000)]
    assert {n: dwell.count(n) for n in set(dwell)} == {8: 110, 7: 17, 1: 1}


def test_an_exact_landing_is_not_one_alignment_short() -> None:
    """8 + 29 * 800 / 100 is exactly 240; DeepSpeed's floats say 232."""
    assert pacing(8, 808).length(28, 100) == 240


def small_pacings() -> Iterator[Pacing]:
    for degree, multiple_of in product((1, 2, 3), (1, 2, 4)):
        for start, steps_up in product((1, 2, 3), range(6)):
            yield pacing(start * multiple_of, (start + steps_up) * multiple_of, degree, multiple_of)


def test_lengths_and_runs_are_the_formula_on_every_small_schedule() -> None:
    """Exhaustive: 162 schedules, every T up to 18, every total up to 20."""
    for p in small_pacings():
        for warmup_steps in range(1, 19):
            book = [length_by_the_book(p, step, warmup_steps) for step in range(20)]
            assert [p.length(step, warmup_steps) for step in range(20)] == book, (p, warmup_steps)
            for total_steps in (1, 2, 7, 19, 20):
                assert spread(p.runs(total_steps, warmup_steps)) == book[:total_steps], (p, warmup_steps)


@st.composite
def pacings(draw: st.DrawFn) -> Pacing:
    multiple_of = draw(st.integers(1, 64))
    start = draw(st.integers(1, 40))
    top = start + draw(st.integers(0, 200))
    return pacing(start * multiple_of, top * multiple_of, draw(st.integers(1, 5)), multiple_of)


@given(p=pacings(), warmup_steps=st.integers(1, 10**7), more=st.integers(0, 10**6))
def test_every_plan_grows_in_aligned_steps_and_reaches_the_maximum_at_the_last_warmup_step(
    p: Pacing, warmup_steps: int, more: int
) -> None:
    runs = p.runs(warmup_steps + more, warmup_steps)
    assert sum(num_steps for _, num_steps in runs) == warmup_steps + more
    assert all(before[0] < after[0] for before, after in pairwise(runs))
    assert all(seq_len % p.multiple_of == 0 and num_steps > 0 for seq_len, num_steps in runs)
    assert runs[0][0] >= p.start_length
    assert runs[-1][0] == p.max_length
    if p.start_length < p.max_length:
        assert runs[-1][1] == more + 1
    step = 0
    for seq_len, num_steps in runs:  # both borders of each run, by the other formula
        assert p.length(step, warmup_steps) == seq_len == p.length(step + num_steps - 1, warmup_steps)
        step += num_steps


@given(p=pacings(), warmup_steps=st.integers(1, 300), step=st.integers(0, 400))
def test_length_is_the_formula_by_the_book(p: Pacing, warmup_steps: int, step: int) -> None:
    assert p.length(step, warmup_steps) == length_by_the_book(p, step, warmup_steps)


def test_a_plan_of_a_million_steps_costs_no_more_than_one_of_a_thousand() -> None:
    """Per length, not per step: 10**15 steps would never end otherwise."""
    started = perf_counter()
    runs = pacing(8, 1024, degree=2).runs(10**15, 10**14)
    assert perf_counter() - started < 0.5
    assert (len(runs), sum(num_steps for _, num_steps in runs)) == (128, 10**15)


def test_constant_has_one_length_for_any_warmup() -> None:
    control = Pacing.constant(1024)
    assert control.runs(7, 1) == ((1024, 7),)
    assert control.length(0, 1) == 1024
    assert control.describe(1) == {
        "name": "constant",
        "start_length": 1024,
        "max_length": 1024,
        "multiple_of": 8,
    }


REFUSED_PACINGS: list[tuple[dict[str, Any], str]] = [
    ({"start_length": 10}, "start_length 10 is not a multiple of multiple_of 8; use 8 or 16."),
    ({"max_length": 1020}, "max_length 1020 is not a multiple of multiple_of 8; use 1016 or 1024."),
    ({"start_length": 4}, "start_length 4 is not a multiple of multiple_of 8; use 8."),
    ({"start_length": 1, "multiple_of": 16}, "start_length 1 is not a multiple of multiple_of 16; use 16."),
    ({"start_length": 2048}, "start_length 2048 is above max_length 1024"),
    ({"start_length": 0}, "start_length is 0; choose a whole number from 1 to 2147483647."),
    ({"max_length": -8}, "max_length is -8; choose"),
    ({"max_length": 2**31}, "max_length is 2147483648; choose a whole number from 1 to 2147483647."),
    ({"max_length": 10**5000}, "max_length is of 16610 bits; choose"),
    ({"multiple_of": 0}, "multiple_of is 0; choose"),
    ({"max_length": 2**31 - 8}, "268435455 lengths; at most 65536 work, so use a larger multiple_of"),
    ({"start_length": 8.0}, "start_length is 8.0; it must be a whole number"),
    ({"start_length": True}, "start_length is True; it must be a whole number"),
    ({"max_length": "1024"}, "max_length is '1024'; it must be a whole number"),
    (
        {"name": "zigzag"},
        "schedule is 'zigzag'; choose one of linear, root, exponential, sine, cosine, logarithmic, step, doubling, "
        "constant. Installed entry points of group 'curriculum.pacing': none.",
    ),
    ({"name": "phases"}, "schedule is 'phases', which is no pacing function; choose one of linear, root"),
    ({"name": "grow-p2"}, "schedule is 'grow-p2', which is no pacing function; choose one of linear, root"),
    ({"name": "step"}, "schedule 'step' needs stages, how many lengths it has; give stages, such as 2."),
    ({"name": "step", "stages": 1}, "stages is 1; choose a whole number from 2 to 65536."),
    ({"name": "step", "stages": 2.0}, "stages is 2.0; it must be a whole number"),
    (
        {"name": "step", "stages": 129},
        "stages 129 is more than the 128 aligned lengths from 8 to 1024; use at most 128.",
    ),
    (
        {"name": "step", "stages": 2, "start_length": 1024},
        "stages 2 is more than the 1 aligned lengths from 1024 to 1024; use schedule 'constant'.",
    ),
    ({"stages": 2}, "stages 2 does not apply to schedule 'linear'; use schedule 'step' or leave stages out."),
    ({"name": "sine", "degree": 2}, "degree 2 does not apply to schedule 'sine'; use schedule 'root'"),
    (
        {"name": "doubling", "max_length": 1000},
        "max_length 1000 is not start_length 8 doubled a whole number of times; use 512 or 1024.",
    ),
    (
        {"name": "doubling", "start_length": 2**30, "max_length": 2**30 + 8},
        "max_length 1073741832 is not start_length 1073741824 doubled a whole number of times; use 1073741824.",
    ),
    ({"degree": 2}, "degree 2 does not apply to schedule 'linear'; use schedule 'root' or leave degree out."),
    ({"name": "root", "degree": 0}, "degree is 0; choose a whole number from 1 to 64."),
    ({"name": "root", "degree": 65}, "degree is 65; choose"),
    ({"name": "constant"}, "schedule 'constant' has one length, but start_length is 8 and max_length 1024"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED_PACINGS)
def test_a_schedule_that_cannot_work_is_refused_in_one_sentence(change: dict[str, Any], message: str) -> None:
    request: dict[str, Any] = {"name": "linear", "start_length": 8, "max_length": 1024, "multiple_of": 8}
    with pytest.raises(PlanError) as refusal:
        Pacing(**(request | change))
    assert message in str(refusal.value)
    assert str(refusal.value).endswith(".")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("step", "warmup_steps"), [(-1, 10), (0, 0), (0, -5), (True, 10)])
def test_a_step_or_a_warmup_outside_the_schedule_is_refused(step: int, warmup_steps: int) -> None:
    with pytest.raises(PlanError):
        pacing(8, 1024).length(step, warmup_steps)


@pytest.mark.parametrize(
    ("value", "exact"),
    [
        ("0.3", (3, 10)),
        ("1", (1, 1)),
        ("1.0", (1, 1)),
        (".25", (1, 4)),
        ("3e-1", (3, 10)),
        (1, (1, 1)),
        (Decimal("0.1"), (1, 10)),
        (" 0.5 ", (1, 2)),
        ("0." + "0" * 29 + "1", (1, 10**30)),
    ],
)
def test_a_fraction_is_the_exact_decimal(value: str | Decimal | int, exact: tuple[int, int]) -> None:
    assert parse_frac(value) == Fraction(*exact)


@pytest.mark.parametrize(
    "value",
    [0.3, True, None, "0", "-0.1", "1.01", "nan", "sNaN", "inf", "", "a third", "1/3", "1e-999999999", "0." + "3" * 31],
)
def test_a_fraction_that_is_not_an_exact_decimal_in_range_is_refused(value: Any) -> None:
    """1e-999999999 as a Fraction would take the machine's memory; 0.3 as a float is not 3/10."""
    with pytest.raises(PlanError, match=r"^frac "):
        parse_frac(value)


def test_the_warmup_rounds_half_to_even_and_is_at_least_one_step() -> None:
    assert [warmup_steps_of(Fraction(1, 2), total) for total in range(1, 8)] == [1, 1, 2, 2, 2, 3, 4]
    assert [warmup_steps_of(Fraction(3, 10), total) for total in (1, 5, 10, 15, 1000)] == [1, 2, 3, 4, 300]
    assert warmup_steps_of(Fraction(1, 10**30), 1000) == 1


@given(parts=st.integers(1, 10**6), total_steps=st.integers(1, 10**9))
def test_one_more_step_lengthens_the_warmup_by_none_or_one(parts: int, total_steps: int) -> None:
    """The budget solver relies on it."""
    frac = Fraction(parts, 10**6)
    assert warmup_steps_of(frac, total_steps + 1) - warmup_steps_of(frac, total_steps) in (0, 1)
    assert warmup_steps_of(frac, total_steps) <= total_steps
