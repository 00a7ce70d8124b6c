"""What one run of docs/evidence.md shows: from its stability log to numbers.

In:  the records of a log (`curriculum.stability_log`), and those of the baseline of the same setting and seed.
Out: `measures`, a flat object.
Guarantee: a pure function of the records. The baseline reaches its own final loss with its last token.

    training loss 4 2 2.2 2     ratios - 0.5 1.1 1.0     one above 1.05, the highest 1.1

`final`: the last validation loss. `target_tokens`, `target_seconds`: when validation loss first was as low as the final
one of the baseline, interpolated between two validations; None if it never was. `diverged`: a loss was not finite, or
the last validation loss is more than `DIVERGED` times the lowest. `ratios`: steps whose loss ratio (loss over the lowest
before) is above each threshold; `ratios_full`: of these the steps at full length after `settled` tokens, which all arms
of a setting have: a step of few tokens has a noisy loss, so it counts steps that are alike. `correlation_*`: Pearson's, over
all steps with a ratio, between the loss ratio and Adam's second moment after the step before, as in the paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import StatisticsError, correlation, fmean
from typing import Any

THRESHOLDS = (1.1, 1.2, 1.5)
DIVERGED = 1.2
Records = Sequence[dict[str, Any]]


def measures(records: Records, baseline: Records, settled: int) -> dict[str, Any]:
    """The numbers of a run."""
    validated = validations(records)
    losses = [loss for *_, loss in validated]
    target = validations(baseline)[-1][2]
    tokens, seconds = reached(validated, target)
    ratios = {record["step"]: record["loss_ratio"] for record in records if record["loss_ratio"] is not None}
    late = {record["step"] for record in records if record["tokens"] > settled}
    finite = all(math.isfinite(record["loss"]) for record in records) and all(map(math.isfinite, losses))
    return {
        "steps": len(records),
        "tokens": records[-1]["tokens"],
        "seconds": records[-1]["seconds"],
        "final": losses[-1],
        "diverged": not finite or losses[-1] > DIVERGED * min(losses),
        "target": target,
        "target_tokens": tokens,
        "target_seconds": seconds,
        "ratios": {str(limit): sum(ratio > limit for ratio in ratios.values()) for limit in THRESHOLDS},
        "ratios_late": {str(limit): sum(ratios[s] > limit for s in ratios if s in late) for limit in THRESHOLDS},
        "ratio_max": max(ratios.values()),
        **{f"{key}_{name}": of(record[key] for record in records) for key in MOMENTS for name, of in PEAK_AND_MEAN.items()},
        **{f"correlation_{key}": moment_correlation(records, key) for key in MOMENTS},
    }


MOMENTS = ("variance_l1", "variance_max", "variance_sqrt_l1", "variance_sqrt_max")
PEAK_AND_MEAN = {"peak": max, "mean": fmean}
