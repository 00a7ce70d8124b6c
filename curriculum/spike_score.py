"""OLMo-core's spike score: the share of values far above those just before them.

In:  the values of a run's steps, in order; None where there is none.   Out: a `SpikeScore`.
Guarantees: for finite values the numbers of OLMo-core's StabilityMonitorCallback (2.5.0, its "total"), except that
nothing is said before a value could be judged. A value that is NaN or infinite is no spike but a divergence: it is
counted apart, and is no part of the window, where it would hide spikes for 128 steps.

    window 3, 2 standard deviations     1 2 3 | 2 9 2 2      9 > mean of (2 3 2) + 2 * 0.47: 1 of 7 values

A value is a spike if it is above mean + 6 standard deviations (of the population) of the 128 values before it, spikes
among them. A window in which all values are the same judges nothing.
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
    given = [value for value in values if value is not None]
    return _score(is_spike(values, window, deviations), len(given), name, window)


def spike_scores(
    losses: Sequence[float | None],
    norms: Sequence[float | None],
    window: int = WINDOW,
    deviations: float = DEVIATIONS,
) -> tuple[SpikeScore, SpikeScore, SpikeScore]:
    """Of the loss; of the gradient norm; of steps with a spike in either, of those that have a finite value of one."""
    of_losses, of_norms = (is_spike(values, window, deviations) for values in (losses, norms))
    both = list(zip(of_losses, of_norms, strict=True))
    either = [None if loss is None and norm is None else bool(loss or norm) for loss, norm in both]
    given = [(loss is not None, norm is not None) for loss, norm in zip(losses, norms, strict=True)]
    return (
        _score(of_losses, sum(loss for loss, _ in given), "loss", window),
        _score(of_norms, sum(norm for _, norm in given), "grad_norm", window),
        _score(either, sum(loss or norm for loss, norm in given), "loss or grad_norm", window),
    )


def _score(spikes: Sequence[bool | None], num_given: int, name: str, window: int) -> SpikeScore:
    judged = [spike for spike in spikes if spike is not None]
    enough = len(judged) > window
    steps = "1 step has" if len(judged) == 1 else f"{len(judged)} steps have"
    return SpikeScore(
        score=sum(judged) / len(judged) if enough else None,
        num_spikes=sum(judged),
        num_values=len(judged),
        num_not_finite=num_given - len(judged),
        why_none=None if enough else f"{steps} a finite {name}; more than {window} are needed.",
    )


def _is_above(value: float, before: Sequence[float], deviations: float) -> bool:
    mean = sum(before) / len(before)
    if value <= mean:
        return False
    distances = [other - mean for other in before]
    deviation = math.sqrt(sum(distance * distance for distance in distances) / len(distances))
    return deviation >= _FLAT and value > mean + deviations * deviation
