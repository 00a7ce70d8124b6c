"""How row length goes, for people: stretches of steps whose rows have one length.

In:  a plan.   Out: its runs, in order.
Guarantee: they tile the steps, and neighbours differ in length, whatever phases the plan is made of: an extension goes
on at the height of the last phase, and phases whose weights are listed one by one may have one length.

    phases 8:100, 16:50, 16:20 (an extension)      0 to 100 of 8, 100 to 170 of 16; they grow
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from curriculum.plan import Plan


class Run(NamedTuple):
    """Steps `first <= step < stop` of one length."""

    first: int
    stop: int
    seq_len: int


def length_runs(plan: Plan) -> list[Run]:
    """Neighbours of equal length are one."""
    runs: list[Run] = []
    step = 0
    for phase, num_steps in plan.order:
        seq_len, first = plan.phases[phase].seq_len, step
        step += num_steps
        if runs and runs[-1].seq_len == seq_len:
            first = runs.pop().first
        runs.append(Run(first, step, seq_len))
    return runs


def grows(runs: Sequence[Run]) -> bool:
    """Whether every run is longer than the one before; one run alone is, too."""
    return all(before.seq_len < after.seq_len for before, after in pairwise(runs))
