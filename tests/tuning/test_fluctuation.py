"""When a probe's perplexity counts as fluctuating: the judgement that decides a tune."""

from __future__ import annotations

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curriculum.errors import BuildError, ConfigError
from pipeline.tuning.candidate import Evaluation
from pipeline.tuning.fluctuation import Judgement, Rule, Verdict, Watch, judge
from pipeline.tuning.settings import TuneSettings

RULE = Rule(beginning_steps=10, probe_steps=30, validations=2)


def validated(*perplexities: float, every: int = 5) -> list[Evaluation]:
    """Validations after steps 4, 9, 14 ..."""
    return [Evaluation(step=every * (i + 1) - 1, perplexity=value) for i, value in enumerate(perplexities)]


def test_a_spike_above_the_threshold_decides_and_one_below_does_not() -> None:
    """1.28 times the best is noise, 1.32 times is not; the best is that of all earlier validations."""
    assert judge(validated(900, 500, 640, 300, 180, 90), RULE) == Judgement(
        verdict=Verdict.STEADY, step=None, ratio=1.28
    )
    assert judge(validated(900, 500, 660, 300, 180, 90), RULE) == Judgement(verdict=Verdict.LATER, step=14, ratio=1.32)
    assert judge(validated(500, 660, 300, 180, 90, 80), RULE).verdict is Verdict.AT_THE_BEGINNING
    assert judge(validated(100, 110, 120, 129, 131, 90), RULE).step == 24  # slowly, against the best of all: 131 / 100


def test_exactly_the_threshold_is_steady() -> None:
    """The paper says above 1.3 times."""
    assert judge(validated(100, 130, 130, 130, 130, 130), RULE).verdict is Verdict.STEADY


def test_the_windows_are_half_open() -> None:
    """Step 9 belongs to a beginning of 10 steps, step 10 does not; step 30 belongs to no probe of 30 steps."""
    calm = [Evaluation(step=step, perplexity=100) for step in range(0, 30, 5)]
    assert judge([*calm[:2], Evaluation(step=9, perplexity=200)], RULE).verdict is Verdict.AT_THE_BEGINNING
    assert judge([*calm[:2], Evaluation(step=10, perplexity=200)], RULE).verdict is Verdict.LATER
    assert judge([*calm, Evaluation(step=29, perplexity=200)], RULE).verdict is Verdict.LATER
    assert judge([*calm, Evaluation(step=30, perplexity=200)], RULE).verdict is Verdict.STEADY


@pytest.mark.parametrize("diverged", [nan, inf])
def test_a_diverged_run_fluctuates_wherever_it_does(diverged: float) -> None:
    """NaN compares with nothing, and the first validation with none before it: both would pass unseen."""
    assert judge(validated(diverged), RULE) == Judgement(verdict=Verdict.AT_THE_BEGINNING, step=4, ratio=inf)
    assert judge(validated(50, 40, 30, diverged, 30, 30), RULE) == Judgement(verdict=Verdict.LATER, step=19, ratio=inf)


@pytest.mark.parametrize(
    ("steps", "unseen"),
    [
        ((), "steps 0 to 29"),
        ((4,), "steps 5 to 29"),
        ((6, 9, 14, 19, 24, 29), "steps 0 to 5"),
        ((4, 9, 15, 19, 24, 29), "steps 10 to 14"),
        ((4, 9, 14, 19, 24), "steps 25 to 29"),
        ((4, 9, 14, 19, 24, 30), "steps 25 to 29"),
    ],
)
def test_too_few_validations_are_no_calm(steps: tuple[int, ...], unseen: str) -> None:
    """A run that was hardly looked at would be called steady; the refusal says how often to look."""
    evaluations = [Evaluation(step=step, perplexity=50) for step in steps]
    with pytest.raises(BuildError, match=rf"{unseen} were not validated.*every 5 steps or more.*--validate-every 5`"):
        judge(evaluations, RULE)


def test_what_is_missing_is_waited_for_as_long_as_a_validation_may_be_late() -> None:
    """A probe that ended at the first gap would be judged by when its log was looked at; without an end, in hours."""
    watch = Watch(RULE)
    seen = [(step, watch(Evaluation(step=step, perplexity=50))) for step in (4, 12, 16, 17)]
    assert seen == [(4, False), (12, False), (16, False), (17, True)]


def test_a_fluctuation_is_judged_only_where_its_window_is_known() -> None:
    """After steps 5 to 13 that nobody saw it may have begun in the first 10; after steps 10 to 18 it has not."""
    with pytest.raises(BuildError, match="steps 5 to 13 were not validated"):
        judge([Evaluation(step=4, perplexity=50), Evaluation(step=14, perplexity=500)], RULE)
    late = [Evaluation(step=step, perplexity=value) for step, value in ((4, 50), (9, 50), (19, 500))]
    assert judge(late, RULE).verdict is Verdict.LATER
    assert judge([Evaluation(step=8, perplexity=inf)], RULE).verdict is Verdict.AT_THE_BEGINNING


def test_validating_as_often_as_the_refusal_says_is_enough() -> None:
    """Every size of both windows up to 20 steps; steps counted from 0 or from 1, or step 0 validated too."""
    for beginning in range(2, 21):
        for after in (0, *range(2, 21)):
            rule = Rule(beginning_steps=beginning, probe_steps=beginning + after, validations=2)
            for first in (rule.validate_every - 1, rule.validate_every, 0):
                steps = range(first, rule.probe_steps + 1, rule.validate_every)
                assert judge([Evaluation(step=step, perplexity=9) for step in steps], rule).verdict is Verdict.STEADY


