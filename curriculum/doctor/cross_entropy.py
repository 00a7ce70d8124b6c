"""Plain cross-entropy in numpy, float64: what a loss should be, and what it is if labels are shifted once too often.

In:  logits [rows, seq_len, vocabulary] and labels [rows, seq_len].
Out: two means over the labels that are not negative: of logits[:, j] against labels[:, j], and against
labels[:, j + 1].
Guarantee: at most `_CHUNK_VALUES` logits are widened at once.

    logits that say "7" with certainty everywhere, labels 7 7 8     ->   one wrong of 3, and one wrong of 2
"""

from __future__ import annotations

from typing import Any

import numpy as np

_CHUNK_VALUES = 1 << 23
"""64 MiB of float64."""


def plain_and_shifted(
    logits: np.ndarray[Any, Any], labels: np.ndarray[Any, np.dtype[np.int64]]
) -> tuple[float | None, float | None]:
    """`(plain, shifted)`; None where no label is left, or (None, None) if the shapes do not belong together."""
    if logits.ndim != 3 or logits.shape[:2] != labels.shape or (labels.size and labels.max() >= logits.shape[2]):
        return None, None
    shifted = np.full_like(labels, -100)
    shifted[:, :-1] = labels[:, 1:]
    flat = logits.reshape(-1, logits.shape[2])
    sums, counts = np.zeros(2), np.zeros(2, np.int64)
    at_once = max(1, _CHUNK_VALUES // max(1, logits.shape[2]))
    for start in range(0, len(flat), at_once):
        values = flat[start : start + at_once].astype(np.float64)
        values -= values.max(axis=1, keepdims=True)
        log_sums = np.log(np.exp(values).sum(axis=1))
        for which, of_labels in enumerate((labels, shifted)):
            wanted = of_labels.reshape(-1)[start : start + at_once]
            places = np.flatnonzero(wanted >= 0)
            sums[which] += (log_sums[places] - values[places, wanted[places]]).sum()
            counts[which] += len(places)
    plain, double = (float(total / count) if count else None for total, count in zip(sums, counts, strict=True))
    return plain, double
