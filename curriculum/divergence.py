"""Whether a step of a run diverged: the one rule of all who count or draw divergences.

In:  a record of a log (`curriculum.stability_log`).   Out: its loss, as it counts; whether it diverged.
Guarantee: a loss, a validation loss or a variance that is NaN or infinite is a divergence. A gradient norm alone is
none: scalers of fp16 skip such a step, and the run goes on.

    loss 3.0, variance_l1 NaN       diverged: Adam's variance is a running mean, and stays NaN
    loss 3.0, grad_norm infinite    did not
    loss 0.0, grad_norm NaN         diverged: so Hugging Face Trainer, by default, reports a loss that is NaN
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

VARIANCES = ("variance_l1", "variance_max", "variance_sqrt_l1", "variance_sqrt_max")
"""Keys of a log: L1 norm and largest element of Adam's second moment, and of its square root."""


def diverged(record: Mapping[str, Any]) -> bool:
    """Whether its loss, its validation loss or a variance is not finite; where it has no loss, its loss ratio."""
    loss = record.get("loss_ratio") if record.get("loss") is None else loss_of(record)
    values = (loss, *(record.get(key) for key in ("validation_loss", *VARIANCES)))
    return any(value is not None and not math.isfinite(value) for value in values)


def loss_of(record: Mapping[str, Any]) -> float | None:
    """Its loss, None without one; NaN if it `stands_for_nan`, and would be the lowest of the run."""
    return math.nan if stands_for_nan(record) else record.get("loss")


def stands_for_nan(record: Mapping[str, Any]) -> bool:
    """Whether its loss is the 0 that Trainer, unless logging_nan_inf_filter is off, reports for NaN or infinity."""
    grad_norm = record.get("grad_norm")
    return record.get("loss") == 0 and grad_norm is not None and not math.isfinite(grad_norm)
