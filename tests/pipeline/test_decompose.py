"""Document mode: the buckets of Dataset Decomposition and OLMo-core, without what they drop."""

from __future__ import annotations

from math import exp
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curriculum.errors import PlanError
from pipeline.decompose import decompose, lay_documents
from pipeline.order import IntArray
from pipeline.pieces import Pieces, concatenate, count_packing

PUBLISHED = [256, 512, 1024, 2048, 4096, 8192]


def cut(num_tokens: int, buckets: list[int]) -> tuple[list[int], int]:
    """(lengths of the whole pieces, targets of the leftover) of one document."""
    parts = decompose(np.array([num_tokens]), buckets)
    return [buckets[b] for b in parts.bucket.tolist()], int(parts.leftover_targets.sum())


def covered(pieces: Pieces, end: int) -> list[int]:
    """How often each stream position is a target."""
    times = np.zeros(end, np.int64)
    for offset, num_tokens in zip(pieces.offset.tolist(), pieces.num_tokens.tolist(), strict=True):
        times[offset + 1 : offset + num_tokens] += 1
    return times.tolist()


def gapless(num_tokens: list[int], offset: int = 0) -> tuple[IntArray, IntArray]:
    """(starts, num_tokens) of documents end to end."""
    lengths = np.array(num_tokens, dtype=np.int64)
    return offset + np.cumsum(lengths) - lengths, lengths


@pytest.mark.parametrize(
    ("targets", "whole", "leftover"),
    [
        (1000, [512, 256], 128 + 64 + 32 + 8),
        (5000, [4096, 512, 256], 128 + 8),
        (20000, [8192, 8192, 2048, 1024, 512], 32),
    ],
)
def test_olmo_core_buckets(targets: int, whole: list[int], leftover: int) -> None:
    """Golden, slw.md 3.7: OLMo-core keeps the same buckets of as many tokens and drops the leftover with its EOS."""
    assert cut(targets + 1, PUBLISHED) == (whole, leftover)


@pytest.mark.parametrize(
    ("num_tokens", "published", "dropped"),
    [
        (1000, [513, 257], 230),
        (5000, [4097, 513, 257], 133),
        (8192, [4097, 2049, 1025, 513, 257], 251),
        (8193, [8193], 0),
        (10000, [8193, 1025, 513, 257], 12),
    ],
)
def test_dataset_decomposition_buckets(num_tokens: int, published: list[int], dropped: int) -> None:
    """Golden, slw.md 2.7: the same buckets; what they drop is our leftover.

    Our pieces share a token where theirs do not, so that the leftover gains one target per border between pieces.
    """
    whole, leftover = cut(num_tokens, PUBLISHED)
    assert whole == [stored - 1 for stored in published]
    assert leftover == dropped + len(published) - 1
    assert sum(whole) + leftover == num_tokens - 1


def test_the_example_of_the_docstring() -> None:
    """A reader checks it by eye."""
    parts = decompose(np.array([8]), [2, 4])
    assert (parts.start.tolist(), parts.bucket.tolist()) == ([0, 4], [1, 0])
    assert (parts.leftover_start.tolist(), parts.leftover_targets.tolist()) == ([6], [1])


