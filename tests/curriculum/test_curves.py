"""Every curve is its published formula at every step, lands exactly where the formula does, and is quick."""

from collections.abc import Callable, Iterator
from decimal import ROUND_FLOOR, Decimal, localcontext
from fractions import Fraction
from itertools import pairwise
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curriculum.curves import UNIT, cosine_curve, exponential_curve, logarithmic_curve, sampled_curve, sine_curve
from curriculum.plan import Batch, Budget, compile_plan
from curriculum.schedule import Pacing

PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803")
SMOOTH = ("exponential", "sine", "cosine", "logarithmic")


def smooth(name: str, start: int, top: int, multiple_of: int = 8) -> Pacing:
    return Pacing(name=name, start_length=start, max_length=top, multiple_of=multiple_of)


def sine(x: Decimal) -> Decimal:
    """sin(x) for 0 <= x <= pi / 2, by its series."""
    total, term, odd = Decimal(0), x, 1
    while abs(term) > Decimal(10) ** -75:
        total, odd = total + term, odd + 2
        term *= -x * x / ((odd - 1) * odd)
    return total


FORMULAS: dict[str, Callable[[Decimal, int, int], Decimal]] = {
    "exponential": lambda x, start, top: start * (x * (Decimal(top) / start).ln()).exp(),
    "sine": lambda x, start, top: start + (top - start) * sine(PI * x / 2),
    "cosine": lambda x, start, top: start + (top - start) * (1 - sine(PI * (1 - x) / 2)),
    "logarithmic": lambda x, start, top: start + (top - start) * (1 + (x + Decimal(-10).exp()).ln() / 10),
}


def by_the_formula(p: Pacing, warmup_steps: int) -> Iterator[int]:
    """To 75 digits, step by step. A value within 10**-50 below a whole number is that number: no 75 digits tell it
    from an exact landing, such as sin(pi / 6)."""
    with localcontext(prec=80):
        for t in range(1, warmup_steps + 3):
            x = Decimal(min(t, warmup_steps)) / warmup_steps
            value = FORMULAS[p.name](x, p.start_length, p.max_length) + Decimal(10) ** -50
            whole = int(value.to_integral_value(ROUND_FLOOR)) // p.multiple_of * p.multiple_of
            yield max(p.start_length, min(whole, p.max_length))


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize(("start", "top", "multiple_of"), [(8, 1024, 8), (1, 60, 1), (64, 192, 64), (1000, 1003, 1)])
def test_every_step_is_the_published_formula(name: str, start: int, top: int, multiple_of: int) -> None:
    p = smooth(name, start, top, multiple_of)
    for warmup_steps in (1, 2, 3, 7, 12, 90, 280):
        expected = list(by_the_formula(p, warmup_steps))
        assert [p.length(step, warmup_steps) for step in range(warmup_steps + 2)] == expected, warmup_steps


# SkyLadder's own code, run for shared research notes (slw.md 3.9): {its step: length}, 32 -> 8193. It counts steps
# from 0 at the start length, so its step s is our step s - 1. Its cosine is at the maximum at half of its duration.
SKYLADDER = {
    "dm1": ("linear", 8_161, {8: 40, 100: 132, 1000: 1032, 8000: 8032, 16000: 8193}),
    "dm8": (
        "linear",
        65_288,
        {8: 33, 100: 44, 1000: 157, 8000: 1032, 16000: 2032, 32000: 4032, 40000: 5032, 64000: 8032, 65288: 8193},
    ),
    "sin8": (
        "sine",
        65_288,
        {8: 33, 100: 51, 1000: 228, 8000: 1593, 16000: 3096, 32000: 5712, 40000: 6728, 64000: 8189, 65288: 8193},
    ),
    "exp8": (
        "exponential",
        65_288,
        {8: 32, 100: 32, 1000: 34, 8000: 63, 16000: 124, 32000: 484, 40000: 956, 64000: 7343, 65288: 8193},
    ),
    "lin80p": (
        "linear",
        80_000,
        {8: 32, 100: 42, 1000: 134, 8000: 848, 16000: 1664, 32000: 3296, 40000: 4112, 64000: 6560, 65288: 6692}
        | {80000: 8193},
    ),
    "cos8": ("cosine", 32_644, {8: 32, 100: 32, 1000: 41, 8000: 629, 16000: 2333, 32000: 7940, 40000: 8193}),
}


@pytest.mark.parametrize("key", SKYLADDER)
def test_skyladder_lengths_are_reproduced(key: str) -> None:
    name, warmup_steps, lengths = SKYLADDER[key]
    p = smooth(name, 32, 8193, multiple_of=1)
    assert {step: p.length(step - 1, warmup_steps) for step in lengths} == lengths


