"""When validation perplexity fluctuates significantly, and whether it does so at the very beginning.

In:  the validations of a probe, and a rule.   Out: a judgement, or a refusal to judge by too few.
Guarantee: pure. What was judged once more validations do not change, so a probe may stop there. NaN and infinity
fluctuate always, also as the first; of others the first has nothing before it that it could be held against.

The rule of the authors: perplexity above 1.3 times the best before it. Steps 0 to `beginning_steps` - 1 are the very
beginning, steps up to `probe_steps` - 1 the first few multiples of the learning-rate warmup; later ones do not count.

    step          4    9   14   19   24  ...  299     beginning_steps=100, probe_steps=300: one in 5 steps is enough
    perplexity  900  500  640  300  180  ...   90     steady: 640 is 1.28 x 500
    perplexity  900  500  660                         fluctuates at the very beginning: 660 is 1.32 x 500

A spike that lasts `validate_every` steps is seen, a shorter one may come and go between two validations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf, isfinite

from curriculum.errors import BuildError, ConfigError
from pipeline.tuning.candidate import Evaluation

THRESHOLD = 1.3
"""Times the best perplexity so far."""
VALIDATIONS = 20
"""In the very beginning, and as many after it, evenly. With 5, a spike to 4 times the best was called steady that took
16 of 100 steps."""
LEAST_VALIDATIONS = 2
"""The first has nothing before it."""


class Verdict(StrEnum):
    """What a probe says of its candidate."""

    STEADY = "steady"
    AT_THE_BEGINNING = "fluctuates at the very beginning"
    LATER = "fluctuates later"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """What counts as a significant fluctuation, and where."""

    beginning_steps: int
    probe_steps: int
    threshold: float = THRESHOLD
    validations: int = VALIDATIONS
    """in the very beginning, and no fewer after it"""

    def __post_init__(self) -> None:
        """Refuse windows in which nothing could be judged.

        Raises:
            ConfigError: names the value and what is allowed.
        """
        if not (isfinite(self.threshold) and self.threshold > 1):
            raise ConfigError(
                f"fluctuation is {self.threshold:g}; perplexity counts as fluctuating above so many times its best so "
                f"far: give a number above 1, such as {THRESHOLD:g}."
            )
        least = self.validations
        if least < LEAST_VALIDATIONS:
            raise ConfigError(
                f"validations is {least}; the first has nothing before it that it could be held against: give "
                f"{LEAST_VALIDATIONS} or more."
            )
        if self.beginning_steps < least:
            raise ConfigError(
                f"beginning_steps is {self.beginning_steps}; {least} validations are needed in it: give {least} steps "
                f"or more, or fewer validations."
            )
        if self.probe_steps != self.beginning_steps and self.probe_steps < self.beginning_steps + least:
            raise ConfigError(
                f"probe_steps is {self.probe_steps} and beginning_steps {self.beginning_steps}; {least} validations "
                f"are needed after the beginning: give {self.beginning_steps + least} or more, or fewer validations."
            )

    @property
    def validate_every(self) -> int:
        """No more steps than that may lie between two validations."""
        windows = (self.beginning_steps, self.probe_steps - self.beginning_steps)
        return min(steps // self.validations for steps in windows if steps)


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """A verdict and the validation that it rests on."""

    verdict: Verdict
    step: int | None
    """of the first fluctuation; None if there is none"""
    ratio: float
    """of its perplexity to the best before it; if steady, the largest that there was (1 where each was a new best)"""


def judge(evaluations: Sequence[Evaluation], rule: Rule) -> Judgement:
    """The verdict of a probe.

    Raises:
        BuildError: too few validations to tell, or such as cannot be.
    """
    watch = Watch(rule)
    for evaluation in evaluations:
        if watch(evaluation):
            break
    return watch.judgement()


class Watch:
    """The same while validations come in: a `stop_now` for a probe."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._best = inf
        self._worst_ratio = 1.0
        self._last_step = -1
        self._fluctuated: Judgement | None = None
        self._unseen: tuple[int, int] | None = None  # half-open, of steps

    def __call__(self, evaluation: Evaluation) -> bool:
        """Take one validation into account; whether nothing after it can change the judgement.

        What is missing may yet come, late: that alone is no end before `validate_every` steps more.

        Raises:
            BuildError: no such validation can be.
        """
        if self._fluctuated is None and self._unseen is None:
            self._take(evaluation)
        if self._unseen is not None:
            return evaluation.step >= self._unseen[1] + self._rule.validate_every
        return self._fluctuated is not None or evaluation.step >= self._rule.probe_steps

    def _take(self, evaluation: Evaluation) -> None:
        self._refuse_impossible(evaluation)
        last_step, self._last_step = self._last_step, evaluation.step
        if evaluation.step >= self._rule.probe_steps:
            self._note_unseen(last_step, self._rule.probe_steps)
            return
        is_early = evaluation.step < self._rule.beginning_steps
        ratio = self._ratio(evaluation.perplexity)
        if ratio > self._rule.threshold:
            verdict = Verdict.AT_THE_BEGINNING if is_early else Verdict.LATER
            self._fluctuated = Judgement(verdict=verdict, step=evaluation.step, ratio=ratio)
            if not is_early and last_step < self._rule.beginning_steps - 1:
                self._note_unseen(last_step, evaluation.step)
        else:
            self._worst_ratio = max(self._worst_ratio, ratio)
            self._best = min(self._best, evaluation.perplexity)
            self._note_unseen(last_step, evaluation.step)

    def judgement(self) -> Judgement:
        """The verdict on all that came in.

        Raises:
            BuildError: it is too little.
        """
        if self._fluctuated is None:
            self._note_unseen(self._last_step, self._rule.probe_steps)
        if self._unseen is not None:
            start, stop = self._unseen
            every = self._rule.validate_every
            raise BuildError(
                f"steps {start} to {stop - 1} were not validated, and in more than {every} steps a fluctuation may "
                f"come and go: validate every {every} steps or more often, such as by `--validate-every {every}` of "
                f"`curriculum train`."
            )
        return self._fluctuated or Judgement(verdict=Verdict.STEADY, step=None, ratio=self._worst_ratio)

    def _ratio(self, perplexity: float) -> float:
        if not isfinite(perplexity):
            return inf
        return perplexity / self._best if isfinite(self._best) else 1.0

    def _note_unseen(self, last_step: int, step: int) -> None:
        """Whether too many steps lie between two validations. Who counts them from 1 has the first one step later."""
        if self._unseen is None and step - max(last_step, 0) > self._rule.validate_every:
            self._unseen = (last_step + 1, step)

    def _refuse_impossible(self, evaluation: Evaluation) -> None:
        if evaluation.step <= self._last_step:
            raise BuildError(
                f"validations at steps {self._last_step} and then {evaluation.step} were found; steps are counted from "
                f"0 and rise: give each step once, the one that counts."
            )
        if evaluation.perplexity < 1:
            raise BuildError(
                f"perplexity is {evaluation.perplexity:g} at step {evaluation.step}; it is never below 1, as exp(mean "
                f"loss in nats per target): validation loss has to be written in nats per target."
            )
