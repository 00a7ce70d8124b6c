"""Phases side by side: one bar each, or neighbours together where there are more than a screen has places for.

In:  numbers of each phase.   Out: the same in at most `most` groups of neighbours, and the phase that each begins with.
Guarantee: sums are kept, order is kept, groups differ by one phase in size at most.

    5 phases in 2 groups     phases 0 1 and 2 3 4
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

MOST_BARS = 240
"""On a page 760 wide a bar is then 3 wide, border included."""


def group_starts(num_phases: int, most: int = MOST_BARS) -> list[int]:
    """The first phase of every group, and the number of phases as the last element."""
    num_groups = min(num_phases, most)
    return [number * num_phases // num_groups for number in range(num_groups + 1)]


def group_sums(values: Sequence[int], starts: Sequence[int]) -> list[int]:
    """The sum of each group."""
    return [sum(values[first:stop]) for first, stop in pairwise(starts)]


def shown_ticks(count: int, most: int) -> list[int]:
    """Places of labels: evenly spread, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(number * (count - 1) / (most - 1)) for number in range(most)})
