"""A shape budget changes which lengths the warmup has and how many steps the maximum gets, and nothing else."""

import json
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curriculum.budget import consumed_per_step
from curriculum.errors import PlanError
from curriculum.plan import Batch, Budget, Plan, compile_plan
from curriculum.schedule import Pacing

LINEAR = Pacing(name="linear", start_length=8, max_length=1024)


def linear_plan(**change: Any) -> Plan:
    request: dict[str, Any] = {"pacing": LINEAR, "warmup": Fraction(3, 10), "batch": Batch(rows=16)}
    return compile_plan(**(request | {"budget": Budget(steps=1000)} | change))


def test_a_small_plan_that_can_be_checked_by_eye() -> None:
    """8 -> 32 in 10 steps: 3 steps each of 8, 16 and 24 in turn, then 32. One of 16 and 24 must go. In ratio 24 is
    nearer to 32 than 16 to 8; the three steps at 24 go to 16 or to 32, whose ratio to it is smaller."""
    p = Pacing(name="linear", start_length=8, max_length=32)
    request = {"pacing": p, "warmup": 10, "batch": Batch(rows=1), "budget": Budget(steps=15)}
    assert p.runs(15, 10) == ((8, 3), (16, 3), (24, 3), (32, 6))
    shaped = compile_plan(max_shapes=3, **request)
    assert [(phase.seq_len, phase.num_steps) for phase in shaped.phases] == [(8, 3), (16, 3), (32, 9)]
    assert shaped.schedule == {
        "name": "linear",
        "start_length": 8,
        "max_length": 32,
        "multiple_of": 8,
        "degree": 1,
        "length_warmup_steps": 10,
        "max_shapes": 3,
        "shapes_by": "relative",
    }


def test_a_budget_of_steps_keeps_its_steps_and_its_warmup() -> None:
    ideal, shaped = linear_plan(), linear_plan(max_shapes=8)
    assert (shaped.total_steps, shaped.num_shapes) == (1000, 8)
    assert shaped.schedule["length_warmup_steps"] == ideal.schedule["length_warmup_steps"] == 300
    assert [shaped.phases[0].seq_len, shaped.phases[-1].seq_len] == [8, 1024]


def test_as_many_shapes_as_there_are_change_nothing_but_the_schedule_object() -> None:
    ideal, shaped = linear_plan(), linear_plan(max_shapes=128)
    assert (shaped.phases, shaped.order) == (ideal.phases, ideal.order)
    assert shaped.digest() != ideal.digest()


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    name = draw(st.sampled_from(["linear", "root", "exponential", "sine", "cosine", "doubling"]))
    rises = draw(st.integers(1, 40))
    top = 8 << draw(st.integers(1, 5)) if name == "doubling" else 8 + 8 * rises
    p = Pacing(name=name, start_length=8, max_length=top, degree=2 if name == "root" else 1)
    mode = draw(st.sampled_from(["segment", "truncate", "best-fit"]))
    batches = [Batch(rows=2), Batch(tokens=p.max_length * 3 + 20, rows_multiple_of=1)]
    return {
        "pacing": p,
        "warmup": draw(st.sampled_from([Fraction(1, 2), Fraction(3, 10), 1, 10, 300])),
        # Truncated rows use max_length each: with constant tokens a short step uses up many times a long one.
        "batch": batches[0] if mode == "truncate" else draw(st.sampled_from(batches)),
        "mode": mode,
    }


@given(
    request=requests(),
    max_shapes=st.integers(2, 9),
    by=st.sampled_from(["relative", "absolute"]),
    tokens=st.integers(10**5, 10**7),
    kind=st.sampled_from(["steps", "tokens", "corpus"]),
)
@settings(max_examples=150)
def test_every_shaped_plan_lands_on_its_budget_and_proves_itself(
    request: dict[str, Any], max_shapes: int, by: str, tokens: int, kind: str
) -> None:
    p, batch = request["pacing"], request["batch"]
    most = max(consumed_per_step(batch, request["mode"], seq_len, p.max_length) for seq_len in p.lengths)
    budget = {
        "steps": Budget(steps=500 + tokens // 10**5),
        "tokens": Budget(tokens=tokens + 301 * most),
        "corpus": Budget(corpus_tokens=tokens + 301 * most),
    }[kind]
    ideal = compile_plan(budget=budget, **request)
    shaped = compile_plan(budget=budget, max_shapes=max_shapes, shapes_by=by, **request)
    lengths = [phase.seq_len for phase in shaped.phases]
    assert len(lengths) <= max_shapes
    assert lengths == sorted(lengths)
    assert lengths[-1] == p.max_length
    assert shaped.schedule["length_warmup_steps"] == ideal.schedule["length_warmup_steps"]
    last = shaped.tokens_per_step[-1]
    if kind == "steps":
        assert shaped.total_steps == ideal.total_steps
    elif kind == "tokens":
        assert shaped.total_tokens <= (budget.tokens or 0) < shaped.total_tokens + last
    else:
        last = shaped.consumed_per_row(len(lengths) - 1) * shaped.phases[-1].rows_per_step
        assert shaped.consumed_tokens <= (budget.capacity or 0) < shaped.consumed_tokens + last
    assert Plan.from_json(json.loads(json.dumps(shaped.to_json()))) == shaped


def one_row(name: str, top: int, tokens: int, **change: Any) -> Plan:
    p = Pacing(name=name, start_length=8, max_length=top)
    request: dict[str, Any] = {"pacing": p, "warmup": Fraction(1), "batch": Batch(rows=1)}
    return compile_plan(**(request | {"budget": Budget(tokens=tokens)} | change))


def test_shapes_that_leave_no_step_at_the_maximum_are_refused() -> None:
    """16, 24, 24, 32 in 96 tokens; of three shapes 16 is left out, 24 three times and 32 are 104 tokens."""
    assert [(p.seq_len, p.num_steps) for p in one_row("sine", 32, 96).phases] == [(16, 1), (24, 2), (32, 1)]
    with pytest.raises(PlanError) as refusal:
        one_row("sine", 32, 96, max_shapes=3)
    assert str(refusal.value) == (
        "max_shapes 3 leaves no step at max_length 32, the shorter shapes take the budget; "
        "leave max_shapes out, or use a shorter warmup."
    )
    assert one_row("sine", 32, 96, max_shapes=3, warmup=3).order == ((0, 1), (1, 2))


def test_a_shaped_plan_may_be_shorter_than_its_warmup() -> None:
    """8, 16, 24 in 48 tokens; of two shapes the 16 goes to 24, so that only one of the two steps at 24 fits."""
    assert one_row("cosine", 24, 48).order == ((0, 1), (1, 1), (2, 1))
    shaped = one_row("cosine", 24, 48, max_shapes=2)
    assert (shaped.order, shaped.schedule["length_warmup_steps"]) == (((0, 1), (1, 1)), 3)
    assert Plan.from_json(shaped.to_json()) == shaped


def test_two_shapes_are_the_two_ends_and_switch_at_their_middle() -> None:
    """T = 300: the first step at 96 > sqrt(8 * 1024) = 90.5, or at 520 > (8 + 1024) / 2 = 516."""
    for by, middle in (("relative", 96), ("absolute", 520)):
        plan = linear_plan(max_shapes=2, shapes_by=by)
        switch = dict(zip(LINEAR.lengths, LINEAR.arrivals(300), strict=True))[middle] - 1
        assert [(phase.seq_len, phase.num_steps) for phase in plan.phases] == [(8, switch), (1024, 1000 - switch)]
