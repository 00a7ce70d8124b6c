"""How two measures of a run's steps go together.

In:  the values of both, step by step; None where there is none.   Out: a `Correlation`.
Guarantees: Pearson's, of the steps that have both, finite; what cannot be told is None, with a sentence that says why.
No p-value: it would be that of independent samples, and the steps of a run follow from each other.

    loss ratio 1 1 2 1 1 2 ...     variance 3 3 9 3 3 9 ...     1.0: where one is high, the other is
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

FEWEST = 16
"""Steps: a correlation is hardly ever what it seems for fewer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Correlation:
    """Of a value with the loss ratio over all steps that have both, finite."""

    pearson: float | None
    num_steps: int
    why_none: str | None = None


def correlation(ratios: Sequence[float | None], values: Sequence[float | None]) -> Correlation:
    """Of loss ratios with the values of the same steps, which sentences call `it`."""
    pairs = [
        (ratio, value)
        for ratio, value in zip(ratios, values, strict=True)
        if ratio is not None and value is not None and math.isfinite(ratio) and math.isfinite(value)
    ]
    if len(pairs) < FEWEST:
        steps = "1 step has" if len(pairs) == 1 else f"{len(pairs)} steps have"
        why = f"{steps} both it and a loss ratio; {FEWEST} are needed."
        return Correlation(pearson=None, num_steps=len(pairs), why_none=why)
    try:
        pearson = statistics.correlation(*map(_scaled, zip(*pairs, strict=True)))
    except statistics.StatisticsError:
        why = "it or the loss ratio is the same in all steps."
        return Correlation(pearson=None, num_steps=len(pairs), why_none=why)
    return Correlation(pearson=pearson, num_steps=len(pairs))


def _scaled(values: Sequence[float]) -> list[float]:
    """Within 1: squares of 1e200 are too large for floats, those of 1e-200 are 0."""
    largest = max(map(abs, values))
    return [value / largest for value in values] if largest else list(values)
