"""The loss ratio of the sequence length warmup paper: how far the loss went up.

In:  the losses of a run's steps, one after the other.   Out: ratios.
Guarantee: a loss that is not finite has a ratio that is not, and changes no later one.

    loss          4.0   5.0   3.0   3.45
    loss ratio    None  1.25  0.75  1.15
"""

from __future__ import annotations

import math


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
