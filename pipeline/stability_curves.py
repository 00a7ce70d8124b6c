"""The curves in a picture of stability: what of a log is drawn, and what it is called.

In:  runs whose logs were read.   Out: points of (step or tokens, value), NaN where a curve breaks; names.
Guarantees: a curve joins steps between which nothing was logged, and breaks at a value that cannot be drawn, which
is NaN, infinite, or more than a float32. Of long runs as many steps are kept as can be seen, the highest and the lowest
of neighbouring ones, so that no spike is lost.

    loss 4, NaN, 3, 2 in steps 0, 1, 2, 4       a point, a gap, a line from step 2 to 4
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, takewhile
from pathlib import Path

from curriculum.divergence import VARIANCES, diverged, loss_of
from curriculum.printable import printable_text
from curriculum.stability import loss_ratios
from curriculum.stability_line import Record
from pipeline.stability_logs import Run

COLUMNS = 600
"""Groups of neighbouring steps of a long run, of which each shows two, and a gap if it has one."""
_ABOVE_ZERO = (*VARIANCES, "grad_norm")
"""Measures that are 0 only where nothing was measured, as of a step without gradients: no reason for a linear axis."""
_MOST, _LEAST = 3.4e38, 1e-45
"""What float32 has: a larger number in a log is none of a model, and would leave no room for the others."""
_NAME = 60
"""Characters of a name: half the width."""

Points = list[tuple[int, float]]


def points(run: Run, key: str, place: str = "step") -> Points:
    """The curve of a measure, over the key `place`; empty if there is nothing of it to draw."""
    values = loss_ratios(run.records) if key == "loss_ratio" else [_of(record, key) for record in run.records]
    curve = [
        (at, value if _is_drawn(value, key) else math.nan)
        for at, value in zip(places(run, place), values, strict=True)
        if value is not None
    ]
    return curve if finite(curve) else []


def places(run: Run, key: str) -> list[int]:
    """Step or tokens of each record; an evaluation that has no tokens is where the step before it ended."""
    return list(
        accumulate(run.records, lambda before, record: before if record.get(key) is None else record[key], initial=0)
    )[1:]


def finite(curve: Points) -> list[float]:
    """The values of a curve."""
    return [value for _, value in curve if not math.isnan(value)]


def above_0(curve: Points) -> Points:
    """What has a place on a logarithmic axis; the curve breaks at all else."""
    return [(place, value if value > 0 else math.nan) for place, value in curve]


def alone(curve: Points) -> list[int]:
    """Places of points between gaps, where no line begins or ends."""
    values = [math.nan, *(value for _, value in curve), math.nan]
    gaps = [math.isnan(value) for value in values]
    return [place for place in range(len(curve)) if gaps[place] and not gaps[place + 1] and gaps[place + 2]]


def thinned(curve: Points, columns: int = COLUMNS) -> Points:
    """Of many points the lowest and the highest of each group of neighbours, in their order; few as they are."""
    if len(curve) <= 2 * columns:
        return curve
    kept: Points = []
    for column in range(columns):
        group = curve[column * len(curve) // columns : (column + 1) * len(curve) // columns]
        drawn = [point for point in group if not math.isnan(point[1])]
        ends = {min(drawn, key=_value), max(drawn, key=_value)} if drawn else set()
        gap = next((point for point in group if math.isnan(point[1])), None)
        kept += sorted(ends if gap is None else {*ends, gap})
    return kept


def divergences(run: Run, place: str = "step") -> list[int]:
    """Steps that diverged, each by the key `place`."""
    return [at for at, record in zip(places(run, place), run.records, strict=True) if diverged(record)]


def names(logs: Sequence[str]) -> list[str]:
    """Paths without the folders that all share, and with no more than the end of a long one."""
    parts = [Path(log).parts for log in logs]
    columns = zip(*(one[:-1] for one in parts), strict=False)
    shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    cut = [printable_text(str(Path(*one[shared:]))) for one in parts]
    return [name if len(name) <= _NAME else f"...{name[3 - _NAME :]}" for name in cut]


def _of(record: Record, key: str) -> float | None:
    return loss_of(record) if key == "loss" else record.get(key)


def _is_drawn(value: float, key: str) -> bool:
    return abs(value) <= _MOST and (value >= _LEAST or key not in _ABOVE_ZERO)


def _value(point: tuple[int, float]) -> float:
    return point[1]
