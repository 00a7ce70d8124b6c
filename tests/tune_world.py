"""Tunes whose answers are known: a prober that simulates trainings; and what a tune says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.progress import Silent
from pipeline.tuning import Candidate, Evaluation, Prober, ProbeRun, tune
from pipeline.tuning.result import TuneResult

WARMUP = 10
"""LR warmup: the very beginning is steps 0 to 9, a probe 30 steps, durations are 30, 40, 50 ..."""


class World:
    """A prober: starts below `smallest` fluctuate at step 5, warmups above `longest` at step 25."""

    every = 2

    def __init__(self, smallest: int, longest: float, *, dies_at: int | None = None, spike: float = 999.0) -> None:
        self.smallest, self.longest, self.dies_at, self.spike = smallest, longest, dies_at, spike
        self.probed: list[Candidate] = []

    def __call__(self, candidate: Candidate, num_steps: int, stop_now: Callable[[Evaluation], bool], /) -> ProbeRun:
        if len(self.probed) + 1 == self.dies_at:
            raise KeyboardInterrupt
        self.probed.append(candidate)
        bad = (
            5 if candidate.start_length < self.smallest else 25 if candidate.length_warmup_steps > self.longest else -1
        )
        evaluations: list[Evaluation] = []
        for step in range(1, num_steps, self.every):
            evaluations.append(Evaluation(step=step, perplexity=self.spike if step == bad else 100 - step))
            if stop_now(evaluations[-1]):
                break
        trained = evaluations[-1].step + 1
        return ProbeRun(
            evaluations=tuple(evaluations),
            num_tokens=trained * candidate.start_length,
            num_steps=trained,
            stopped_early=trained < num_steps,
            seconds=1.0,
        )


class Said(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def say(self, message: str) -> None:
        self.messages.append(message)


Tune = Callable[..., TuneResult]


def tuned_with(options: dict[str, Any], prober: Prober, out: Path, **settings: Any) -> TuneResult:
    """Validated every 2 steps; 20 times in 10 steps is not possible."""
    return tune(options, **{"lr_warmup_steps": WARMUP, "validations": 5, "prober": prober, "out": out, **settings})
