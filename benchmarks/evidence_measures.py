"""What one run of docs/evidence.md shows: from its stability log to numbers.

In:  the records of a log (`curriculum.stability_log`), and those of the baseline of the same setting and seed.
Out: a flat object.   Guarantee: a pure function of the records; ratios, spikes and correlations are those of
`curriculum stability` (`curriculum/stability.py`).

    loss 4 2 2.2 2          ratios - 0.5 1.1 1.0: one step above 1.05, the highest 1.1
    validated 3 at 100 tokens, 2 at 200; the baseline ended at 2.5          target_tokens 150

final           the last validation loss; `gain`: how much lower it is than the last of the baseline
diverged        a loss was not finite, or the last validation loss is more than `DIVERGED` times the lowest one
above           steps whose loss ratio (loss over the lowest before) is above each of `THRESHOLDS`
above_late      the same of the steps after `late` tokens, when all arms of a setting train at full length: a step of
                few tokens has a noisy loss, so that only these steps are alike
target_tokens   when validation loss first was as low as the last of the baseline, interpolated between two validations;
target_seconds  None if it never was. The baseline arrives there with its last token or before
..._peak, _mean over all steps, of the L1 norm and the largest element of Adam's second moment
correlation_... Pearson's, of the loss ratio with these, over all steps; None for fewer than 16
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from curriculum.stability import loss_ratios, summarize

THRESHOLDS = (1.1, 1.2, 1.5)
DIVERGED = 1.2
Records = Sequence[dict[str, Any]]


def measures(records: Records, baseline: Records, late: int) -> dict[str, Any]:
    """The numbers of a run."""
    validated = validations(records)
    losses = [loss for _, _, loss in validated]
    target = validations(baseline)[-1][2]
    tokens, seconds = reached(validated, target)
    summary = summarize(records, THRESHOLDS)
    ratios = zip(records, loss_ratios(records), strict=True)
    late_ratios = [ratio for record, ratio in ratios if record["tokens"] > late and ratio is not None]
    finite = not summary.divergences and all(map(math.isfinite, losses))
    return {
        "steps": summary.num_steps,
        "tokens": summary.tokens,
        "seconds": records[-1]["seconds"],
        "final": losses[-1],
        "gain": target - losses[-1],
        "diverged": not finite or losses[-1] > DIVERGED * min(losses),
        "target_tokens": tokens,
        "target_seconds": seconds,
        "above": {f"{limit:g}": count for limit, count in summary.steps_above.items()},
        "above_late": {f"{limit:g}": sum(ratio > limit for ratio in late_ratios) for limit in THRESHOLDS},
        "ratio_max": summary.max_ratio.value if summary.max_ratio else None,
        "grad_norm_max": max(record["grad_norm"] for record in records),
        "variance_l1_peak": summary.variance_l1.value if summary.variance_l1 else None,
        "variance_l1_mean": fmean(record["variance_l1"] for record in records),
        "variance_max_peak": summary.variance_max.value if summary.variance_max else None,
        "variance_max_mean": fmean(record["variance_max"] for record in records),
        "correlation_l1": summary.correlation_l1.pearson,
        "correlation_max": summary.correlation_max.pearson,
    }


def validations(records: Records) -> list[tuple[float, float, float]]:
    """(tokens, seconds, loss) of each validation."""
    return [
        (record["tokens"], record["seconds"], record["validation_loss"])
        for record in records
        if record.get("validation_loss") is not None
    ]


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
