"""The loss ratio of the sequence length warmup paper: how far the loss went up, and where it did.

In:  the losses of a run's steps, one after the other.   Out: ratios; of ratios, the peaks with their places.
Guarantee: a loss that is not finite has a ratio that is not, and changes no later one.

    loss          4.0   5.0   3.0   3.45  3.2   3.4   3.0
    loss ratio    None  1.25  0.75  1.15  1.07  1.13  1.0       peaks: 1.25 and 1.15; 1.13 is of the same spike
"""

from __future__ import annotations

import math
from collections.abc import Sequence


class LossRatio:
    """loss / lowest loss of the steps before: above 1 the loss went up (Li, Zhang, He 2022)."""

    def __init__(self) -> None:
        """No step was seen."""
        self._lowest: float | None = None

    def of(self, loss: float | None) -> float | None:
        """The ratio of the next step; None in the first, and where the lowest is no loss of a model: 0 or below.

        A loss that is not finite changes no later ratio.
        """
        if loss is None:
            return None
        ratio = None if self._lowest is None or self._lowest <= 0 else loss / self._lowest
        if math.isfinite(loss) and (self._lowest is None or loss < self._lowest):
            self._lowest = loss
        return ratio


def peaks(ratios: Sequence[float | None]) -> list[tuple[float, int]]:
    """The highest ratio of each spike and its place; ratios that are not finite are passed over.

    A spike begins where the ratio is twice as far above 1 as it had fallen before, and ends where it has fallen back to
    half the height of its peak. So one that fades for long is one; and a level above 1, as after a lucky batch, hides
    none that stands out of it.
    """
    found: list[tuple[float, int]] = []
    peak: tuple[float, int] | None = None
    height = fallen = 0.0
    for place, ratio in enumerate(ratios):
        if ratio is None or not math.isfinite(ratio):
            continue
        above = max(0.0, ratio - 1)
        if above > (2 * fallen if peak is None else height):
            peak, height = (ratio, place), above
        elif peak is None:
            fallen = min(fallen, above)
        elif above <= height / 2:
            found.append(peak)
            peak, fallen = None, above
    return found if peak is None else [*found, peak]