@pytest.mark.parametrize(
    ("p", "warmup_steps", "arrivals"),
    [
        (smooth("exponential", 8, 1024), 700, {16: 100, 32: 200, 64: 300, 128: 400, 256: 500, 512: 600, 1024: 700}),
        (smooth("exponential", 8, 1024), 7 * 10**17, {16: 10**17, 512: 6 * 10**17}),
        (smooth("sine", 8, 1032), 9, {520: 3, 1032: 9}),
        (smooth("sine", 8, 1032), 3 * 10**18, {520: 10**18}),
        (smooth("cosine", 8, 1032), 9, {520: 6, 1032: 9}),
        (smooth("cosine", 8, 1032), 3 * 10**18, {520: 2 * 10**18}),
    ],
)
def test_a_share_that_is_rational_lands_exactly(p: Pacing, warmup_steps: int, arrivals: dict[int, int]) -> None:
    """ln 2 / ln 128 = 1 / 7, asin(1 / 2) = pi / 6: one ulp of noise, rounded up, would be a step late."""
    by_length = dict(zip(p.lengths, p.arrivals(warmup_steps), strict=True))
    assert {seq_len: by_length[seq_len] for seq_len in arrivals} == arrivals
    for seq_len, t in arrivals.items():
        assert p.length(t - 1, warmup_steps) == seq_len > p.length(t - 2, warmup_steps)


def test_shares_that_have_a_name_are_that_number_to_sixty_digits() -> None:
    digits = Decimal(10) ** -60
    with localcontext(prec=80):
        assert (
            abs(Decimal(exponential_curve(range(8, 33, 8)).shares[2]) / UNIT - Decimal(3).ln() / Decimal(4).ln())
            < digits
        )
        assert abs(Decimal(sine_curve(2).shares[1]) / UNIT - Decimal(1) / 3) < digits
        assert abs(Decimal(cosine_curve(2).shares[1]) / UNIT - Decimal(2) / 3) < digits
        half = Decimal(-5).exp() - Decimal(-10).exp()
        assert abs(Decimal(logarithmic_curve(2).shares[1]) / UNIT - half) < digits


def test_the_logarithmic_curve_is_at_the_maximum_one_part_in_22026_before_the_end() -> None:
    p = smooth("logarithmic", 8, 1024)
    assert p.arrivals(22_026)[-1] == 22_026
    assert p.arrivals(10**6)[-1] == 999_955  # 10**6 * (1 - e**-10) = 999,954.6


STAGES = {
    "Shortformer: 140,100 updates of 128, then 512 to 286,000": (
        Pacing(name="step", start_length=128, max_length=512, stages=2),
        (286_000, 140_101),
        ((128, 140_100), (512, 145_900)),
    ),
    "modded-nanogpt: 896 for a third, then 2048": (
        Pacing(name="step", start_length=896, max_length=2048, multiple_of=128, stages=2),
        (900, 300),
        ((896, 299), (2048, 601)),
    ),
    "three stages": (
        Pacing(name="step", start_length=8, max_length=40, stages=3),
        (10, 7),
        ((8, 3), (24, 3), (40, 4)),
    ),
    "lengths between are rounded down": (
        Pacing(name="step", start_length=8, max_length=64, stages=4),
        (9, 9),
        ((8, 2), (24, 3), (40, 3), (64, 1)),
    ),
    "GrowLength: 128 to 4096": (
        Pacing(name="doubling", start_length=128, max_length=4096),
        (600, 500),
        ((128, 99), (256, 100), (512, 100), (1024, 100), (2048, 100), (4096, 101)),
    ),
    "autoresearch 121: 256 for the first 10 %, doubling to 2048": (
        Pacing(name="doubling", start_length=256, max_length=2048),
        (1000, 300),
        ((256, 99), (512, 100), (1024, 100), (2048, 701)),
    ),
    "an odd start": (
        Pacing(name="doubling", start_length=3, max_length=12, multiple_of=1),
        (5, 3),
        ((3, 1), (6, 1), (12, 3)),
    ),
}


@pytest.mark.parametrize("name", STAGES)
def test_stages_are_flat_and_equally_long(name: str) -> None:
    """The step that the last stage begins at is the last warmup step, as for every pacing: stage j begins at
    t = ceil(T * j / n)."""
    p, (total_steps, warmup_steps), runs = STAGES[name]
    assert p.runs(total_steps, warmup_steps) == runs


def test_the_schedule_object_says_what_the_pacing_has_and_nothing_else() -> None:
    assert Pacing(name="step", start_length=8, max_length=64, stages=2).describe(9) == {
        "name": "step",
        "start_length": 8,
        "max_length": 64,
        "multiple_of": 8,
        "stages": 2,
        "length_warmup_steps": 9,
    }
    assert set(smooth("cosine", 8, 64).describe(9)) == {
        "name",
        "start_length",
        "max_length",
        "multiple_of",
        "length_warmup_steps",
    }
    assert smooth("linear", 8, 64).describe(9)["degree"] == 1  # as it was from the beginning: old digests stay


