"""What a plan would do to a corpus, phase by phase and mode by mode.

In:  a plan, the census of the corpus.   Out: `Analysis`: shares from 0 to 1 for each phase and for the run, and advice.
Guarantee: each share is an exact fraction of integers, turned into a float at the very end; nothing is sampled and no
token is read. All modes are described, whatever the mode of the plan, so that they can be compared.

    100 documents of 9 tokens, one phase of rows of 8: every token is in a document long enough, no document has to be
    split by best-fit, yet rows of a stream cut 7 of 8 documents and hold 1 + 7 * 100 / 900 = 1.8 of them
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any

from curriculum.plan import Plan
from pipeline.census import BucketShares, Census
from pipeline.recommendation import Recommendation, recommend

BY_ROWS = ("tokens_dropped", "documents_reached")
"""Shares of what truncated rows consume, and all of those consume the same: averaged by rows, not by trained tokens."""

SHORTEST_BUCKET = 256
"""The shortest row of Dataset BucketShares (`--min-bucket 8`) and of OLMo-core (`min_sequence_length`) by default."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shares:
    """What rows of one length mean for a corpus."""

    long_enough: float
    """tokens in documents that fill a row on their own"""
    cross_document: float
    """causal attention pairs of a row of the stream that join two documents (segment, truncate)"""
    documents_per_row: float
    """a mean, not a share: documents that a row of the stream holds a part of (segment, truncate)"""
    documents_cut: float
    """documents that rows of the stream cut (segment)"""
    tokens_dropped: float
    """consumed tokens that truncation drops (truncate)"""
    documents_reached: float
    """documents of which truncation keeps a token (truncate)"""
    documents_split: float
    """documents that no row holds whole (best-fit)"""
    tokens_split: float
    """tokens in those documents (best-fit)"""


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseAnalysis:
    """A phase, or neighbouring phases of a long table."""

    shortest: int
    longest: int
    num_phases: int
    num_steps: int
    num_rows: int
    num_tokens: int
    """trained tokens of the plan"""
    bucket: float | None
    """share of the corpus's targets in whole rows of these lengths (document); None if no length is a power of two"""
    shares: Shares
    """of the phase, or averaged over the phases"""

    def to_json(self) -> dict[str, Any]:
        """For `--json`, of a phase of the plan."""
        return {
            "seq_len": self.longest,
            "num_steps": self.num_steps,
            "num_tokens": self.num_tokens,
            "bucket": self.bucket,
            **asdict(self.shares),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Analysis:
    """A plan and a corpus, together."""

    mode: str
    max_seq_len: int
    census: Census
    phases: tuple[PhaseAnalysis, ...]
    """one for each phase of the plan, in its order"""
    totals: Shares
    """averaged over the trained tokens; what truncation drops and reaches over the rows, so that the drop is exact"""
    document: BucketShares
    """rows within documents, over the powers of two between the plan's shortest and longest length"""
    least_splits: int
    """the fewest cuts that make every document fit a row of the maximum length"""
    recommendation: Recommendation

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        totals = self.totals
        return {
            "census": self.census.to_json(),
            "phases": [phase.to_json() for phase in self.phases],
            "modes": {
                "segment": _chosen(totals, "cross_document", "documents_per_row", "documents_cut"),
                "truncate": _chosen(
                    totals, "cross_document", "documents_per_row", "tokens_dropped", "documents_reached"
                ),
                "document": {
                    "rows": {str(seq_len): rows for seq_len, rows in self.document.rows.items()},
                    "targets": self.document.targets,
                    "leftover_targets": self.document.leftover_targets,
                    "leftover_share": float(self.document.leftover_share),
                },
                "best-fit": {
                    **_chosen(totals, "documents_split", "tokens_split"),
                    "least_splits_at_max": self.least_splits,
                },
            },
            "long_enough": totals.long_enough,
            "recommendation": self.recommendation.to_json(),
        }


def analyse(plan: Plan, census: Census) -> Analysis:
    """Describe what each mode would do to this corpus with the lengths of this plan."""
    document = census.decompose(*bucket_ends(plan))
    phases = []
    for phase in plan.phases:
        phases.append(
            PhaseAnalysis(
                shortest=phase.seq_len,
                longest=phase.seq_len,
                num_phases=1,
                num_steps=phase.num_steps,
                num_rows=phase.num_rows,
                num_tokens=phase.num_tokens,
                bucket=float(document.share(phase.seq_len)) if phase.seq_len in document.rows else None,
                shares=shares_of(census, phase.seq_len, plan.max_seq_len),
            )
        )
    totals = _mean(phases)
    return Analysis(
        mode=plan.mode,
        max_seq_len=plan.max_seq_len,
        census=census,
        phases=tuple(phases),
        totals=totals,
        document=document,
        least_splits=census.least_splits(plan.max_seq_len),
        recommendation=recommend(plan, census, document, mean_crossing=totals.cross_document),
    )


def shares_of(census: Census, seq_len: int, max_seq_len: int) -> Shares:
    """What rows of `seq_len` mean for a corpus; truncation cuts them from rows of `max_seq_len`."""
    return Shares(
        long_enough=census.tokens_in_documents_of_at_least(seq_len) / census.tokens,
        cross_document=float(census.cross_document_attention(seq_len)),
        documents_per_row=float(census.documents_per_row(seq_len)),
        documents_cut=float(census.documents_cut(seq_len)),
        tokens_dropped=(max_seq_len - seq_len) / max_seq_len,
        documents_reached=float(census.documents_reached(seq_len, max_seq_len)),
        documents_split=census.documents_too_long(seq_len) / census.documents,
        tokens_split=census.tokens_too_long(seq_len) / census.tokens,
    )


def bucket_ends(plan: Plan) -> tuple[int, int]:
    """Shortest and longest power of two between the plan's shortest and longest length, both included.

    Lengths that have none between them, such as 20 and 28, give the one below: 16 and 16. A plan of one length says
    nothing about the shortest row in mode document: that is `SHORTEST_BUCKET` then.
    """
    longest = 1 << (plan.max_seq_len.bit_length() - 1)
    start = plan.schedule.get("start_length")  # a bucket without rows has no phase, and is a bucket all the same
    least = start if isinstance(start, int) else min(phase.seq_len for phase in plan.phases)
    if least == plan.max_seq_len and plan.mode != "document":
        least = SHORTEST_BUCKET
    return min(longest, 1 << (least - 1).bit_length()), longest


def group_phases(phases: Sequence[PhaseAnalysis], most: int) -> tuple[PhaseAnalysis, ...]:
    """At most `most` rows of a table, shortest first: the longest length alone, the others in groups of equal size."""
    ordered = sorted(phases, key=lambda phase: (phase.shortest, phase.num_rows))
    if len(ordered) <= most:
        return tuple(ordered)
    rest, groups = ordered[:-1], most - 1
    borders = [i * len(rest) // groups for i in range(groups + 1)]
    return (*(_group(rest[start:stop]) for start, stop in pairwise(borders)), ordered[-1])


def _group(phases: Sequence[PhaseAnalysis]) -> PhaseAnalysis:
    # Two phases of one length share one bucket.
    buckets = {phase.shortest: phase.bucket for phase in phases if phase.bucket is not None}
    return PhaseAnalysis(
        shortest=phases[0].shortest,
        longest=phases[-1].longest,
        num_phases=len(phases),
        num_steps=sum(phase.num_steps for phase in phases),
        num_rows=sum(phase.num_rows for phase in phases),
        num_tokens=sum(phase.num_tokens for phase in phases),
        bucket=math.fsum(buckets.values()) if buckets else None,
        shares=_mean(phases),
    )


def _mean(phases: Sequence[PhaseAnalysis]) -> Shares:
    means = {}
    for name in (item.name for item in fields(Shares)):
        weights = [phase.num_rows if name in BY_ROWS else phase.num_tokens for phase in phases]
        weighed = (getattr(phase.shares, name) * weight for phase, weight in zip(phases, weights, strict=True))
        means[name] = math.fsum(weighed) / sum(weights)
    return Shares(**means)


def _chosen(shares: Shares, *names: str) -> dict[str, float]:
    return {name: getattr(shares, name) for name in names}
