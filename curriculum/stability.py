"""How unstable a training run is, in the measures of the sequence length warmup paper and of OLMo-core.

In:  the records of a run's log.   Out: ratios of losses; and a `Summary`, plain numbers with their steps.
Guarantees: standard library only; a run that resumes has the ratios of one that never stopped; a loss that is NaN or
infinite is a divergence, counted as such and nowhere else; what cannot be told is None, with a sentence that says why.

    loss                4.0   5.0   3.0   3.45   NaN       steps above 1.1: 2, above 1.2: 1; highest 1.25 in step 1
    lowest before        -    4.0   4.0   3.0    3.0       1 divergence
    loss ratio          None  1.25  0.75  1.15   NaN

The ratio and its correlation with Adam's variance are those of Li, Zhang, He 2022 (arXiv 2108.06084). The thresholds of
`THRESHOLDS` are our choice: the paper's text was not at hand. No p-value of a correlation is given: it would
be that of independent samples, and the steps of a run follow from each other.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from curriculum.loss_ratio import LossRatio
from curriculum.spike_score import SpikeScore, spike_scores

__all__ = ["THRESHOLDS", "At", "Correlation", "LossRatio", "Summary", "loss_ratios", "summarize"]

THRESHOLDS = (1.1, 1.2, 1.5, 2.0)
FEWEST = 16
"""Values for a correlation: it is hardly ever what it seems for fewer."""
WORST = 5
"""Steps that a summary names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class At:
    """A value and the step that has it."""

    value: float
    step: int
    seq_len: int | None
    """of that step, where the log has it"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Correlation:
    """Of the loss ratio with another value over all steps that have both, finite."""

    pearson: float | None
    num_steps: int
    why_none: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """How unstable a run was."""

    num_steps: int
    """that the log has"""
    first_step: int
    last_step: int
    tokens: int | None
    """trained, at the end"""
    lowest_loss: At | None
    last_loss: float | None
    divergences: int
    """steps whose loss is NaN or infinite"""
    first_divergence: int | None
    """the step of the first"""
    max_ratio: At | None
    steps_above: dict[float, int]
    """threshold -> steps whose loss ratio is above it"""
    worst: tuple[At, ...]
    """highest loss ratios above 1, one of each run of neighbouring steps above 1, highest first"""
    loss_spikes: SpikeScore
    grad_norm_spikes: SpikeScore
    any_spikes: SpikeScore
    """steps with a spike in either: OLMo-core's SpikeScore"""
    variance_l1: At | None
    """the highest"""
    variance_max: At | None
    correlation_l1: Correlation
    correlation_max: Correlation
    best_validation: At | None
    last_validation: At | None
    missing: tuple[str, ...]
    """keys without any value in the log, of those that a measure here needs"""

    def to_json(self) -> dict[str, Any]:
        """Plain values; infinite ones as strings, as in the log."""
        values = asdict(self)
        values["steps_above"] = {f"{threshold:g}": count for threshold, count in self.steps_above.items()}
        strict: dict[str, Any] = _strict(values)
        return strict


def loss_ratios(records: Sequence[Mapping[str, Any]]) -> list[float | None]:
    """Of each record: from its loss; in a log without losses, what it says itself."""
    if all(record.get("loss") is None for record in records):
        return [record.get("loss_ratio") for record in records]
    ratio = LossRatio()
    return [ratio.of(record.get("loss")) for record in records]


