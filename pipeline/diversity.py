"""Distinct documents per batch during the warmup, against drawing the same number of rows at random.

In:  the `document` of every row of a window in training order, and how much of the window each document fills.
Out: `DocumentCounts`, which add up over windows.
Guarantee: counts are exact; expectation and deviation are those of `rows` independent draws of a stream position of the
window. A batch of short rows from neighbouring text would hold few documents and raise the variance of its gradient.

    2 documents of equal size, 3 rows: E = 2 (1 - 1/2**3) = 1.75 documents
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curriculum.plan import Plan
from pipeline.order import IntArray
from pipeline.windows import Window, window_runs

LEAST_RATIO = 0.97
"""The mean over all warmup batches may lie 3 % below random."""
MOST_SIGMAS = 6.0
"""No batch may lie further below random, unless repeats in so small a batch are no surprise (`_is_surprising`)."""
FloatArray = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentCounts:
    """Distinct documents in some warmup batches."""

    num_steps: int
    distinct: int
    """sum over the steps"""
    expected: float
    """sum over the steps, if rows were drawn at random from their window"""
    least: int
    """distinct documents of the poorest batch"""
    worst_sigmas: float
    """the lowest (distinct - expectation) / standard deviation of a batch"""
    worst_step: int
    worst_distinct: int
    worst_expected: float
    worst_rows: int

    @property
    def ratio(self) -> float:
        """Mean distinct documents per batch, as a share of what random rows have."""
        return self.distinct / self.expected

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "warmup_steps": self.num_steps,
            "mean": self.distinct / self.num_steps,
            "min": self.least,
            "expected_mean": self.expected / self.num_steps,
            "ratio": self.ratio,
            "worst": {
                "step": self.worst_step,
                "rows": self.worst_rows,
                "distinct": self.worst_distinct,
                "expected": self.worst_expected,
                "standard_deviations": self.worst_sigmas,
            },
        }


def count_documents(
    plan: Plan, window: Window, documents: Mapping[int, IntArray], shares: FloatArray | Mapping[int, FloatArray]
) -> DocumentCounts | None:
    """Count distinct documents in every step of a window that is shorter than the maximum length.

    Args:
        plan: the plan.
        window: the window.
        documents: for each phase of the window, the `document` of its rows in training order.
        shares: share of the window that each of its documents fills; sums to 1. By phase where phases take of
            several sources in other shares.

    Returns:
        None if the window has no such step.
    """
    used = dict.fromkeys(documents, 0)
    step = window.first_step
    random: dict[tuple[int, int], tuple[float, float]] = {}
    found: list[DocumentCounts] = []
    for phase, num_steps in window_runs(plan, window):
        rows = plan.phases[phase].rows_per_step
        if plan.phases[phase].seq_len < plan.max_seq_len:
            of_phase, key = (shares[phase], phase) if isinstance(shares, Mapping) else (shares, -1)
            if (rows, key) not in random:
                random[rows, key] = distinct_at_random(of_phase, rows)
            first = used[phase]
            batches = documents[phase][first : first + num_steps * rows].reshape(num_steps, rows)
            found.append(_compare(_distinct(batches), step, rows, *random[rows, key]))
        used[phase] += num_steps * rows
        step += num_steps
    return merge_counts(found)


def distinct_at_random(shares: FloatArray, rows: int) -> tuple[float, float]:
    """Mean and standard deviation of the number of distinct documents among `rows` independent draws.

    A document of share p is missed with probability (1 - p)**rows, so the mean is the sum of 1 - (1 - p)**rows.
    The variance has a term for every pair of documents; the classical approximation without pairs (Dutko, Annals of
    Probability 1989; Hwang and Janson, Annals of Probability 2008) draws a Poisson number of rows instead, which makes
    the documents independent, and takes the variance of that number out again:

        var = sum(q (1 - q)) - rows * sum(p q)**2    with q = exp(-rows p)

    The second term is (d mean / d rows)**2 times the variance of a Poisson number with mean `rows`.
    """
    with np.errstate(divide="ignore"):  # a window of one document: log 0
        mean = -np.expm1(rows * np.log1p(-shares)).sum()
    missed = np.exp(-rows * shares)
    variance = (missed * (1 - missed)).sum() - rows * (shares * missed).sum() ** 2
    return float(mean), float(np.sqrt(max(variance, 0.0)))


def shares_of_interval(boundaries: IntArray, offset: int, num_tokens: int) -> FloatArray:
    """Share of an interval of the stream that each document in it fills, from the positions where documents begin."""
    starts = np.sort(boundaries)
    edges = np.concatenate(([offset], starts[starts < offset + num_tokens], [offset + num_tokens]))
    return np.diff(edges) / num_tokens


def shares_of_rows(documents: IntArray) -> FloatArray:
    """Share of the rows that begin in each document: what a truncated row hides has no known boundaries."""
    _, counts = np.unique(documents, return_counts=True)
    return counts / len(documents)


def merge_counts(counts: Sequence[DocumentCounts | None]) -> DocumentCounts | None:
    """The counts of several windows together."""
    known = [one for one in counts if one is not None]
    if not known:
        return None
    worst = min(known, key=lambda one: (one.worst_sigmas, one.worst_step))
    return DocumentCounts(
        num_steps=sum(one.num_steps for one in known),
        distinct=sum(one.distinct for one in known),
        expected=sum(one.expected for one in known),
        least=min(one.least for one in known),
        worst_sigmas=worst.worst_sigmas,
        worst_step=worst.worst_step,
        worst_distinct=worst.worst_distinct,
        worst_expected=worst.worst_expected,
        worst_rows=worst.worst_rows,
    )


def diversity_notes(counts: DocumentCounts | None) -> tuple[str, ...]:
    """What a person should know about the counts: no fault of the bytes, so never an error."""
    if counts is None:
        return ()
    notes = []
    if counts.ratio < LEAST_RATIO:
        notes.append(
            f"Warmup batches hold {counts.ratio:.1%} of the distinct documents of random rows, less than "
            f"{LEAST_RATIO:.0%}: the corpus or --shuffle-window is small for this batch."
        )
    if counts.worst_sigmas < -MOST_SIGMAS and _is_surprising(counts):
        notes.append(
            f"Step {counts.worst_step} holds {counts.worst_distinct} distinct documents, "
            f"{-counts.worst_sigmas:.1f} standard deviations below the {counts.worst_expected:.1f} of random rows."
        )
    return tuple(notes)


def _is_surprising(counts: DocumentCounts) -> bool:
    """Whether the worst batch is as unlikely as six deviations of a normal law, also where repeats are few.

    In a batch of 16 rows with 0.3 repeats on average, 4 repeats are seven deviations and happen once in 5,000 batches:
    few repeats are Poisson, not normal. A Poisson number of variance v exceeds its mean by d with a probability of at
    most exp(-v h(d / v)), h(u) = (1 + u) log(1 + u) - u (Bennett 1962), which is exp(-d**2 / (2 v)) for large v.
    """
    lacking = counts.worst_expected - counts.worst_distinct
    variance = (lacking / counts.worst_sigmas) ** 2
    ratio = lacking / variance
    return variance * ((1 + ratio) * math.log1p(ratio) - ratio) > MOST_SIGMAS**2 / 2


def _distinct(batches: IntArray) -> IntArray:
    """Number of distinct values in each row of [steps, rows]."""
    ordered = np.sort(batches, axis=1)
    return np.asarray(1 + np.count_nonzero(ordered[:, 1:] != ordered[:, :-1], axis=1), np.int64)


def _compare(distinct: IntArray, first_step: int, rows: int, mean: float, deviation: float) -> DocumentCounts:
    worst = int(np.argmin(distinct))
    return DocumentCounts(
        num_steps=len(distinct),
        distinct=int(distinct.sum()),
        expected=mean * len(distinct),
        least=int(distinct.min()),
        worst_sigmas=(int(distinct[worst]) - mean) / max(deviation, 1e-9),
        worst_step=first_step + worst,
        worst_distinct=int(distinct[worst]),
        worst_expected=mean,
        worst_rows=rows,
    )
