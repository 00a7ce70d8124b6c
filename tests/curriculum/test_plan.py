"""Plans add up, locate steps by arithmetic, hash equal when they are equal, and match published settings."""

import json
import pickle
import tomllib
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curriculum.budget import Batch, Budget
from curriculum.errors import PlanError
from curriculum.phase import Phase
from curriculum.plan import Plan, compile_plan
from curriculum.schedule import ExplicitPhases, Pacing, parse_frac, parse_phases

LINEAR = Pacing(name="linear", start_length=8, max_length=1024)
CONFIGS = Path(__file__).parents[2] / "configs"


def linear_plan(**change: Any) -> Plan:
    request: dict[str, Any] = {"pacing": LINEAR, "warmup": Fraction(3, 10), "batch": Batch(rows=16)}
    return compile_plan(**(request | {"budget": Budget(steps=1000)} | change))


def test_the_example_of_the_issue_has_the_published_lengths_and_tokens() -> None:
    plan = linear_plan(warmup=Fraction(1), batch=Batch(rows=512))
    assert (plan.total_steps, plan.num_shapes, plan.total_tokens) == (1000, 128, 512 * 512_512)
    seen = [plan.phases[plan.locate(step)[0]].seq_len for step in (0, 6, 7, 15, 499, 991, 992, 998, 999)]
    assert seen == [8, 8, 16, 24, 512, 1008, 1016, 1016, 1024]
    assert plan.world_sizes == (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


def test_the_plan_object_has_the_keys_of_the_contract_in_their_order() -> None:
    plan = compile_plan(pacing=parse_phases("8:2,16:1,8:1"), warmup=None, batch=Batch(rows=4), budget=Budget())
    assert json.dumps(plan.to_json()) == (
        '{"format": "curriculum-plan", "version": 1, "mode": "segment", "total_steps": 4, "total_tokens": 160, '
        '"max_seq_len": 16, "num_shapes": 2, "dropped_tokens": 0, '
        '"schedule": {"name": "phases", "max_length": 16, "multiple_of": 8}, '
        '"phases": [{"seq_len": 8, "rows_per_step": 4, "num_steps": 3, "num_rows": 12, "num_tokens": 96}, '
        '{"seq_len": 16, "rows_per_step": 4, "num_steps": 1, "num_rows": 4, "num_tokens": 64}], '
        '"order": [[0, 2], [1, 1], [0, 1]]}'
    )
    assert [plan.locate(step) for step in range(4)] == [(0, 0), (0, 4), (1, 0), (0, 8)]
    assert [plan.remaining_phases(step) for step in range(5)] == [(0, 1), (0, 1), (1, 0), (0,), ()]


def test_the_digest_never_changes() -> None:
    """Datasets on disk carry it: a new digest for an old plan orphans them. Canonical JSON, sha256."""
    plan = compile_plan(pacing=parse_phases("8:2,16:1,8:1"), warmup=None, batch=Batch(rows=4), budget=Budget())
    assert plan.digest() == "ee2fc34c9b7fe31e44cd7bef5959db0c9e4fa6c1a02737717e3aa8fb91b34c9b"


def test_equal_plans_hash_equal_however_they_were_asked_for() -> None:
    by_frac = linear_plan(warmup=parse_frac("0.300"))
    by_steps = linear_plan(warmup=300)
    by_tokens = linear_plan(budget=Budget(tokens=by_frac.total_tokens))
    assert by_frac == by_steps == by_tokens
    assert by_frac.digest() == by_steps.digest() == by_tokens.digest()
    assert linear_plan(warmup=301).digest() != by_frac.digest()
    assert by_frac.schedule["length_warmup_steps"] == 300


def test_truncation_counts_what_it_drops() -> None:
    plan = linear_plan(warmup=Fraction(1), batch=Batch(rows=2), mode="truncate")
    assert (plan.total_tokens, plan.consumed_tokens) == (2 * 512_512, 2 * 1024 * 1000)
    assert plan.dropped_tokens == 2 * (1024 * 1000 - 512_512)
    assert plan.consumed_per_row(0) == 1024
    assert linear_plan(warmup=Fraction(1)).dropped_tokens == 0


def test_only_truncation_uses_up_more_than_a_row_holds() -> None:
    for mode in ("segment", "best-fit"):
        plan = linear_plan(warmup=Fraction(1), batch=Batch(rows=2), mode=mode)
        assert (plan.consumed_per_row(0), plan.dropped_tokens, plan.consumed_tokens) == (8, 0, 2 * 512_512)
        assert Plan.from_json(plan.to_json()) == plan


def test_truncation_budgets_the_corpus_by_full_rows_and_tokens_by_trained_ones() -> None:
    one_pass = linear_plan(budget=Budget(corpus_tokens=16 * 1024 * 50 + 1), mode="truncate")
    assert one_pass.total_steps == 50
    assert linear_plan(budget=Budget(corpus_tokens=16 * 1024 * 50), mode="truncate").total_steps == 49
    assert linear_plan(budget=Budget(tokens=one_pass.total_tokens), mode="truncate").total_steps == 50


def test_constant_tokens_round_rows_down_and_say_when_batches_are_underfull() -> None:
    plan = compile_plan(pacing=parse_phases("8:1,1024:1"), warmup=None, batch=Batch(tokens=10_000), budget=Budget())
    assert [phase.rows_per_step for phase in plan.phases] == [1248, 8]
    assert (plan.tokens_per_step, plan.min_tokens_per_step) == ((9984, 8192), 8192)
    assert plan.world_sizes == (1, 2, 4, 8)
    assert Batch(tokens=10_000).is_underfull(8192)
    assert Batch(tokens=10_000).is_underfull(8999)
    assert not Batch(tokens=10_000).is_underfull(9000)
    assert not Batch(rows=16).is_underfull(1)


def test_world_sizes_of_what_remains_may_be_more_than_those_of_all() -> None:
    batch = Batch(tokens=96, rows_multiple_of=1)
    plan = compile_plan(pacing=parse_phases("32:1,8:1"), warmup=None, batch=batch, budget=Budget())
    assert [phase.rows_per_step for phase in plan.phases] == [3, 12]
    assert (plan.world_sizes, plan.divisors(1), plan.divisors(2)) == ((1, 3), (1, 2, 3, 4, 6, 12), ())


def test_the_default_multiples_of_rows_are_one_and_eight() -> None:
    assert Batch(rows=3) == Batch(rows=3, rows_multiple_of=1)
    assert Batch(tokens=8192) == Batch(tokens=8192, rows_multiple_of=8)


@given(
    runs=st.lists(st.tuples(st.sampled_from([8, 16, 24]), st.integers(1, 5)), min_size=1, max_size=8),
    rows=st.integers(1, 6),
    mode=st.sampled_from(["segment", "truncate"]),
)
def test_locating_a_step_is_counting_rows_from_the_beginning(runs: list[tuple[int, int]], rows: int, mode: str) -> None:
    """Fast path = slow path, for phases that come back too."""
    pacing = ExplicitPhases(steps_by_length=tuple(runs))
    plan = compile_plan(pacing=pacing, warmup=None, batch=Batch(rows=rows), budget=Budget(), mode=mode)
    step = tokens = consumed = 0
    next_row = [0] * len(plan.phases)
    for seq_len, num_steps in runs:
        for _ in range(num_steps):
            phase, first_row = plan.locate(step)
            assert plan.phases[phase].seq_len == seq_len
            assert first_row == next_row[phase]
            assert (plan.tokens_at(step), plan.consumed_at(step)) == (tokens, consumed)
            remaining = {plan.locate(later)[0] for later in range(step, plan.total_steps)}
            assert sorted(plan.remaining_phases(step)) == sorted(remaining)
            next_row[phase] += rows
            tokens += rows * seq_len
            consumed += rows * (seq_len if mode == "segment" else plan.max_seq_len)
            step += 1
    assert (plan.total_steps, plan.total_tokens, plan.consumed_tokens) == (step, tokens, consumed)
    assert next_row == [phase.num_rows for phase in plan.phases]


def test_phases_and_orders_are_checked_where_they_are_made_by_hand() -> None:
    with pytest.raises(PlanError, match="num_steps is 0"):
        Phase(seq_len=8, rows_per_step=4, num_steps=0)
    phase = Phase(seq_len=8, rows_per_step=4, num_steps=3)
    with pytest.raises(PlanError, match="order gives phase 0 2 steps, but the phase has 3"):
        Plan(mode="segment", max_seq_len=8, schedule={"name": "phases"}, phases=(phase,), order=((0, 2),))
    second = Phase(seq_len=16, rows_per_step=4, num_steps=3)
    with pytest.raises(PlanError, match="order visits phase 1 where at most 0 can follow"):
        Plan(
            mode="segment",
            max_seq_len=16,
            schedule={"name": "phases"},
            phases=(second, phase),
            order=((1, 3), (0, 3)),
        )
    with pytest.raises(PlanError, match="two phases have equal seq_len and rows_per_step"):
        Plan(
            mode="segment",
            max_seq_len=8,
            schedule={"name": "phases"},
            phases=(phase, phase),
            order=((0, 3), (1, 3)),
        )


@pytest.mark.parametrize(
    ("start", "top", "warmup_steps", "rows", "tokens", "total_steps"),
    [
        (64, 2048, 36_000, 2048, 300 * 10**9, 89_032),  # BigScience 104B: the 89,033rd step passes the budget
        (80, 2048, 110_000, 512, 300 * 10**9, 339_168),  # GPT-3 1.3B, seqlen_truncate
        (64, 1024, 45_000, 4096, 157_286_400_000, 58_768),  # GPT-2 1.5B
    ],
)
def test_published_token_budgets_take_the_published_number_of_steps(
    start: int, top: int, warmup_steps: int, rows: int, tokens: int, total_steps: int
) -> None:
    """slw.md 3.4 counts the step that passes the budget; a plan stays within it."""
    pacing = Pacing(name="linear", start_length=start, max_length=top)
    plan = linear_plan(pacing=pacing, warmup=warmup_steps, batch=Batch(rows=rows), budget=Budget(tokens=tokens))
    assert plan.total_steps == total_steps
    assert plan.total_tokens <= tokens < plan.total_tokens + rows * top


def test_the_bigscience_schedule_dwells_145_steps_on_most_of_249_lengths() -> None:
    runs = Pacing(name="linear", start_length=64, max_length=2048).runs(36_000, 36_000)
    assert len(runs) == 249
    assert {num_steps for _, num_steps in runs} == {145, 146, 1}


def config_plan(name: str) -> Plan:
    """As the command line reads it, without the command line."""
    text = (CONFIGS / name).read_text()
    assert text.startswith("# ")
    assert "\n# Source: " in text
    c = tomllib.loads(text, parse_float=Decimal)
    p = (
        Pacing.constant(c["max_length"], c["multiple_of"])
        if c["schedule"] == "constant"
        else Pacing(
            name=c["schedule"],
            start_length=c["start_length"],
            max_length=c["max_length"],
            multiple_of=c["multiple_of"],
        )
    )
    warmup = parse_frac(c["frac"]) if "frac" in c else c.get("length_warmup_steps")
    budget = Budget(steps=c.get("steps"), tokens=c.get("tokens"))
    return compile_plan(pacing=p, warmup=warmup, batch=Batch(rows=c["batch_rows"]), budget=budget, mode=c["mode"])


def test_the_published_gpt2_setting_lands_on_its_token_budget() -> None:
    """slw.md 3.4: 99,536,732,160 tokens in the warmup; 58,769 steps reach the budget, so 58,768 are within."""
    plan = config_plan("gpt2-1.5b.toml")
    assert (plan.total_steps, plan.tokens_at(45_000), plan.num_shapes) == (58_768, 99_536_732_160, 121)
    assert plan.total_tokens == 157_283_909_632 <= 157_286_400_000 < plan.total_tokens + 4096 * 1024
    assert plan.consumed_tokens == 58_768 * 4096 * 1024


def test_the_constant_control_trains_as_many_tokens_as_the_tiny_curriculum() -> None:
    tiny, control = config_plan("tiny.toml"), config_plan("constant.toml")
    assert (tiny.total_steps, tiny.total_tokens, tiny.num_shapes) == (300, 524_160, 16)
    assert (control.total_steps, control.num_shapes) == (255, 1)
    assert tiny.total_tokens - 16 * 128 < control.total_tokens <= tiny.total_tokens


@given(
    st.lists(st.tuples(st.sampled_from([8, 16, 24]), st.integers(1, 4)), min_size=1, max_size=12),
    st.integers(0, 60),
    st.integers(0, 60),
)
def test_any_stretch_of_steps_has_the_runs_that_its_steps_say(
    entries: list[tuple[int, int]], first: int, stop: int
) -> None:
    """Windows of a build are such stretches; cycles have thousands of runs, so they are bisected."""
    phases = ExplicitPhases(steps_by_length=tuple(entries))
    plan = compile_plan(pacing=phases, warmup=None, batch=Batch(rows=2), budget=Budget())
    first, stop = sorted((min(first, plan.total_steps), min(stop, plan.total_steps)))
    runs = plan.runs_between(first, stop)
    assert [phase for phase, steps in runs for _ in range(steps)] == [plan.locate(s)[0] for s in range(first, stop)]
    assert all(before != after for (before, _), (after, _) in pairwise(runs))


def test_a_plan_travels_to_workers_as_one_text() -> None:
    """Every task of a build carries it: it is written once, and read once in each process."""
    plan = compile_plan(pacing=parse_phases("8:2,16:1,8:1"), warmup=None, batch=Batch(rows=4), budget=Budget())
    one, two = pickle.loads(pickle.dumps(plan)), pickle.loads(pickle.dumps(plan))
    assert (one, one.digest()) == (plan, plan.digest())
    assert one is two


def test_an_order_of_more_runs_than_a_reader_takes_is_not_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or else the dataset would be built for days, and then refused."""
    pacing, batch = parse_phases("8:1,16:1,8:1,16:1"), Batch(rows=4)
    assert len(compile_plan(pacing=pacing, warmup=None, batch=batch, budget=Budget()).order) == 4
    monkeypatch.setattr("curriculum.phase.MAX_RUNS", 3)
    with pytest.raises(PlanError, match=r"order has 4 runs, at most 3 are possible; use a larger batch\.$"):
        compile_plan(pacing=pacing, warmup=None, batch=batch, budget=Budget())
