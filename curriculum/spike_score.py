"""OLMo-core's spike score: the share of values far above those just before them.

In:  the values of a run's steps, in order; None where there is none.   Out: a `SpikeScore`.
Guarantees: for finite values the numbers of OLMo-core's StabilityMonitorCallback (2.5.0, its "total"), except that
nothing is said before a value could be judged. A value that is NaN or infinite is no spike: it is counted apart, and is
no part of the window, where it would hide spikes for 128 steps.

    window 3, 2 standard deviations     1 2 3 | 2 9 2 2      9 > mean of (2 3 2) + 2 * 0.47: 1 of 7 values

A value is a spike if it is above mean + 6 standard deviations (of the population) of the 128 values before it, spikes
among them. A window in which all values are the same judges nothing. Of steps with a spike in either of two series
nothing is said where no value of either could be judged.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WINDOW = 128
DEVIATIONS = 6.0
_FLAT = 1e-10
"""A standard deviation below this is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpikeScore:
    """Spikes of a run."""

    score: float | None
    """spikes / values, those of the first window included, which cannot be spikes"""
    num_spikes: int
    num_values: int
    """finite ones"""
    num_not_finite: int
    why_none: str | None = None


def is_spike(values: Iterable[float | None], window: int = WINDOW, deviations: float = DEVIATIONS) -> list[bool | None]:
    """Of each value; None where there is none, or none that is finite."""
    before: deque[float] = deque(maxlen=window)
    found: list[bool | None] = []
    for value in values:
        if value is None or not math.isfinite(value):
            found.append(None)
            continue
        found.append(_is_above(value, before, deviations) if len(before) == window else False)
        before.append(value)
    return found


def spike_score(
    values: Sequence[float | None], name: str, window: int = WINDOW, deviations: float = DEVIATIONS
) -> SpikeScore:
    """Of one series; `name` is what sentences call it."""
    spikes = is_spike(values, window, deviations)
    return _score(spikes, [value is not None for value in values], _why_none(spikes, name, window))


def spike_scores(
    losses: Sequence[float | None],
    norms: Sequence[float | None],
    window: int = WINDOW,
    deviations: float = DEVIATIONS,
) -> tuple[SpikeScore, SpikeScore, SpikeScore]:
    """Of the loss; of the gradient norm; of steps with a spike in either, of those that have a finite value of one."""
    of_losses, of_norms = (is_spike(values, window, deviations) for values in (losses, norms))
    both = zip(of_losses, of_norms, strict=True)
    either = [None if loss is None and norm is None else bool(loss or norm) for loss, norm in both]
    no_loss, no_norm = _why_none(of_losses, "loss", window), _why_none(of_norms, "grad_norm", window)
    neither = f"neither loss nor grad_norm is finite in more than {window} steps." if no_loss and no_norm else None
    has_loss, has_norm = ([value is not None for value in values] for values in (losses, norms))
    has_either = [loss or norm for loss, norm in zip(has_loss, has_norm, strict=True)]
    return (
        _score(of_losses, has_loss, no_loss),
        _score(of_norms, has_norm, no_norm),
        _score(either, has_either, neither),
    )


def _why_none(spikes: Sequence[bool | None], name: str, window: int) -> str | None:
    num_values = sum(spike is not None for spike in spikes)
    if num_values > window:
        return None
    steps = "1 step has" if num_values == 1 else f"{num_values} steps have"
    return f"{steps} a finite {name}; more than {window} are needed."


def _score(spikes: Sequence[bool | None], given: Sequence[bool], why_none: str | None) -> SpikeScore:
    judged = [spike for spike in spikes if spike is not None]
    return SpikeScore(
        score=None if why_none else sum(judged) / len(judged),
        num_spikes=sum(judged),
        num_values=len(judged),
        num_not_finite=sum(given) - len(judged),
        why_none=why_none,
    )


def _is_above(value: float, before: Sequence[float], deviations: float) -> bool:
    mean = sum(before) / len(before)
    if value <= mean:
        return False
    deviation = math.dist(before, (mean,) * len(before)) / math.sqrt(len(before))
    return deviation >= _FLAT and value > mean + deviations * deviation
