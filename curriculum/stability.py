"""How unstable a training run is, in the measures of the sequence length warmup paper and of OLMo-core.

In:  the records of a run's log.   Out: ratios of losses; and a `Summary`, plain numbers with their steps.
Guarantees: standard library only; a run that resumes has the ratios of one that never stopped; a value that is NaN or
infinite is told apart, as a divergence (`curriculum.divergence`) or a gradient norm that is not finite, and counted
nowhere else; what cannot be told is None, with a sentence that says why.

    loss                4.0   5.0   3.0   3.45   NaN       steps above 1.1: 2, above 1.2: 1; highest 1.25 in step 1
    lowest before        -    4.0   4.0   3.0    3.0       1 divergence
    loss ratio          None  1.25  0.75  1.15   NaN

The ratio and its correlation with Adam's variance are those of Li, Zhang, He 2022 (arXiv 2108.06084). The thresholds of
`THRESHOLDS` are our choice: the paper's text was not at hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from typing import Any

from curriculum.correlation import Correlation, correlation
from curriculum.divergence import VARIANCES, diverged, loss_of
from curriculum.loss_ratio import LossRatio, peaks
from curriculum.spike_score import SpikeScore, spike_scores

__all__ = [
    "THRESHOLDS",
    "VARIANCES",
    "At",
    "Correlation",
    "LossRatio",
    "Summary",
    "diverged",
    "loss_ratios",
    "summarize",
]

THRESHOLDS = (1.1, 1.2, 1.5, 2.0)
WORST = 5
"""Spikes that a summary names."""
_NEEDED = ("seq_len", "loss", "grad_norm", *VARIANCES, "validation_loss")
_Placed = tuple[float, int]
"""A value, and the place of its record."""


@dataclass(frozen=True, kw_only=True, slots=True)
class At:
    """A value and the step that has it."""

    value: float
    step: int
    seq_len: int | None
    """of that step, where the log has it"""


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
    """steps that `diverged`"""
    first_divergence: int | None
    """the step of the first"""
    max_ratio: At | None
    steps_above: dict[float, int]
    """threshold -> steps whose loss ratio is above it"""
    steps_without_ratio: int
    """that have a loss, after one that was 0 or less"""
    worst: tuple[At, ...]
    """peaks of the highest spikes of the loss ratio, highest first"""
    loss_spikes: SpikeScore
    grad_norm_spikes: SpikeScore
    any_spikes: SpikeScore
    """steps with a spike in either: OLMo-core's SpikeScore"""
    first_grad_norm_not_finite: int | None
    """the step; `grad_norm_spikes` has how many"""
    variances: dict[str, At]
    """of `VARIANCES` that the log has, the highest"""
    correlations: dict[str, Correlation]
    """of `VARIANCES` with the loss ratio"""
    best_validation: At | None
    last_validation: At | None
    """that the log has, also if it is NaN or infinite: an earlier one is of weights that are gone"""
    missing: tuple[str, ...]
    """keys without any value in the log, of those that a measure here needs"""

    def to_json(self) -> dict[str, Any]:
        """Plain values; infinite ones as strings, as in the log."""
        values = asdict(self)
        values["steps_above"] = {as_typed(threshold): count for threshold, count in self.steps_above.items()}
        strict: dict[str, Any] = _strict(values)
        return strict


def as_typed(threshold: float) -> str:
    """2.0 as 2, all others with as many digits as it takes to tell them apart."""
    return repr(float(threshold)).removesuffix(".0")


def loss_ratios(records: Sequence[Mapping[str, Any]]) -> list[float | None]:
    """Of each record: from its loss; in a log without losses, what it says itself."""
    if all(record.get("loss") is None for record in records):
        return [record.get("loss_ratio") for record in records]
    ratio = LossRatio()
    return [ratio.of(loss_of(record)) for record in records]


def summarize(records: Sequence[Mapping[str, Any]], thresholds: Iterable[float] = THRESHOLDS) -> Summary:
    """Of the records of a log, at least one, in the order of their steps (`curriculum.stability_log.read_log`)."""
    columns = {key: [record.get(key) for record in records] for key in ("tokens", *_NEEDED)}
    losses, validations = [loss_of(record) for record in records], columns["validation_loss"]
    ratios = loss_ratios(records)
    finite = [ratio for ratio, _ in _finite(ratios)]
    spikes = sorted(peaks(ratios), key=lambda peak: -peak[0])
    not_above_0 = next((place for loss, place in _finite(losses) if loss <= 0), len(losses))
    broken = [record["step"] for record in records if diverged(record)]
    norms = zip(records, columns["grad_norm"], strict=True)
    bad_norms = [record["step"] for record, norm in norms if norm is not None and not math.isfinite(norm)]
    validated = [(loss, place) for place, loss in enumerate(validations) if loss is not None]
    of_losses, of_norms, of_either = spike_scores(losses, columns["grad_norm"])
    return Summary(
        num_steps=len(records),
        first_step=records[0]["step"],
        last_step=records[-1]["step"],
        tokens=next((tokens for tokens in reversed(columns["tokens"]) if tokens is not None), None),
        lowest_loss=_chosen(records, losses, min),
        last_loss=next((loss for loss in reversed(losses) if loss is not None), None),
        divergences=len(broken),
        first_divergence=broken[0] if broken else None,
        max_ratio=_chosen(records, ratios, _highest),
        steps_above={threshold: sum(ratio > threshold for ratio in finite) for threshold in thresholds},
        steps_without_ratio=sum(loss is not None for loss in losses[not_above_0 + 1 :]),
        worst=tuple(_at(records, peak) for peak in spikes[:WORST]),
        loss_spikes=of_losses,
        grad_norm_spikes=of_norms,
        any_spikes=of_either,
        first_grad_norm_not_finite=bad_norms[0] if bad_norms else None,
        variances={key: at for key in VARIANCES if (at := _chosen(records, columns[key], _highest))},
        correlations={key: correlation(ratios, columns[key]) for key in VARIANCES},
        best_validation=_chosen(records, validations, min),
        last_validation=_at(records, validated[-1]) if validated else None,
        missing=tuple(key for key in _NEEDED if all(value is None for value in columns[key])),
    )


def _finite(values: Sequence[float | None]) -> list[_Placed]:
    return [(value, place) for place, value in enumerate(values) if value is not None and math.isfinite(value)]


def _highest(found: list[_Placed]) -> _Placed:
    """The first of them, as `min` takes the first of the lowest."""
    return max(found, key=itemgetter(0))


def _chosen(
    records: Sequence[Mapping[str, Any]], values: Sequence[float | None], choose: Callable[[list[_Placed]], _Placed]
) -> At | None:
    """Of the finite values of the records, None where there is none."""
    found = _finite(values)
    return _at(records, choose(found)) if found else None


def _at(records: Sequence[Mapping[str, Any]], found: _Placed) -> At:
    value, place = found
    return At(value=value, step=records[place]["step"], seq_len=records[place].get("seq_len"))


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
