"""Document mode: cut each document into rows of a few fixed lengths, so that no row crosses a document.

In:  the lengths of documents and the row lengths ("buckets"), ascending, each a multiple of the one before.
Out: whole pieces that fill a row of their bucket each, and one leftover per document, shorter than the shortest bucket;
     laid into rows by `lay_documents`: leftovers are packed, several to a row of the shortest bucket.
Guarantee: every token of a document but its first is a target exactly once. Dataset Decomposition (Pouransari et al.
2024, arXiv 2405.13226) and OLMo-core cut the same buckets but drop the leftovers, and with them nearly every EOS; here
the last token of a document always is a target of its last piece or of its leftover.

A document of n tokens has n - 1 targets; its longest bucket is used as often as it goes, then the next shorter one.

    buckets 256 .. 8192, 5,001 tokens = 5,000 targets:  4096 + 512 + 256, leftover 136 = 128 + 8
    buckets 2 4, 8 tokens a b c d e f g EOS:  [a b c d e] (4 targets), [e f g] (2), leftover [g EOS] (1)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from curriculum.errors import PlanError
from pipeline.best_fit import pack
from pipeline.order import IntArray, permutation
from pipeline.pieces import Pieces, count_up, lay_end_to_end


@dataclass(frozen=True, kw_only=True, slots=True)
class Decomposition:
    """Whole pieces int64 [num_pieces], by document and longest first; leftovers int64 [num_leftovers], by document."""

    document: IntArray
    start: IntArray
    """first stored token of the piece, counted from the first token of its document"""
    bucket: IntArray
    """index of the bucket: the piece trains buckets[bucket] targets and stores one token more"""
    leftover_document: IntArray
    leftover_start: IntArray
    leftover_targets: IntArray
    """1 .. buckets[0] - 1"""


def decompose(num_tokens: IntArray, buckets: Sequence[int]) -> Decomposition:
    """Cut documents of `num_tokens` tokens (0 and 1 give nothing) into whole pieces and leftovers.

    Args:
        num_tokens: int64 [num_documents], EOS included.
        buckets: row lengths in targets, ascending; powers of two in every published curriculum.
    """
    if not buckets or buckets[0] < 1 or any(long <= short or long % short for short, long in pairwise(buckets)):
        raise PlanError(
            f"The buckets {list(buckets)} cannot cut documents: each must be a larger multiple of the one before, "
            f"from 1 up. Use powers of two, such as 256, 512, 1024."
        )
    longest_first = np.array(buckets[::-1], dtype=np.int64)
    counts = np.empty((len(num_tokens), len(buckets)), dtype=np.int64)
    rest = np.maximum(num_tokens.astype(np.int64) - 1, 0)
    targets = rest
    for i, length in enumerate(longest_first.tolist()):
        counts[:, i] = rest // length
        rest = rest % length
    # Where the run of pieces of each (document, bucket) begins in its document.
    lengths = counts * longest_first
    run_start = np.cumsum(lengths, axis=1) - lengths
    cell = np.repeat(np.arange(counts.size, dtype=np.int64), counts.ravel())
    document, column = cell // len(buckets), cell % len(buckets)
    leftover = np.flatnonzero(rest)
    return Decomposition(
        document=document,
        start=run_start.ravel()[cell] + count_up(counts.ravel()) * longest_first[column],
        bucket=len(buckets) - 1 - column,
        leftover_document=leftover,
        leftover_start=(targets - rest)[leftover],
        leftover_targets=rest[leftover],
    )


def lay_documents(
    starts: IntArray, num_tokens: IntArray, buckets: Sequence[int], seed: int, index: tuple[int, ...]
) -> Pieces:
    """Rows of every bucket (phase = bucket index), permuted: a whole piece each, leftovers packed into bucket 0.

    Args:
        starts: int64 [num_documents], stream positions of the first tokens.
        num_tokens: int64 [num_documents].
        buckets: row lengths in targets, ascending.
        seed, index: choose the permutations; index names the partition, such as (epoch, partition).
    """
    cut = decompose(num_tokens, buckets)
    order = np.argsort(cut.bucket, kind="stable")
    whole_rows = np.bincount(cut.bucket, minlength=len(buckets))
    # Leftovers share rows as short as there are: each sees as few others as possible.
    packed, _ = pack(cut.leftover_targets + 1, buckets[0] + 1)
    num_rows = whole_rows.copy()
    num_rows[0] += packed.max(initial=-1) + 1
    bucket = np.concatenate((cut.bucket[order], np.zeros(len(packed), dtype=np.int64)))
    row = np.concatenate((count_up(whole_rows), whole_rows[0] + packed))
    for b, count in enumerate(num_rows.tolist()):
        place = np.empty(count, dtype=np.int64)
        place[permutation(count, seed=seed, purpose="document-rows", index=(*index, b))] = np.arange(count)
        row[bucket == b] = place[row[bucket == b]]
    document = np.concatenate((cut.document[order], cut.leftover_document))
    start = np.concatenate((cut.start[order], cut.leftover_start))
    targets = np.concatenate((np.array(buckets, dtype=np.int64)[cut.bucket[order]], cut.leftover_targets))
    return lay_end_to_end(
        phase=bucket, row=row, offset=starts[document] + start, num_tokens=targets + 1, document=document
    )