@pytest.mark.parametrize("num_tokens", range(70))
def test_every_short_length_is_cut_into_its_binary_digits(num_tokens: int) -> None:
    """Exhaustive for buckets 4, 8, 16: 16 as often as it goes, 8 and 4 at most once, then less than 4."""
    targets = max(0, num_tokens - 1)
    whole = [16] * (targets // 16) + [8] * (targets // 8 % 2) + [4] * (targets // 4 % 2)
    assert cut(num_tokens, [4, 8, 16]) == (whole, targets % 4)


def test_documents_without_a_target_have_no_piece() -> None:
    """An empty document is its EOS alone: no input predicts it."""
    parts = decompose(np.array([1, 0, 2, 1]), [1, 2])
    assert parts.document.tolist() == [2]
    assert parts.leftover_document.tolist() == []
    starts, num_tokens = gapless([1, 1])
    assert len(lay_documents(starts, num_tokens, [4, 8], 0, (0, 0))) == 0
    assert len(lay_documents(starts[:0], num_tokens[:0], [4, 8], 0, (0, 0))) == 0


@pytest.mark.parametrize("buckets", [[], [0, 4], [8, 4], [4, 4], [4, 6]])
def test_buckets_that_cannot_cut_are_refused(buckets: list[int]) -> None:
    """Silently they would lose or repeat targets."""
    with pytest.raises(PlanError, match="each must be a larger multiple of the one before"):
        decompose(np.array([10]), buckets)


def test_leftovers_are_packed_and_nothing_else_shares_a_row() -> None:
    """Golden: documents of 3, 8, 4 and 2 tokens in buckets 4 and 8; leftovers of 2, 3, 3 and 1 targets."""
    starts, num_tokens = gapless([3, 8, 4, 2], offset=100)
    pieces = lay_documents(starts, num_tokens, [4, 8], seed=0, index=(0, 0))
    pieces.check({0: 4, 1: 8})
    rows = {
        (phase, row): [
            (offset - 100, tokens)
            for p, r, offset, tokens in zip(
                *(a.tolist() for a in (pieces.phase, pieces.row, pieces.offset, pieces.num_tokens)), strict=True
            )
            if (p, r) == (phase, row)
        ]
        for phase, row in set(zip(pieces.phase.tolist(), pieces.row.tolist(), strict=True))
    }
    assert sorted(rows.values()) == [[(0, 3), (15, 2)], [(3, 5)], [(7, 4)], [(11, 4)]]


@settings(max_examples=150)
@given(
    st.lists(st.integers(1, 90), max_size=30),
    st.sampled_from([[1], [1, 2], [4, 8, 16], [8], [2, 16]]),
    st.integers(0, 2**63 - 1),
)
def test_every_token_but_the_first_of_a_document_is_a_target_once(
    lengths: list[int], buckets: list[int], seed: int
) -> None:
    """EOS included, in every configuration: nothing is lost, repeated or predicted across documents."""
    starts, num_tokens = gapless(lengths, offset=7)
    pieces = lay_documents(starts, num_tokens, buckets, seed, (1, 2))
    pieces.check(dict(enumerate(buckets)))
    end = 7 + sum(lengths)
    assert covered(pieces, end) == [int(p >= 7 and p not in set(starts.tolist())) for p in range(end)]
    assert (pieces.offset >= starts[pieces.document]).all()
    assert (pieces.offset + pieces.num_tokens <= (starts + num_tokens)[pieces.document]).all()
    above = pieces.phase > 0
    assert (pieces.num_tokens[above] == np.array(buckets)[pieces.phase[above]] + 1).all()


def test_rows_are_permuted_by_seed_and_partition_alone() -> None:
    """The same partition of a resumed or distributed build gives the same rows; another epoch, others."""
    starts, num_tokens = gapless(list(range(2, 200)))
    one, same, other = (lay_documents(starts, num_tokens, [4, 16], 5, index) for index in [(0, 3), (0, 3), (1, 3)])
    assert one.offset.tolist() == same.offset.tolist()
    assert one.offset.tolist() != other.offset.tolist()
    assert sorted(one.offset.tolist()) == sorted(other.offset.tolist())
    first_rows = one.rows(1, 0, 20)
    assert len(np.unique(first_rows.document)) >= 15, "neighbouring rows come from documents all over the partition"


def test_nothing_is_lost_where_others_lose_a_sixth_of_the_tokens() -> None:
    """Lognormal lengths, median 400, sigma 1.1: 17 % of the targets are leftovers, which others drop (slw.md 3.10).

    Packed, they cost 0.07 % of slots without a target, and every EOS is kept.
    """
    quantile = NormalDist().inv_cdf
    starts, num_tokens = gapless([2 + int(400 * exp(1.1 * quantile((i + 0.5) / 20_000))) for i in range(20_000)])
    targets = int((num_tokens - 1).sum())
    assert round(int(decompose(num_tokens, PUBLISHED).leftover_targets.sum()) / targets, 3) == 0.171
    pieces = lay_documents(starts, num_tokens, PUBLISHED, 0, (0, 0))
    assert pieces.num_targets == targets
    rows = {b: pieces.num_rows(b) for b in range(6)}
    counts = count_packing(pieces, num_tokens, rows_by_phase=rows, seq_lens=dict(enumerate(PUBLISHED)))
    assert counts.dropped_targets == 0
    assert (round(counts.padding_ratio, 4), round(counts.boundary_slots / counts.slots, 4)) == (0.0, 0.0007)
    assert len(np.intersect1d(pieces.offset + pieces.num_tokens, starts + num_tokens)) == 20_000


def test_rows_of_partitions_are_joined_in_order() -> None:
    """A shard holds the last rows of one partition and the first of the next."""
    starts, num_tokens = gapless([5, 9, 14, 3, 6])
    one = lay_documents(starts, num_tokens, [4, 8], 0, (0, 0))
    other = lay_documents(starts, num_tokens, [4, 8], 0, (0, 1)).shift_documents(5)
    joined = concatenate([one, other])
    joined.check({0: 4, 1: 8})
    assert joined.num_rows(0) == one.num_rows(0) + other.num_rows(0)
    tail = joined.rows(0, one.num_rows(0), joined.num_rows(0))
    assert tail.offset.tolist() == other.rows(0, 0, other.num_rows(0)).offset.tolist()
    assert (tail.document >= 5).all()
    backwards = joined.take(0, np.arange(joined.num_rows(0))[::-1])
    backwards.check({0: 4})
    assert (
        backwards.rows(0, 0, 1).offset.tolist()
        == joined.rows(0, joined.num_rows(0) - 1, joined.num_rows(0)).offset.tolist()
    )
