"""A request that cannot work is refused in one sentence that names one that does, before any data is read."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

from curriculum.budget import Batch, Budget
from curriculum.errors import CursorError, PlanError
from curriculum.plan import Plan, check_request, compile_plan
from curriculum.schedule import Pacing, TokenWarmup, parse_phases

LINEAR = Pacing(name="linear", start_length=8, max_length=1024)


def linear_plan(**change: Any) -> Plan:
    request: dict[str, Any] = {"pacing": LINEAR, "warmup": Fraction(3, 10), "batch": Batch(rows=16)}
    return compile_plan(**(request | {"budget": Budget(steps=1000)} | change))


PHASES = parse_phases("8:10,16:10")
OPEN = parse_phases("8:10,16:10,32:*")

REFUSED: list[tuple[str, Callable[[], object], str]] = [
    (
        "rows",
        lambda: Batch(rows=10, rows_multiple_of=8),
        "batch_rows 10 is not a multiple of rows_multiple_of 8; use 8 or 16.",
    ),
    (
        "few rows",
        lambda: Batch(rows=3, rows_multiple_of=8),
        "batch_rows 3 is not a multiple of rows_multiple_of 8; use 8.",
    ),
    ("no batch", lambda: Batch(), "a batch has either batch_rows or batch_tokens, and neither is given"),
    ("two batches", lambda: Batch(rows=8, tokens=8), "and both are given; choose one."),
    ("zero rows", lambda: Batch(rows=0), "batch_rows is 0; choose"),
    ("bool rows", lambda: Batch(rows=True), "batch_rows is True; it must be a whole number"),
    ("zero tokens", lambda: Batch(tokens=0), "batch_tokens is 0; choose"),
    ("zero multiple", lambda: Batch(rows=8, rows_multiple_of=0), "rows_multiple_of is 0; choose"),
    ("two budgets", lambda: Budget(steps=1, tokens=1), "steps 1 and tokens 1 are two budgets; choose one"),
    ("zero steps", lambda: Budget(steps=0), "steps is 0; choose"),
    ("absurd steps", lambda: Budget(steps=2**62 + 1), "steps is 4611686018427387905; choose"),
    (
        "float tokens",
        lambda: Budget(tokens=1e9),
        "tokens is 1000000000.0; it must be a whole number",
    ),  # type: ignore[arg-type]
    ("no corpus", lambda: Budget(corpus_tokens=0), "corpus_tokens is 0; choose"),
    ("zero epochs", lambda: Budget(epochs=0), "epochs is 0; choose"),
    ("mode", lambda: linear_plan(mode="pack"), "mode is 'pack'; choose one of segment, truncate, document, best-fit."),
    (
        "document mode",
        lambda: linear_plan(mode="document"),
        "mode 'document' has curricula of its own, natural, grow-linear, grow-p2; choose one of them, or mode",
    ),
    (
        "document mode with phases",
        lambda: linear_plan(pacing=PHASES, warmup=None, mode="document", budget=Budget()),
        "mode 'document' has curricula of its own",
    ),
    (
        "small batch",
        lambda: linear_plan(batch=Batch(tokens=8191)),
        ("batch_tokens 8,191 holds no 8 rows (rows_multiple_of) of 1024 tokens; use batch_tokens 8,192 or more"),
    ),
    (
        "huge step",
        lambda: linear_plan(batch=Batch(rows=2**21)),
        "stores 2,149,580,800 tokens; at most 2,147,483,647 are allowed",
    ),
    (
        "huge short step",
        lambda: linear_plan(batch=Batch(tokens=2_000_000_000)),
        "a step of 250,000,000 rows of length 8 stores 2,250,000,000 tokens",
    ),
    (
        "absurd total",
        lambda: linear_plan(budget=Budget(steps=2**60)),
        "tokens; at most 4,611,686,018,427,387,904 are allowed",
    ),
    (
        "long warmup",
        lambda: linear_plan(warmup=1001),
        "length_warmup_steps 1,001 is above the total of 1,000 steps; use a warmup of 1,000 or less",
    ),
    ("zero warmup", lambda: linear_plan(warmup=0), "length_warmup_steps is 0; choose"),
    ("float warmup", lambda: linear_plan(warmup=0.3), "length_warmup_steps is 0.3; it must be a whole number"),
    ("bool warmup", lambda: linear_plan(warmup=True), "length_warmup_steps is True; it must be"),
    ("frac 0", lambda: linear_plan(warmup=Fraction(0)), "frac is 0; choose a decimal above 0 and at most 1"),
    ("frac 2", lambda: linear_plan(warmup=Fraction(2)), "frac is 2; choose"),
    ("no warmup", lambda: linear_plan(warmup=None), "schedule 'linear' needs a warmup; give frac"),
    (
        "constant warmup",
        lambda: linear_plan(pacing=Pacing.constant(1024)),
        "schedule 'constant' has no warmup; leave",
    ),
    ("phases warmup", lambda: linear_plan(pacing=PHASES, budget=Budget()), "phases have no warmup; leave frac"),
    (
        "phases steps",
        lambda: linear_plan(pacing=PHASES, warmup=None),
        "phases already fix the total at 20 steps, and steps 1,000 is given too",
    ),
    (
        "open phase and few steps",
        lambda: linear_plan(pacing=OPEN, warmup=None, budget=Budget(steps=20)),
        "steps 20 leave none for the last phase, 32:*, after the 20 steps before it; use steps 21 or more.",
    ),
    (
        "open phase and few tokens",
        lambda: linear_plan(pacing=OPEN, warmup=None, budget=Budget(tokens=4351)),
        "tokens 4,351 is too small: the shortest plan of this schedule and batch, 21 steps, trains 4,352 tokens",
    ),
    (
        "open phase and a small corpus",
        lambda: linear_plan(pacing=OPEN, warmup=None, budget=Budget(corpus_tokens=4352)),
        "21 steps, consumes 4,352; use a corpus of 4,353 tokens or more, epochs 2 or more",
    ),
    (
        "open phase without a size",
        lambda: linear_plan(pacing=OPEN, warmup=None, budget=Budget()),
        "one pass over the corpus needs its size",
    ),
    (
        "warmup of no step",
        lambda: linear_plan(warmup=TokenWarmup(tokens=16_383)),
        "length_warmup_tokens 16,383 is too small: a warmup of one step, at the maximum, trains 16,384 tokens; "
        "use length_warmup_tokens 16,384 or more",
    ),
    (
        "token warmup longer than the run",
        lambda: linear_plan(warmup=TokenWarmup(tokens=8_200_192), budget=Budget(steps=999)),
        "length_warmup_tokens 8,200,192 last 1,000 steps, above the total of 999 steps; use steps 1,000 or more",
    ),
    (
        "token warmup above the tokens",
        lambda: linear_plan(warmup=TokenWarmup(tokens=8_200_192), budget=Budget(tokens=8_200_191)),
        "tokens 8,200,191 is too small: the 1,000 warmup steps of length_warmup_tokens 8,200,192, the shortest plan, "
        "trains 8,200,192 tokens; use tokens 8,200,192 or more, or fewer length_warmup_tokens.",
    ),
    (
        "token warmup above the corpus",
        lambda: linear_plan(warmup=TokenWarmup(tokens=8_200_192), budget=Budget(corpus_tokens=8_200_192)),
        "use a corpus of 8,200,193 tokens or more, epochs 2 or more, or fewer length_warmup_tokens.",
    ),
    ("zero token warmup", lambda: TokenWarmup(tokens=0), "length_warmup_tokens is 0; choose"),
    ("float token warmup", lambda: TokenWarmup(tokens=1e9), "length_warmup_tokens is 1000000000.0"),  # type: ignore[arg-type]
    (
        "token warmup of phases",
        lambda: linear_plan(pacing=PHASES, warmup=TokenWarmup(tokens=9), budget=Budget()),
        "phases have no warmup; leave frac, length_warmup_steps and length_warmup_tokens out.",
    ),
    ("one shape", lambda: linear_plan(max_shapes=1), "max_shapes is 1; choose a whole number from 2 to"),
    ("bool shapes", lambda: linear_plan(max_shapes=True), "max_shapes is True; it must be a whole number"),
    ("shapes by", lambda: linear_plan(shapes_by="log"), "shapes_by is 'log'; choose one of relative, absolute."),
    (
        "shapes of phases",
        lambda: linear_plan(pacing=parse_phases("8:1,16:1,8:1"), warmup=None, budget=Budget(), max_shapes=2),
        "a shape budget needs lengths that grow; leave max_shapes out for this schedule.",
    ),
    (
        "shapes of constant",
        lambda: linear_plan(pacing=Pacing.constant(1024), warmup=None, max_shapes=4),
        "schedule 'constant' has one length, 1024, and max_shapes 4 has nothing to choose from; leave max_shapes out.",
    ),
    (
        "shaped and beyond",
        lambda: linear_plan(budget=Budget(steps=1000, corpus_tokens=10**7), max_shapes=4),
        "1 epoch of 10,000,000 corpus tokens offers 9,999,999; use fewer steps, or epochs 2 or a larger corpus.",
    ),
    (
        "phases tokens",
        lambda: linear_plan(pacing=PHASES, warmup=None, budget=Budget(tokens=9)),
        "and tokens 9 is given too",
    ),
    (
        "one pass over nothing",
        lambda: linear_plan(budget=Budget()),
        "one pass over the corpus needs its size; give corpus_tokens",
    ),
    (
        "few tokens",
        lambda: linear_plan(budget=Budget(tokens=16_383)),
        ("tokens 16,383 is too small: the shortest plan of this schedule and batch, 1 step, trains 16,384 tokens"),
    ),
    (
        "few tokens for T",
        lambda: linear_plan(warmup=1000, budget=Budget(tokens=8_200_191)),
        "1,000 steps, trains 8,200,192 tokens; use tokens 8,200,192 or more",
    ),
    (
        "small corpus",
        lambda: linear_plan(budget=Budget(corpus_tokens=16_384)),
        (
            "1 epoch of 16,384 corpus tokens offers 16,383, which is too few: the shortest plan of this "
            "schedule and batch, 1 step, consumes 16,384; use a corpus of 16,385 tokens or more, epochs 2 or "
            "more"
        ),
    ),
    (
        "small corpus, epochs",
        lambda: linear_plan(budget=Budget(corpus_tokens=100, epochs=3)),
        (
            "3 epochs of 100 corpus tokens offer 299, which is too few: the shortest plan of this schedule "
            "and batch, 1 step, consumes 16,384; use a corpus of 5,462 tokens or more, epochs 164 or more"
        ),
    ),
    (
        "steps beyond",
        lambda: linear_plan(budget=Budget(steps=1000, corpus_tokens=10**7)),
        (
            "the plan of 1,000 steps consumes 13,934,592 tokens, but 1 epoch of 10,000,000 corpus tokens offers "
            "9,999,999; use at most 717 steps, or epochs 2 or a larger corpus."
        ),
    ),
    (
        "tokens beyond",
        lambda: linear_plan(budget=Budget(tokens=10**7, corpus_tokens=10**6)),
        "or epochs 10 or a larger corpus.",
    ),
    (
        "phases beyond",
        lambda: linear_plan(pacing=PHASES, warmup=None, budget=Budget(corpus_tokens=16 * 8 * 10 + 16 * 16 * 2 + 1)),
        "use at most 12 steps, or epochs 3",
    ),
    (
        "nothing fits",
        lambda: linear_plan(budget=Budget(steps=1, corpus_tokens=9)),
        "no number of steps fits, so use epochs 1,821 or a larger corpus.",
    ),
]


@pytest.mark.parametrize(("request_", "message"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_a_request_that_cannot_work_is_refused_in_one_sentence(request_: Callable[[], object], message: str) -> None:
    with pytest.raises(PlanError) as refusal:
        request_()
    assert message in str(refusal.value)
    assert str(refusal.value).endswith(".")
    assert "\n" not in str(refusal.value)


def test_the_least_values_that_refusals_name_do_work() -> None:
    assert linear_plan(batch=Batch(tokens=8192)).phases[-1].rows_per_step == 8
    assert linear_plan(budget=Budget(tokens=16_384)).total_steps == 1
    assert linear_plan(warmup=1000, budget=Budget(tokens=8_200_192)).total_steps == 1000
    tokens = TokenWarmup(tokens=8_200_192)
    assert linear_plan(warmup=tokens, budget=Budget(tokens=8_200_192)).total_steps == 1000
    assert linear_plan(warmup=tokens, budget=Budget(corpus_tokens=8_200_193)).total_steps == 1000
    assert linear_plan(warmup=tokens, budget=Budget(steps=1000)).total_steps == 1000
    assert linear_plan(warmup=TokenWarmup(tokens=16_384)).schedule["length_warmup_steps"] == 1
    assert linear_plan(pacing=OPEN, warmup=None, budget=Budget(steps=21)).total_steps == 21
    assert linear_plan(pacing=OPEN, warmup=None, budget=Budget(tokens=4352)).total_steps == 21
    assert linear_plan(pacing=OPEN, warmup=None, budget=Budget(corpus_tokens=4353)).total_steps == 21
    assert linear_plan(budget=Budget(corpus_tokens=16_385)).total_steps == 1
    assert linear_plan(budget=Budget(corpus_tokens=16_384, epochs=2)).total_steps == 1
    assert linear_plan(budget=Budget(corpus_tokens=5462, epochs=3)).total_steps == 1
    assert linear_plan(budget=Budget(corpus_tokens=100, epochs=164)).total_steps == 1
    assert linear_plan(budget=Budget(steps=717, corpus_tokens=10**7)).total_steps == 717
    assert linear_plan(budget=Budget(steps=1000, corpus_tokens=10**7, epochs=2)).total_steps == 1000
    with pytest.raises(PlanError, match="use at most 717 steps"):
        linear_plan(budget=Budget(steps=718, corpus_tokens=10**7))


def test_checking_a_request_needs_no_corpus_and_misses_nothing_that_can_be_known() -> None:
    """A one-pass build must not tokenize for an hour and then learn that its batch holds no row."""

    def check(**change: Any) -> None:
        request: dict[str, Any] = {"pacing": LINEAR, "warmup": Fraction(3, 10), "batch": Batch(rows=16)}
        check_request(**(request | {"budget": Budget()} | change))

    check()
    check(budget=Budget(tokens=10**9))
    check(pacing=PHASES, warmup=None)
    check(pacing=OPEN, warmup=None)
    check(warmup=TokenWarmup(tokens=10**6), max_shapes=4)
    for change in (
        {"batch": Batch(tokens=8191)},
        {"mode": "pack"},
        {"mode": "document"},
        {"warmup": TokenWarmup(tokens=16_383)},
        {"warmup": TokenWarmup(tokens=10**6), "budget": Budget(tokens=10**6 - 5000)},
        {"pacing": OPEN, "warmup": None, "budget": Budget(tokens=4351)},
        {"pacing": Pacing.constant(1024), "warmup": None, "max_shapes": 4},
        {"warmup": None},
        {"budget": Budget(tokens=100)},
        {"budget": Budget(steps=2**60)},
        {"budget": Budget(corpus_tokens=100)},
        {"warmup": 10, "budget": Budget(steps=5)},
    ):
        with pytest.raises(PlanError):
            check(**change)


@pytest.mark.parametrize("step", [-1, 1000, 10**30])
def test_a_step_outside_the_plan_is_a_sentence_and_not_a_wrong_row(step: int) -> None:
    plan = linear_plan()
    with pytest.raises(CursorError, match="is outside this plan; choose one from 0 to 999"):
        plan.locate(step)
    assert plan.tokens_at(1000) == plan.total_tokens
    with pytest.raises(CursorError, match="choose one from 0 to 1000"):
        plan.tokens_at(-1)
