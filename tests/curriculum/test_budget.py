"""The solved number of steps is exactly the largest that fits, in any combination, and quickly."""

import json
from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from time import perf_counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from curriculum.budget import Batch, Budget
from curriculum.plan import Plan, compile_plan
from curriculum.schedule import Pacing, warmup_steps_of

LINEAR = Pacing(name="linear", start_length=8, max_length=1024)


def linear_plan(**change: Any) -> Plan:
    request: dict[str, Any] = {"pacing": LINEAR, "warmup": Fraction(3, 10), "batch": Batch(rows=16)}
    return compile_plan(**(request | {"budget": Budget(steps=1000)} | change))


def slow_totals(p: Pacing, batch: Batch, mode: str, total_steps: int, warmup_steps: int) -> tuple[int, int]:
    """(trained, consumed) tokens, step by step."""
    lengths = [p.length(step, warmup_steps) for step in range(total_steps)]
    rows = [batch.rows_per_step(seq_len) for seq_len in lengths]
    trained = sum(n * seq_len for n, seq_len in zip(rows, lengths, strict=True))
    return trained, trained if mode == "segment" else sum(rows) * p.max_length


BATCHES = [Batch(rows=1), Batch(rows=3), *(Batch(tokens=n, rows_multiple_of=1) for n in (12, 13, 17, 23))]
BATCHES += [Batch(tokens=n, rows_multiple_of=2) for n in (24, 31, 45)]
WARMUPS: list[Fraction | int] = [Fraction(1), Fraction(3, 10), Fraction(1, 2), Fraction(1, 1000), 1, 7, 25]


def small_requests() -> Iterator[tuple[Pacing, Fraction | int, Batch, str]]:
    pacings = [
        Pacing(name="linear", start_length=1, max_length=12, multiple_of=1),
        Pacing(name="linear", start_length=6, max_length=10, multiple_of=2),
        Pacing(name="root", start_length=2, max_length=12, multiple_of=1, degree=2),
        Pacing(name="root", start_length=4, max_length=4, multiple_of=4, degree=3),
    ]
    yield from product(pacings, WARMUPS, BATCHES, ("segment", "truncate"))


def test_the_solved_total_is_the_largest_that_fits_by_brute_force() -> None:
    """Every budget, tokens and one pass, of 504 small requests; fails if a larger total fits, also where tokens
    per step fall with the length, or if the total found does not fit."""
    for p, warmup, batch, mode in small_requests():
        totals = range(1, 61)
        fits = [s for s in totals if not isinstance(warmup, int) or warmup <= s]
        sums = {
            s: slow_totals(p, batch, mode, s, warmup if isinstance(warmup, int) else warmup_steps_of(warmup, s))
            for s in fits
        }
        for kind, steps, more in product((0, 1), (1, 2, 3, 5, 8, 13, 21, 34, 50), (-1, 0, 1)):
            if steps not in sums:
                continue
            limit = sums[steps][kind] + more
            best = max((s for s in fits if sums[s][kind] <= limit), default=0)
            if best == 0:
                continue  # refused, see below
            budget = Budget(tokens=limit) if kind == 0 else Budget(corpus_tokens=limit + 1)
            plan = compile_plan(pacing=p, warmup=warmup, batch=batch, budget=budget, mode=mode)
            assert plan.total_steps == best, (p, warmup, batch, mode, budget)
            assert (plan.total_tokens, plan.consumed_tokens) == sums[best]


def test_a_longer_run_that_trains_fewer_tokens_is_found() -> None:
    """48 tokens in single rows, 1 -> 32: 18 steps train 627 tokens, 17 steps 628. Bisection over the sums says 16."""
    p = Pacing(name="linear", start_length=1, max_length=32, multiple_of=1)
    batch = Batch(tokens=48, rows_multiple_of=1)
    sums = [slow_totals(p, batch, "segment", s, warmup_steps_of(Fraction(1, 2), s))[0] for s in range(1, 100)]
    assert sums[15:18] == [596, 628, 627]
    for limit in range(32, sums[80]):
        plan = compile_plan(pacing=p, warmup=Fraction(1, 2), batch=batch, budget=Budget(tokens=limit))
        assert plan.total_steps == max(s for s, total in enumerate(sums, 1) if total <= limit)