def summarize(records: Sequence[Mapping[str, Any]], thresholds: Iterable[float] = THRESHOLDS) -> Summary:
    """Of the records of a log, at least one, in the order of their steps (`curriculum.stability_log.read_log`)."""
    ratios = loss_ratios(records)
    by_step = {id(record): ratio for record, ratio in zip(records, ratios, strict=True)}
    finite = [
        At(value=ratio, step=record["step"], seq_len=record.get("seq_len"))
        for record, ratio in zip(records, ratios, strict=True)
        if ratio is not None and math.isfinite(ratio)
    ]
    diverged = [record["step"] for record in records if _diverged(record)]
    losses = [record.get("loss") for record in records]
    norms = [record.get("grad_norm") for record in records]
    tokens = [record["tokens"] for record in records if record.get("tokens") is not None]
    validated = _finite(records, "validation_loss")
    of_losses, of_norms, of_either = spike_scores(losses, norms)
    return Summary(
        num_steps=len(records),
        first_step=records[0]["step"],
        last_step=records[-1]["step"],
        tokens=tokens[-1] if tokens else None,
        lowest_loss=min(_finite(records, "loss"), key=lambda at: at.value, default=None),
        last_loss=next((loss for loss in reversed(losses) if loss is not None), None),
        divergences=len(diverged),
        first_divergence=diverged[0] if diverged else None,
        max_ratio=max(finite, key=lambda at: at.value, default=None),
        steps_above={threshold: sum(at.value > threshold for at in finite) for threshold in thresholds},
        worst=_worst(finite),
        loss_spikes=of_losses,
        grad_norm_spikes=of_norms,
        any_spikes=of_either,
        variance_l1=max(_finite(records, "variance_l1"), key=lambda at: at.value, default=None),
        variance_max=max(_finite(records, "variance_max"), key=lambda at: at.value, default=None),
        correlation_l1=_correlation(records, by_step, "variance_l1"),
        correlation_max=_correlation(records, by_step, "variance_max"),
        best_validation=min(validated, key=lambda at: at.value, default=None),
        last_validation=validated[-1] if validated else None,
        missing=tuple(
            key
            for key in ("seq_len", "loss", "grad_norm", "variance_l1", "variance_max", "validation_loss")
            if all(record.get(key) is None for record in records)
        ),
    )


def _finite(records: Sequence[Mapping[str, Any]], key: str) -> list[At]:
    return [
        At(value=record[key], step=record["step"], seq_len=record.get("seq_len"))
        for record in records
        if record.get(key) is not None and math.isfinite(record[key])
    ]


def _diverged(record: Mapping[str, Any]) -> bool:
    """By the loss; where there is none, by the ratio."""
    value = record.get("loss_ratio") if record.get("loss") is None else record["loss"]
    return value is not None and not math.isfinite(value)


def _worst(ratios: list[At]) -> tuple[At, ...]:
    """A spike lasts several steps: its highest stands for it."""
    peaks: list[At] = []
    before: At | None = None
    for at in ratios:
        if at.value > 1:
            if before is None or before.value <= 1:
                peaks.append(at)
            elif at.value > peaks[-1].value:
                peaks[-1] = at
        before = at
    return tuple(sorted(peaks, key=lambda at: (-at.value, at.step))[:WORST])


def _correlation(records: Sequence[Mapping[str, Any]], ratios: Mapping[int, float | None], key: str) -> Correlation:
    pairs = [
        (ratio, record[key])
        for record in records
        if (ratio := ratios[id(record)]) is not None
        and record.get(key) is not None
        and math.isfinite(ratio)
        and math.isfinite(record[key])
    ]
    if len(pairs) < FEWEST:
        steps = "1 step has" if len(pairs) == 1 else f"{len(pairs)} steps have"
        why = f"{steps} both a loss ratio and {key}; {FEWEST} are needed."
        return Correlation(pearson=None, num_steps=len(pairs), why_none=why)
    try:
        found = statistics.correlation(*zip(*pairs, strict=True))
    except statistics.StatisticsError:
        why = f"loss ratio or {key} is the same in all steps."
        return Correlation(pearson=None, num_steps=len(pairs), why_none=why)
    except OverflowError:
        why = f"{key} is too large to be squared."
        return Correlation(pearson=None, num_steps=len(pairs), why_none=why)
    return Correlation(pearson=found, num_steps=len(pairs))


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
