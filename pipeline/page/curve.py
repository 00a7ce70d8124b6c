"""The planned curve: a value of every step, in as many numbers as a picture can show.

In:  runs of (value, number of steps).
Out: `Stairs`, exact, where the runs are few; else, or if they go up and down all the time, `Band`: lowest, highest and
mean value of equal parts of all steps.
Guarantee: at most `MOST` values, whatever the plan; the mean of a band's parts, weighed by steps, is that of the runs.

    (8, 3), (16, 1)          edges 0 3 4, values 8 16
    8, 16, 8, 16 ... in 2    parts: low 8 8, high 16 16, mean 12 12
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MOST = 1200
"""Runs that are drawn one by one; beyond this they are narrower than a pixel."""
MOST_TURNS = 100
"""Of runs that go up and down: more of them are a thicket."""
PARTS = 120

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Stairs:
    """`values[i]` from step `edges[i]` to `edges[i + 1]`."""

    edges: Ints
    """[runs + 1]"""
    values: Ints
    """[runs]"""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Band:
    """What the steps from `edges[i]` to `edges[i + 1]` have."""

    edges: Floats
    """[parts + 1]"""
    low: Ints
    high: Ints
    mean: Floats


def curve_of(runs: Sequence[tuple[int, int]], most: int = MOST, parts: int = PARTS) -> Stairs | Band:
    """The curve of `((value, num_steps), ...)`."""
    table = np.array(runs, np.int64).reshape(-1, 2)
    values, edges = table[:, 0], np.concatenate(([0], np.cumsum(table[:, 1])))
    turns = int(np.count_nonzero(np.diff(np.sign(np.diff(values)))))
    if len(values) <= most and turns <= MOST_TURNS:
        return Stairs(edges=edges, values=values)
    cuts = np.linspace(0, float(edges[-1]), parts + 1)
    first = np.searchsorted(edges, cuts[:-1], side="right") - 1
    last = np.searchsorted(edges, cuts[1:], side="left")  # the run that holds the end of the part, and no later one
    # The sum of all values before each cut, from which every part's mean follows.
    sums = np.concatenate(([0.0], np.cumsum(table[:, 0] * table[:, 1], dtype=np.float64)))
    before = np.interp(cuts, edges, sums)
    return Band(
        edges=cuts,
        low=np.array([values[a:b].min() for a, b in zip(first, last, strict=True)]),
        high=np.array([values[a:b].max() for a, b in zip(first, last, strict=True)]),
        mean=np.diff(before) / np.diff(cuts),
    )
