"""The learning rate of a step, as a fraction of its peak: warmed up by steps, decayed by trained tokens.

In:  a plan, the name of a schedule and its numbers; a step.
Out: a factor from 0 to 1.
Guarantee: a pure function of the step: a resumed run, on any number of processes, has the rate that it would have had.

Why two units. While rows are short a step trains few tokens, so a decay by steps would spend much of the rate on few
tokens; the authors of sequence length warmup therefore decay by tokens (`--lr-decay-tokens` of Megatron-DeepSpeed).
They keep the warm-up in steps: by tokens it would be "both unnecessary and harmful" (DeepSpeed's tutorial). The rule of
their code, but for the first step, which trains at 0 there; W warm-up steps, tokens(s) trained before step s:

    s < W     (s + 1) / W                        step 0 trains at 1/W of the peak, step W - 1 at the peak
    s >= W    f(d), d = (tokens(s) - tokens(W)) / (decay_tokens - tokens(W)), at most 1

    cosine    f = final + (1 - final) * (1 + cos(pi * d)) / 2        Loshchilov, Hutter 2017; GPT-3: final = 0.1
    linear    f = final + (1 - final) * (1 - d)
    wsd       f = 1, and linear to `final` over the last `decay_frac` of decay_tokens: warm-up, stable, decay
              (Hu et al. 2024, MiniCPM; with this linear tail Haegele et al. 2024)

    phases 8:2 16:2 of 1 row, linear to 0, W = 0     tokens(s) = 0 8 16 32, of 48     factors 1  5/6  2/3  1/3

Where rows are packed, tokens are slots: inputs with and without a target, padding included (`Plan.tokens_at`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi

from curriculum.errors import ConfigError
from curriculum.plan import Plan

SCHEDULES = ("cosine", "linear", "wsd")


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningRate:
    """A schedule with its numbers: call it with a step."""

    plan: Plan
    schedule: str = "cosine"
    """one of `SCHEDULES`"""
    warmup_steps: int = 0
    """W, 0 <= W < total steps"""
    final: float = 0.1
    """fraction of the peak at which the decay ends; 0 <= final <= 1"""
    decay_tokens: int | None = None
    """trained tokens at which the decay ends, counted from step 0; None: the plan's total. Less than that: the rest of
    the run trains at `final`. More: the run ends before the decay"""
    decay_frac: float = 0.1
    """of "wsd" alone: the part of decay_tokens that decays; 0 < decay_frac <= 1"""

    def __post_init__(self) -> None:
        """Refuse what has no meaning, before the first step.

        Raises:
            ConfigError: names the value and what is allowed.
        """
        total, warm = self.plan.total_steps, self.warmup_steps
        if self.schedule not in SCHEDULES:
            raise ConfigError(f"schedule is {self.schedule!r}; choose one of {', '.join(SCHEDULES)}.")
        if not 0 <= warm < total:
            raise ConfigError(f"warmup_steps is {warm}; the plan has {total} steps, so give 0 to {total - 1}.")
        if not 0 <= self.final <= 1:
            raise ConfigError(f"final is {self.final}; it is a fraction of the peak, from 0 to 1.")
        if not 0 < self.decay_frac <= 1:
            raise ConfigError(f"decay_frac is {self.decay_frac}; it is a fraction, above 0 and at most 1.")
        if self._decay_stop <= self.plan.tokens_at(warm):
            raise ConfigError(
                f"decay_tokens is {self._decay_stop:,}; the {warm} warm-up steps alone train "
                f"{self.plan.tokens_at(warm):,}. Let the decay end later, or warm up for fewer steps."
            )
        if self._decay_start < self.plan.tokens_at(warm):
            raise ConfigError(
                f"decay_frac {self.decay_frac} lets the decay begin at {self._decay_start:,.0f} tokens, before the end "
                f"of the {warm} warm-up steps at {self.plan.tokens_at(warm):,}. Give less of either."
            )

    @property
    def _decay_stop(self) -> int:
        return self.plan.total_tokens if self.decay_tokens is None else self.decay_tokens

    @property
    def _decay_start(self) -> float:
        """Trained tokens at which the rate leaves its peak."""
        if self.schedule == "wsd":
            return self._decay_stop * (1 - self.decay_frac)
        return self.plan.tokens_at(self.warmup_steps)

    def __call__(self, step: int) -> float:
        """The factor for a step, 0 <= step <= total steps: schedulers ask for the one after the last, too.

        Raises:
            CursorError: the plan has no such step.
        """
        tokens = self.plan.tokens_at(step)
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        start = self._decay_start
        done = min(max((tokens - start) / (self._decay_stop - start), 0.0), 1.0)
        left = (1 + cos(pi * done)) / 2 if self.schedule == "cosine" else 1 - done
        return self.final + (1 - self.final) * left


def lr_factor(
    plan: Plan,
    step: int,
    *,
    schedule: str = "cosine",
    warmup_steps: int = 0,
    final: float = 0.1,
    decay_tokens: int | None = None,
    decay_frac: float = 0.1,
) -> float:
    """The factor of one step; the arguments are the fields of `LearningRate`.

    A loop of its own sets `group["lr"] = peak * lr_factor(plan, step, warmup_steps=2000)` before each step.
    """
    schedule_of_run = LearningRate(
        plan=plan,
        schedule=schedule,
        warmup_steps=warmup_steps,
        final=final,
        decay_tokens=decay_tokens,
        decay_frac=decay_frac,
    )
    return schedule_of_run(step)
