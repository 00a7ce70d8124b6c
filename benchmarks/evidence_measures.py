"""What one run of docs/evidence.md shows: from its stability log to numbers.

In:  the records of a log (`curriculum.stability_log`), and those of the baseline of the same setting and seed.
Out: a flat object.   Guarantee: a pure function of the records.

    loss 4 2 2.2 2          ratios - 0.5 1.1 1.0: one step above 1.05, the highest 1.1
    validated 3 at 100 tokens, 2 at 200; the baseline ended at 2.5          target_tokens 150

final           the last validation loss
diverged        a loss was not finite, or the last validation loss is more than `DIVERGED` times the lowest one
above           steps whose loss ratio (loss over the lowest before) is above each of `THRESHOLDS`
above_late      the same of the steps after `late` tokens, when all arms of a setting train at full length: a step of
                few tokens has a noisy loss, so that only these steps are alike
target_tokens   when validation loss first was as low as the last of the baseline, interpolated between two validations;
target_seconds  None if it never was. The baseline arrives there with its last token or before
..._peak, _mean over all steps, of the L1 norm and the largest element of Adam's second moment
correlation_... Pearson's, between the loss ratio and these, over all steps that have a finite ratio
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import StatisticsError, correlation, fmean
from typing import Any

THRESHOLDS = (1.1, 1.2, 1.5)
DIVERGED = 1.2
MOMENTS = ("variance_l1", "variance_max")
Records = Sequence[dict[str, Any]]


def measures(records: Records, baseline: Records, late: int) -> dict[str, Any]:
    """The numbers of a run."""
    validated = validations(records)
    losses = [loss for _, _, loss in validated]
    ratios = [record for record in records if record.get("loss_ratio") is not None]
    finite = all(map(math.isfinite, [*losses, *(record["loss"] for record in records)]))
    tokens, seconds = reached(validated, validations(baseline)[-1][2])
    found: dict[str, Any] = {
        "steps": len(records),
        "tokens": records[-1]["tokens"],
        "seconds": records[-1]["seconds"],
        "final": losses[-1],
        "diverged": not finite or losses[-1] > DIVERGED * min(losses),
        "target_tokens": tokens,
        "target_seconds": seconds,
        "above": above(ratios),
        "above_late": above([record for record in ratios if record["tokens"] > late]),
        "ratio_max": max(record["loss_ratio"] for record in ratios),
        "grad_norm_max": max(record["grad_norm"] for record in records),
    }
    for name in MOMENTS:
        values = [record[name] for record in records]
        found[f"{name}_peak"], found[f"{name}_mean"] = max(values), fmean(values)
        pairs = [(record["loss_ratio"], record[name]) for record in ratios if math.isfinite(record["loss_ratio"])]
        found[f"correlation_{name}"] = pearson(pairs)
    return found


def validations(records: Records) -> list[tuple[float, float, float]]:
    """(tokens, seconds, loss) of each validation."""
    return [
        (record["tokens"], record["seconds"], record["validation_loss"])
        for record in records
        if record.get("validation_loss") is not None
    ]


def above(ratios: Records) -> dict[str, int]:
    """Steps above each threshold."""
    return {str(limit): sum(record["loss_ratio"] > limit for record in ratios) for limit in THRESHOLDS}


def reached(validated: Sequence[tuple[float, float, float]], target: float) -> tuple[float | None, float | None]:
    """Tokens and seconds at which the loss first was `target` or lower."""
    before = None
    for tokens, seconds, loss in validated:
        if loss <= target:
            if before is None or before[2] == loss:
                return tokens, seconds
            part = (before[2] - target) / (before[2] - loss)
            return before[0] + part * (tokens - before[0]), before[1] + part * (seconds - before[1])
        before = (tokens, seconds, loss)
    return None, None


def pearson(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Pearson's correlation; None where one side is constant or there are fewer than two pairs."""
    try:
        return correlation([x for x, _ in pairs], [y for _, y in pairs])
    except StatisticsError:
        return None