NAMES = st.sampled_from([*SMOOTH, "linear", "root", "step", "doubling"])


@st.composite
def pacings(draw: st.DrawFn) -> Pacing:
    name = draw(NAMES)
    multiple_of = draw(st.integers(1, 64))
    start = draw(st.integers(1, 40))
    top = start << draw(st.integers(0, 6)) if name == "doubling" else start + draw(st.integers(1, 200))
    return Pacing(
        name=name,
        start_length=start * multiple_of,
        max_length=top * multiple_of,
        multiple_of=multiple_of,
        degree=draw(st.integers(2, 4)) if name == "root" else 1,
        stages=draw(st.integers(2, top - start + 1)) if name == "step" else None,
    )


@given(p=pacings(), warmup_steps=st.integers(1, 20_000), more=st.integers(0, 10**6))
def test_every_pacing_grows_aligned_from_start_to_max_on_the_last_warmup_step(
    p: Pacing, warmup_steps: int, more: int
) -> None:
    """And `length` agrees with `runs` on both borders of each run."""
    runs = p.runs(warmup_steps + more, warmup_steps)
    assert sum(num_steps for _, num_steps in runs) == warmup_steps + more
    assert all(before[0] < after[0] for before, after in pairwise(runs))
    assert all(seq_len % p.multiple_of == 0 and p.start_length <= seq_len <= p.max_length for seq_len, _ in runs)
    assert runs[-1] == (p.max_length, more + 1) or p.start_length == p.max_length
    if warmup_steps > 2**16 * len(p.lengths):
        assert runs[0][0] == p.start_length
    step = 0
    for seq_len, num_steps in runs:
        assert p.length(step, warmup_steps) == seq_len == p.length(step + num_steps - 1, warmup_steps)
        step += num_steps


@given(p=pacings(), warmup_steps=st.integers(1, 2**62))
def test_one_more_step_of_warmup_moves_every_arrival_by_none_or_one(p: Pacing, warmup_steps: int) -> None:
    """The budget solver relies on it."""
    now, then = p.arrivals(warmup_steps), p.arrivals(warmup_steps + 1)
    assert {after - before for before, after in zip(now, then, strict=True)} <= {0, 1}
    assert all(before <= after for before, after in pairwise(now))
    assert now[0] == 1
    assert now[-1] <= warmup_steps


@given(p=pacings(), frac=st.integers(1, 100), tokens=st.integers(10**6, 10**9), rows=st.booleans())
def test_any_pacing_lands_on_its_token_budget(p: Pacing, frac: int, tokens: int, rows: bool) -> None:
    batch = Batch(rows=1) if rows else Batch(tokens=p.max_length + 37, rows_multiple_of=1)
    request = {"pacing": p, "warmup": Fraction(frac, 100), "batch": batch}
    plan = compile_plan(budget=Budget(tokens=tokens), **request)
    assert plan.total_tokens <= tokens
    assert all(
        compile_plan(budget=Budget(steps=plan.total_steps + more), **request).total_tokens > tokens for more in (1, 2)
    )


def test_the_largest_schedules_are_usable() -> None:
    """65,536 lengths; 1.3 s here for the angles of the sine, 0.2 s for the logarithms, once; then 20 ms each time,
    which a budget is solved by some sixty times."""
    for name in ("sine", "exponential"):
        p = Pacing(name=name, start_length=8, max_length=8 * 65_536)
        started = perf_counter()
        assert len(p.runs(10**7, 10**6)) > 60_000
        assert perf_counter() - started < 15, name
        started = perf_counter()
        p.arrivals(10**6)
        assert perf_counter() - started < 0.5, name


def test_a_function_is_sampled_to_a_millionth_of_a_step() -> None:
    """f(x) = x is linear at every step, though 3 / 10 is no multiple of 2**-50; and x**2 is root of degree 1/2."""
    identity, linear = sampled_curve(float, 10), Pacing(name="linear", start_length=8, max_length=88)
    for warmup_steps in (1, 7, 10, 99, 1000, 10**9):
        arrivals = [max(1, -(-(warmup_steps * s - identity.slack) // identity.unit)) for s in identity.shares]
        assert arrivals == linear.arrivals(warmup_steps)
    square = sampled_curve(lambda x: x * x, 4).shares
    assert [round(share / 2**50, 12) for share in square] == [0, 0.5, round(0.5**0.5, 12), round(0.75**0.5, 12), 1]
