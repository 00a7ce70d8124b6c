"""What a tune has found: the answer, the probes that it rests on, and what they cost.

In:  the search, its answer, the judged probes, the plan of the full training.   Out: `TuneResult`.
Guarantee: values only. The cost counts every target of the probes in the state, those that were stopped and those of
other bounds included; of a probe that failed or was killed nothing is known.

    start 16, warmup 700 of 3,000 steps; 5 probes trained 1.9 % of the tokens of the full training
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curriculum.plan import Plan
from pipeline.tuning.candidate import Candidate, ProbeRun
from pipeline.tuning.fluctuation import Judgement, Rule
from pipeline.tuning.search import Answer, Found, NoDuration, SearchSpace


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedProbe:
    """A candidate, what came of it, and what that means."""

    candidate: Candidate
    run: ProbeRun
    judgement: Judgement


@dataclass(frozen=True, kw_only=True, slots=True)
class TuneResult:
    """A finished tune."""

    folder: Path
    answer: Answer
    probes: tuple[JudgedProbe, ...]
    """that the search goes by, in the order in which they were trained"""
    other_probes: tuple[JudgedProbe, ...] = ()
    """that the same tune trained when it was given other bounds, and that it has no use for now"""
    lr_warmup_steps: int
    """of the learning rate that the probes were trained with"""
    rule: Rule
    space: SearchSpace
    full_plan: Plan
    """of the answer; if there is none, of the candidate that the search ended with"""
    config: Path | None = None
    """a TOML file for `curriculum build --config`; None without an answer"""
    plot: Path | None = None
    notes: tuple[str, ...] = ()
    """what else is to be known"""

    @property
    def found(self) -> Candidate | None:
        """The tuned warmup; None if there is none."""
        return self.answer.candidate if isinstance(self.answer, Found) else None

    @property
    def probe_tokens(self) -> int:
        """Targets that all probes trained."""
        return sum(probe.run.num_tokens for probe in (*self.probes, *self.other_probes))

    @property
    def cost_share(self) -> float:
        """Of the targets of one full training."""
        return self.probe_tokens / self.full_plan.total_tokens

    @property
    def seconds(self) -> float:
        """Wall clock of all probes."""
        return sum(probe.run.seconds for probe in (*self.probes, *self.other_probes))

    def sentence(self) -> str:
        """The answer in words, and what to do with it."""
        answer = self.answer
        if isinstance(answer, Found):
            return _found(answer, self.full_plan)
        if isinstance(answer, NoDuration):
            return (
                f"From a start of {answer.candidate.start_length} perplexity is steady at the very beginning, but "
                f"fluctuates later even with the shortest length warmup, {answer.candidate.length_warmup_steps:,} "
                f"steps. Try shorter ones with --least-length-warmup-steps, a longer --start-length, a longer warmup "
                f"of the learning rate, or a lower learning rate."
            )
        first, last = self.space.starts[0].length, answer.candidate.start_length
        has_longer = 2 * last < self.full_plan.max_seq_len
        so = ", and longer ones had to be left out" if has_longer else ", so a longer start is no cure"
        return (
            f"Perplexity fluctuates at the very beginning from every start from {first} to {last}{so}. Look at the "
            f"learning rate and its warmup, or at the loss of a run without a curriculum."
        )

    def steady_with(self) -> str:
        """What the answer holds for; empty without one."""
        ratio = next((probe.judgement.ratio for probe in self.probes if probe.candidate == self.found), None)
        if ratio is None:
            return ""
        return (
            f"Its probe of {self.rule.probe_steps:,} steps is steady with an LR warmup of {self.lr_warmup_steps:,} "
            f"steps, perplexity at most {ratio:.2f} times its best so far."
        )

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        found = self.found
        return {
            "start_length": found.start_length if found else None,
            "length_warmup_steps": found.length_warmup_steps if found else None,
            "fluctuates_with": self.answer.fluctuates_with if isinstance(self.answer, Found) else None,
            "sentence": self.sentence(),
            "steady_with": self.steady_with(),
            "probes": [_probe_json(probe) for probe in self.probes],
            "other_probes": [_probe_json(probe) for probe in self.other_probes],
            "most_probes": self.space.most_probes,
            "lr_warmup_steps": self.lr_warmup_steps,
            "beginning_steps": self.rule.beginning_steps,
            "probe_steps": self.rule.probe_steps,
            "validate_every": self.rule.validate_every,
            "fluctuation": self.rule.threshold,
            "resolution_steps": self.space.resolution_steps,
            "total_steps": self.full_plan.total_steps,
            "total_tokens": self.full_plan.total_tokens,
            "probe_tokens": self.probe_tokens,
            "cost_share": self.cost_share,
            "seconds": self.seconds,
            "config": _said(self.config),
            "plot": _said(self.plot),
            "notes": list(self.notes),
        }


def _found(answer: Found, full_plan: Plan) -> str:
    start, duration = answer.candidate.start_length, answer.candidate.length_warmup_steps
    head = f"Start at {start} and warm up for {duration:,} steps"
    if answer.fluctuates_with is None:
        return (
            f"{head}: the longest that was allowed, {duration / full_plan.total_steps:.0%} of all steps, and no probe "
            f"of it fluctuated. Longer ones are untried; --most-length-warmup-steps allows them."
        )
    return f"{head}: with {answer.fluctuates_with:,} perplexity fluctuates, and between the two nothing was tried."


def _probe_json(probe: JudgedProbe) -> dict[str, Any]:
    ratio = probe.judgement.ratio
    return {
        "start_length": probe.candidate.start_length,
        "length_warmup_steps": probe.candidate.length_warmup_steps,
        "verdict": probe.judgement.verdict.value,
        "step": probe.judgement.step,
        "ratio": ratio if ratio < float("inf") else None,
        "num_steps": probe.run.num_steps,
        "num_tokens": probe.run.num_tokens,
        "validations": len(probe.run.evaluations),
        "seconds": round(probe.run.seconds, 1),
    }


def _said(path: Path | None) -> str | None:
    return None if path is None else str(path)