def test_by_default_a_spike_of_a_twentieth_of_the_beginning_is_seen_wherever_it_is() -> None:
    """With 5 validations in a beginning of 100 steps, perplexity 4 times its best for 16 steps was called steady."""
    rule = TuneSettings(lr_warmup_steps=100).rule
    assert (rule.validations, rule.validate_every) == (20, 5)
    steps = range(rule.validate_every - 1, rule.probe_steps, rule.validate_every)

    def verdict(first: int, last: int) -> Verdict:
        curve = {step: 900 * 0.99**step * (4 if first <= step <= last else 1) for step in steps}
        return judge([Evaluation(step=step, perplexity=value) for step, value in curve.items()], rule).verdict

    assert verdict(22, 37) is Verdict.AT_THE_BEGINNING
    assert verdict(203, 217) is Verdict.LATER
    assert all(verdict(first, first + 4) is not Verdict.STEADY for first in range(5, 296))


def test_who_warms_up_briefly_validates_each_step_and_says_fewer_if_that_is_dear() -> None:
    """20 validations fit in no beginning of 10 steps; that is no reason to refuse a small model."""
    assert TuneSettings(lr_warmup_steps=10).rule.validate_every == 1
    assert TuneSettings(lr_warmup_steps=10, validations=5).rule.validate_every == 2
    assert TuneSettings(lr_warmup_steps=1000).rule.validate_every == 50
    with pytest.raises(ConfigError, match="beginning_steps is 4; 5 validations are needed"):
        TuneSettings(lr_warmup_steps=4)


@pytest.mark.parametrize(
    ("evaluations", "sentence"),
    [
        ([Evaluation(step=4, perplexity=9), Evaluation(step=4, perplexity=8)], "steps 4 and then 4 were found"),
        ([Evaluation(step=4, perplexity=0.7)], "never below 1.*nats per target"),
    ],
)
def test_validations_that_cannot_be_are_refused(evaluations: list[Evaluation], sentence: str) -> None:
    """Steps out of order, or a loss in another unit, would give a verdict about nothing."""
    with pytest.raises(BuildError, match=sentence):
        judge(evaluations, RULE)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"threshold": 1.0}, "fluctuation is 1;.*above 1"),
        ({"threshold": nan}, "fluctuation is nan"),
        ({"beginning_steps": 19}, "beginning_steps is 19; 20 validations are needed.*or fewer validations"),
        ({"probe_steps": 99}, "probe_steps is 99 and beginning_steps 100.*120 or more"),
        ({"probe_steps": 119}, "120 or more, or fewer validations"),
        ({"validations": 1}, "validations is 1; the first has nothing before it"),
    ],
)
def test_rules_by_which_nothing_can_be_judged_are_refused(said: dict[str, float], sentence: str) -> None:
    """Before the first probe, not after it."""
    fields = {"beginning_steps": 100, "probe_steps": 300, **said}
    with pytest.raises(ConfigError, match=sentence):
        Rule(**fields)  # type: ignore[arg-type]


STEPS = st.lists(st.integers(0, 45), unique=True, max_size=20).map(sorted)
PERPLEXITY = st.one_of(st.floats(1, 1e6), st.sampled_from([nan, inf]))


@given(steps=STEPS, data=st.data(), threshold=st.floats(1.01, 5))
def test_watching_a_run_and_judging_its_log_agree(steps: list[int], data: st.DataObject, threshold: float) -> None:
    """A probe that stops where the watch says so gets the judgement of the whole run."""
    rule = Rule(beginning_steps=10, probe_steps=30, validations=2, threshold=threshold)
    run = [Evaluation(step=step, perplexity=data.draw(PERPLEXITY)) for step in steps]
    watch = Watch(rule)
    seen = []
    for evaluation in run:
        seen.append(evaluation)
        if watch(evaluation):
            break
    assert _outcome(seen, rule) == _outcome(run, rule)


@given(perplexities=st.lists(st.floats(1, 1e6), min_size=6, max_size=6), threshold=st.floats(1.01, 5))
def test_the_judgement_is_the_definition(perplexities: list[float], threshold: float) -> None:
    """The first validation above threshold times the best before it, written out."""
    rule = Rule(beginning_steps=10, probe_steps=30, validations=2, threshold=threshold)
    ratios = [perplexities[i] / min(perplexities[:i]) for i in range(1, 6)]
    first = next((i for i, ratio in enumerate(ratios, 1) if ratio > threshold), None)
    verdict = {None: Verdict.STEADY, 1: Verdict.AT_THE_BEGINNING}.get(first, Verdict.LATER)
    step = None if first is None else 5 * first + 4
    ratio = max(1.0, *ratios) if first is None else ratios[first - 1]
    assert judge(validated(*perplexities), rule) == Judgement(verdict=verdict, step=step, ratio=ratio)


@given(perplexities=st.lists(st.floats(1, 1e5), min_size=6, max_size=6), factor=st.sampled_from([2.0, 4.0, 0.5]))
def test_only_ratios_count(perplexities: list[float], factor: float) -> None:
    """A corpus twice as hard is judged alike."""
    scaled = [value * factor * 2 for value in perplexities]
    assert judge(validated(*scaled), RULE) == judge(validated(*perplexities), RULE)


def _outcome(run: list[Evaluation], rule: Rule) -> Judgement | str:
    try:
        return judge(run, rule)
    except BuildError as error:
        return str(error)