@st.composite
def any_requests(draw: st.DrawFn) -> dict[str, Any]:
    multiple_of = draw(st.sampled_from([1, 2, 8, 16]))
    start = draw(st.integers(1, 20))
    top = start + draw(st.integers(0, 60))
    degree = draw(st.integers(1, 3))
    name = "linear" if degree == 1 else "root"
    p = Pacing(
        name=name,
        start_length=start * multiple_of,
        max_length=top * multiple_of,
        multiple_of=multiple_of,
        degree=degree,
    )
    rows_multiple_of = draw(st.sampled_from([1, 2, 8]))
    rows = rows_multiple_of * draw(st.integers(1, 40))
    spare_tokens = draw(st.integers(0, p.max_length * 8))
    batch = draw(
        st.sampled_from(
            [
                Batch(rows=rows, rows_multiple_of=rows_multiple_of),
                Batch(tokens=rows * p.max_length + spare_tokens, rows_multiple_of=rows_multiple_of),
            ]
        )
    )
    frac = Fraction(draw(st.integers(1, 1000)), 1000)
    return {"pacing": p, "warmup": frac, "batch": batch, "mode": draw(st.sampled_from(["segment", "truncate"]))}


@given(request=any_requests(), epochs=st.integers(1, 3), steps_worth=st.integers(10, 10**7))
def test_one_pass_uses_the_corpus_up_to_less_than_the_next_step(
    request: dict[str, Any], epochs: int, steps_worth: int
) -> None:
    """The neighbours: K fits; one step more does not. With falling tokens per step, several more do not either."""
    p, batch = request["pacing"], request["batch"]
    corpus = batch.rows_per_step(p.start_length) * p.max_length * steps_worth
    plan = compile_plan(budget=Budget(corpus_tokens=corpus, epochs=epochs), **request)
    assert plan.consumed_tokens <= epochs * corpus - 1
    for more in (1, 2, 3, 10):
        longer = compile_plan(budget=Budget(steps=plan.total_steps + more), **request)
        assert longer.consumed_tokens > epochs * corpus - 1


@given(request=any_requests(), total_steps=st.integers(1, 5000))
@settings(max_examples=60)
def test_a_plan_adds_up(request: dict[str, Any], total_steps: int) -> None:
    plan = compile_plan(budget=Budget(steps=total_steps), **request)
    assert plan.total_steps == total_steps == sum(num_steps for _, num_steps in plan.order)
    assert plan.total_tokens == sum(phase.num_tokens for phase in plan.phases)
    assert plan.total_tokens + plan.dropped_tokens == plan.consumed_tokens
    rows = [phase.num_rows for phase in plan.phases]
    assert plan.consumed_tokens == sum(n * plan.consumed_per_row(i) for i, n in enumerate(rows))
    assert plan.num_shapes == len({(phase.seq_len, phase.rows_per_step) for phase in plan.phases})
    assert all(phase.rows_per_step % n == 0 for n in plan.world_sizes for phase in plan.phases)
    assert plan.max_seq_len == request["pacing"].max_length
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_planning_is_fast_at_every_scale() -> None:
    """16,384 lengths with batches that rise and fall, and 300,000 steps of 128; about 0.4 s and 2 ms here."""
    wide = Pacing(name="root", start_length=8, max_length=131_072, degree=2)
    started = perf_counter()
    plan = compile_plan(
        pacing=wide,
        warmup=Fraction(3, 10),
        batch=Batch(tokens=2**20),
        budget=Budget(corpus_tokens=300_000 * 2**20),
    )
    assert plan.num_shapes > 15_000
    assert perf_counter() - started < 10  # a scan step by step takes minutes
    started = perf_counter()
    linear_plan(budget=Budget(steps=300_000))
    assert perf_counter() - started < 0.5
