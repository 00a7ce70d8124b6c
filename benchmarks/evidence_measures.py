"""What one run of docs/evidence.md shows: from its stability log to numbers.

In:  the records of a log (`curriculum.stability_log`), and those of the baseline of the same setting and seed.
Out: a flat object.   Guarantee: a pure function of the records; ratios, spikes and correlations are those of
`curriculum stability` (`curriculum/stability.py`). No number is NaN or infinite: what cannot be said is None.

    loss 4 2 2.2 2          ratios - 0.5 1.1 1.0: one step above 1.05, the highest 1.1
    validated 3 at 100 tokens, 2 at 200; the baseline ended at 2.5          target_tokens 150

final           the last validation loss, None of a run that diverged; `gain`: how much lower it is than the last of the
                baseline, None if one of both diverged
diverged        a step did (`curriculum.stability.diverged`), or the last validation loss is more than `DIVERGED` times
                the lowest one; `baseline_diverged`: the same of the baseline
above           steps whose loss ratio (loss over the lowest before) is above each of `THRESHOLDS`
above_late      the same of the steps after `late` tokens, when all arms of a setting train at full length: a step of
                few tokens has a noisy loss, so that only these steps are alike; None if there are none
target_tokens   when validation loss first was as low as the last of the baseline, interpolated between two validations;
                None if it never was, or the baseline diverged. The baseline arrives there with its last token or before
seconds, target_seconds      the same in wall-clock seconds, validations and those before a resume included
..._peak, _mean over all steps where it is finite, of the L1 norm and the largest element of Adam's second moment and of
                its square root
correlation_*   Pearson's, of the loss ratio with a variance, over all steps; None for fewer than 16
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from curriculum.stability import diverged, loss_ratios, summarize

THRESHOLDS = (1.1, 1.2, 1.5)
DIVERGED = 1.2
MOMENTS = ("variance_l1", "variance_max", "variance_sqrt_l1", "variance_sqrt_max")
Records = Sequence[dict[str, Any]]


def measures(records: Records, baseline: Records, late: int) -> dict[str, Any]:
    """The numbers of a run."""
    own, target = final(records), final(baseline)
    summary = summarize(records, THRESHOLDS)
    ratios = zip(records, loss_ratios(records), strict=True)
    late_ratios = [
        ratio for record, ratio in ratios if record["tokens"] > late and ratio is not None and math.isfinite(ratio)
    ]
    return {
        "steps": summary.num_steps,
        "tokens": summary.tokens,
        "final": own,
        "gain": None if own is None or target is None else target - own,
        "diverged": own is None,
        "baseline_diverged": target is None,
        "target_tokens": reached(validations(records), target),
        "seconds": records[-1]["seconds"],
        "target_seconds": reached(validations(records, "seconds"), target),
        "above": {f"{limit:g}": count for limit, count in summary.steps_above.items()},
        "above_late": {
            f"{limit:g}": sum(ratio > limit for ratio in late_ratios) if late_ratios else None for limit in THRESHOLDS
        },
        "ratio_max": summary.max_ratio.value if summary.max_ratio else None,
        "grad_norm_max": max(finite(records, "grad_norm"), default=None),
        **{f"{moment}_peak": max(finite(records, moment), default=None) for moment in MOMENTS},
        **{f"{moment}_mean": fmean(finite(records, moment)) if finite(records, moment) else None for moment in MOMENTS},
        **{
            f"correlation_{moment}": summary.correlations[moment].pearson
            for moment in ("variance_max", "variance_sqrt_l1")
        },
    }


def final(records: Records) -> float | None:
    """The last validation loss; None if the run diverged."""
    losses = [loss for _, loss in validations(records)]
    if any(map(diverged, records)) or losses[-1] > DIVERGED * min(losses):
        return None
    return losses[-1]


def finite(records: Records, key: str) -> list[float]:
    """The values of a key that are numbers."""
    return [record[key] for record in records if record.get(key) is not None and math.isfinite(record[key])]


def validations(records: Records, spent: str = "tokens") -> list[tuple[float, float]]:
    """(tokens or seconds, loss) of each validation whose loss is finite."""
    return [(record[spent], loss) for record in records for loss in finite([record], "validation_loss")]


def reached(validated: Sequence[tuple[float, float]], target: float | None) -> float | None:
    """What was spent when the loss first was `target` or lower."""
    before = None
    for spent, loss in validated if target is not None else ():
        if loss <= target:
            if before is None:
                return spent
            return before[0] + (before[1] - target) / (before[1] - loss) * (spent - before[0])
        before = (spent, loss)
    return None
