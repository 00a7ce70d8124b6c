"""A warmup by tokens is the longest whose steps train at most that many, whatever ends the run."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curriculum.plan import Batch, Budget, Plan, compile_plan
from curriculum.schedule import Pacing, TokenWarmup, parse_phases

LINEAR = Pacing(name="linear", start_length=8, max_length=1024)


def plan_of(tokens: int, budget: Budget, batch: Batch | None = None, mode: str = "segment") -> Plan:
    warmup = TokenWarmup(tokens=tokens)
    return compile_plan(pacing=LINEAR, warmup=warmup, batch=batch or Batch(rows=512), budget=budget, mode=mode)


def test_the_warmup_of_the_paper_in_tokens_is_its_warmup_in_steps() -> None:
    """8 -> 1024 over 1,000 steps of 512 rows trains 512 * 512,512 tokens; one token less is one step less."""
    tokens = 512 * 512_512
    by_steps = compile_plan(pacing=LINEAR, warmup=1000, batch=Batch(rows=512), budget=Budget(steps=3000))
    by_tokens = plan_of(tokens, Budget(steps=3000))
    assert by_tokens.schedule["length_warmup_steps"] == 1000
    assert by_tokens == by_steps
    assert by_tokens.digest() == by_steps.digest()
    assert plan_of(tokens - 1, Budget(steps=3000)).schedule["length_warmup_steps"] == 999


def test_truncation_counts_trained_tokens_and_not_consumed_ones() -> None:
    assert plan_of(512 * 512_512, Budget(steps=3000), mode="truncate").schedule["length_warmup_steps"] == 1000


@pytest.mark.parametrize("mode", ["segment", "truncate"])
def test_the_total_is_solved_as_with_that_warmup_in_steps(mode: str) -> None:
    for budget in (Budget(steps=2000), Budget(tokens=10**9), Budget(corpus_tokens=3 * 10**9)):
        plan = plan_of(10**8, budget, mode=mode)
        steps = plan.schedule["length_warmup_steps"]
        assert isinstance(steps, int)
        assert plan == compile_plan(pacing=LINEAR, warmup=steps, batch=Batch(rows=512), budget=budget, mode=mode)
        assert plan.tokens_at(steps) <= 10**8


@given(
    name=st.sampled_from(["linear", "exponential", "sine", "cosine", "logarithmic"]),
    top=st.integers(2, 24),
    batch=st.sampled_from([Batch(rows=1), Batch(rows=3), *(Batch(tokens=n, rows_multiple_of=1) for n in (24, 31, 47))]),
    steps_worth=st.integers(1, 60),
    more=st.integers(-1, 1),
)
def test_the_longest_warmup_by_brute_force(name: str, top: int, batch: Batch, steps_worth: int, more: int) -> None:
    """Also where tokens per step fall with the length."""
    p = Pacing(name=name, start_length=1, max_length=top, multiple_of=1)

    def trained(warmup_steps: int) -> int:
        return sum(batch.tokens_per_step(n) * steps for n, steps in p.runs(warmup_steps, warmup_steps))

    tokens = max(trained(steps_worth) + more, batch.tokens_per_step(top))
    plan = compile_plan(pacing=p, warmup=TokenWarmup(tokens=tokens), batch=batch, budget=Budget(steps=10**4))
    longest = max(steps for steps in range(1, 4 * (steps_worth + top)) if trained(steps) <= tokens)
    assert plan.schedule["length_warmup_steps"] == longest


def test_an_open_phase_lasts_until_the_budget_ends() -> None:
    """20 steps of 8, then as many of 32 as fit. In truncate mode every row uses 32 tokens of the corpus."""
    phases, batch = parse_phases("8:20,32:*"), Batch(rows=2)

    def steps_at_32(budget: Budget, mode: str = "segment") -> int:
        plan = compile_plan(pacing=phases, warmup=None, batch=batch, budget=budget, mode=mode)
        assert plan.order[0] == (0, 20)
        return plan.order[1][1]

    assert steps_at_32(Budget(steps=27)) == 7
    assert [steps_at_32(Budget(tokens=320 + n)) for n in (64, 127, 128, 6400)] == [1, 1, 2, 100]
    assert [steps_at_32(Budget(corpus_tokens=320 + n)) for n in (65, 128, 129)] == [1, 1, 2]
    assert steps_at_32(Budget(corpus_tokens=1344 + 1), mode="truncate") == 1
    assert steps_at_32(Budget(tokens=320 + 128), mode="truncate") == 2
    assert steps_at_32(Budget(corpus_tokens=200, epochs=2)) == 1


def test_an_open_plan_is_the_plan_with_the_number_written_out() -> None:
    request = {"warmup": None, "batch": Batch(rows=2)}
    written = compile_plan(pacing=parse_phases("8:20,32:7"), budget=Budget(), **request)
    left_open = compile_plan(pacing=parse_phases("8:20,32:*"), budget=Budget(steps=27), **request)
    assert left_open.digest() == written.digest()
    assert Plan.from_json(left_open.to_json()) == written


def test_a_warmup_of_all_tokens_is_the_whole_run() -> None:
    plan = plan_of(10**9, Budget(tokens=10**9))
    whole = compile_plan(pacing=LINEAR, warmup=Fraction(1), batch=Batch(rows=512), budget=Budget(tokens=10**9))
    assert plan == whole
