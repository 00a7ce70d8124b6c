"""The ideal curve: the length that a pacing function asks for, before it is aligned to a multiple or to few shapes.

In:  the `schedule` object of a plan, places t = step + 1.   Out: a length for each; None where the schedule is no
function of progress (explicit phases, document mode, a pacing function of one's own, which no file makes us load).
Guarantee: floating point, for the eye alone: what is trained is the plan. Within one multiple above the plan's own
integers wherever those are not bound by a shape budget.

    linear 8 -> 1024, T = 1000, at t = 500      8 + 1016 / 2 = 516; the plan, in multiples of 8, has 512 there
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]


def ideal_lengths(schedule: Mapping[str, int | str], t: Floats) -> Floats | None:
    """The length at each t of float64 [points]."""
    start, top = schedule.get("start_length"), schedule.get("max_length")
    warmup = schedule.get("length_warmup_steps", 1)
    if not isinstance(start, int) or not isinstance(top, int) or not isinstance(warmup, int) or not 0 < start <= top:
        return None
    x = np.minimum(1.0, np.asarray(t, np.float64) / max(1, warmup))
    share = _share(schedule, x, top / start)
    return None if share is None else start + (top - start) * np.clip(share, 0.0, 1.0)


def _share(schedule: Mapping[str, int | str], x: Floats, ratio: float) -> Floats | None:
    """How much of the way from start to max is done at x, the share of the warmup."""
    share: Floats
    match schedule["name"]:
        case "constant":
            share = np.ones_like(x)
        case "linear":
            share = x
        case "root":
            degree = schedule.get("degree")
            share = x ** (1 / degree if isinstance(degree, int) and degree > 1 else 1)
        case "exponential":
            share = (ratio**x - 1) / (ratio - 1) if ratio > 1 else np.ones_like(x)
        case "sine":
            share = np.sin(np.pi * x / 2)
        case "cosine":
            share = 1 - np.cos(np.pi * x / 2)
        case "logarithmic":
            share = 1 + np.log(x + np.exp(-10.0)) / 10
        case _:
            return None
    return share
