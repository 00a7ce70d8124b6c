"""Labels beside a figure that do not cover each other.

In:  where each label would like to be, in order; how far apart they must be; the room there is.
Out: where they are. Guarantee: order kept, at least `gap` apart, inside the room if they fit at all, and nobody moves
who need not: a group of crowded labels is centred on where its members wanted to be.

    wanted 10, 12, 50 with a gap of 6     8, 14, 50
"""

from __future__ import annotations

from collections.abc import Sequence


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places for labels that want to be at `wanted`, ascending."""
    # Blocks of labels that touch: (sum of what their first label would like, number of labels).
    blocks: list[tuple[float, int]] = []
    for place in wanted:
        total, count = place, 1
        while blocks and _start(*blocks[-1], gap, low, high) + blocks[-1][1] * gap > _start(
            total, count, gap, low, high
        ):
            before, labels = blocks.pop()
            total, count = before + total - count * labels * gap, labels + count
        blocks.append((total, count))
    places: list[float] = []
    for total, count in blocks:
        first = _start(total, count, gap, low, high)
        places += [first + number * gap for number in range(count)]
    return places


def _start(total: float, count: int, gap: float, low: float, high: float) -> float:
    """Where the first label of a block lies: the mean of what its members want, inside the room."""
    return max(low, min(total / count, high - (count - 1) * gap))
