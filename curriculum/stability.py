"""How unstable a training run is, in the measures of the sequence length warmup paper and of OLMo-core.

In:  losses and other values of its steps, plain floats.   Out: ratios.
Guarantee: standard library only; a run that resumes has the ratios of one that never stopped.

    loss                4.0   5.0   3.0   3.3
    lowest before        -    4.0   4.0   3.0
    loss ratio          None  1.25  0.75  1.1
"""

from __future__ import annotations

import math


class LossRatio:
    """loss / lowest loss of the steps before: above 1 the loss went up (Li, Zhang, He 2022)."""

    def __init__(self) -> None:
        """No step was seen."""
        self._lowest: float | None = None

    def of(self, loss: float | None) -> float | None:
        """The ratio of the next step; None in the first. A loss that is not finite changes no later ratio."""
        if loss is None:
            return None
        ratio = None if self._lowest is None else loss / self._lowest
        if math.isfinite(loss) and (self._lowest is None or loss < self._lowest):
            self._lowest = loss
        return ratio
