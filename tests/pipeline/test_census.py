"""The census answers from sums what one would count row by row: each number is checked against that plain count."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from math import ceil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curriculum.errors import PlanError
from pipeline.build import BuildResult
from pipeline.census import Census, take_census
from pipeline.decompose import decompose
from pipeline.files.address import store_files
from pipeline.holdout import hold_out
from pipeline.part_index import PartIndex, PartSummary, write_index
from pipeline.store import read_corpora

Build = Callable[..., BuildResult]
LENGTHS = st.lists(st.integers(1, 24), min_size=1, max_size=8)
ROWS = st.integers(1, 30)


def test_a_census_worked_by_hand() -> None:
    """The example of the module: 2 2 2 5."""
    census = Census.of({5: 1, 2: 3})
    assert census.lengths.tolist() == [2, 5]
    assert census.counts.tolist() == [3, 1]
    assert (census.documents, census.tokens, census.mean_length) == (4, 11, Fraction(11, 4))
    assert [census.tokens_in_documents_of_at_least(n) for n in (1, 2, 4, 5)] == [11, 5, 5, 0]
    assert [census.percentile(p) for p in (0, 50, 75, 76, 100)] == [2, 2, 2, 5, 5]
    assert [census.percentile(p, by_tokens=True) for p in (50, 54, 55, 100)] == [2, 2, 5, 5]
    assert [(b.low, b.documents, b.tokens) for b in census.histogram()] == [(2, 3, 6), (4, 1, 5)]
    # Of three pairs of a row of 2, one is of two tokens, and 4 of 11 tokens end a document.
    assert census.cross_document_attention(2) == Fraction(4, 33)
    assert census.documents_per_row(2) == 1 + Fraction(4, 11)
    # Documents of 2 are always whole in some row of 3; the one of 5 never is.
    assert census.documents_cut(3) == Fraction(1, 4)
    assert (census.documents_too_long(3), census.tokens_too_long(3), census.least_splits(3)) == (1, 5, 1)
    assert (census.documents_too_long(4), census.tokens_too_long(4), census.least_splits(4)) == (0, 0, 0)
    # Rows keep 1 of 3: a document of 2 is lost if it begins at the second of three places.
    assert census.documents_reached(1, 3) == Fraction(3 * 2 + 1 * 3, 4 * 3)


def test_documents_within_rows_worked_by_hand() -> None:
    """1,001 tokens are 1,000 targets: 512 + 256 + 128 + 64 + 32, and 8 that no row of 16 takes."""
    found = Census.of([1001]).decompose(16, 512)
    assert dict(found.rows) == {16: 0, 32: 1, 64: 1, 128: 1, 256: 1, 512: 1}
    assert (found.leftover_targets, found.targets) == (8, 1000)
    assert (found.share(512), found.share(1024), found.leftover_share) == (Fraction(512, 1000), 0, Fraction(1, 125))
    found = Census.of({20_001: 3}).decompose(256, 8192)
    assert dict(found.rows) == {256: 0, 512: 3, 1024: 3, 2048: 3, 4096: 0, 8192: 6}
    assert found.leftover_targets == 3 * 32
    assert Census.of({1: 7}).decompose(8, 8).leftover_share == 0  # EOS alone: no target at all


@pytest.mark.parametrize(("shortest", "longest"), [(3, 8), (8, 12), (16, 8), (0, 8)])
def test_rows_within_documents_are_powers_of_two(shortest: int, longest: int) -> None:
    """Other lengths have no binary digits: silently wrong counts."""
    with pytest.raises(PlanError, match="powers of two"):
        Census.of([5]).decompose(shortest, longest)


@given(LENGTHS, ROWS, st.randoms(use_true_random=False))
def test_attention_across_documents_is_that_of_all_rows_of_a_shuffled_stream(
    lengths: list[int], seq_len: int, shuffle: random.Random
) -> None:
    """The share that decides the advice, counted pair by pair over every place where a row can begin: exactly equal, in
    any order of the documents. The stream repeats, and a document that follows itself is another one."""
    shuffle.shuffle(lengths)
    repeats = 1 + -(-seq_len // sum(lengths))
    document = np.repeat(np.arange(len(lengths) * repeats), lengths * repeats)
    crossing, held = 0, 0
    for start in range(sum(lengths)):
        row = document[start : start + seq_len]
        crossing += int((row[:, None] != row[None, :]).sum()) // 2
        held += len(set(row.tolist()))
    census = Census.of(lengths)
    pairs = seq_len * (seq_len + 1) // 2
    assert census.cross_document_attention(seq_len) == Fraction(crossing, pairs * sum(lengths))
    assert census.documents_per_row(seq_len) == Fraction(held, sum(lengths))


@given(LENGTHS, ROWS, st.integers(0, 20))
def test_documents_cut_and_reached_are_those_of_every_place_they_can_begin(
    lengths: list[int], seq_len: int, hidden: int
) -> None:
    """Rows of a stream store the first token of the next; truncated rows keep `seq_len` of every `max_seq_len`."""
    max_seq_len = seq_len + hidden
    whole = sum(place + n - 1 <= seq_len or n == 1 for n in lengths for place in range(seq_len))
    reached = sum(
        any((place + i) % max_seq_len < seq_len for i in range(n)) for n in lengths for place in range(max_seq_len)
    )
    census = Census.of(lengths)
    assert census.documents_cut(seq_len) == 1 - Fraction(whole, seq_len * len(lengths))
    assert census.documents_reached(seq_len, max_seq_len) == Fraction(reached, max_seq_len * len(lengths))


@given(LENGTHS, ROWS)
def test_best_fit_has_to_split_what_fits_no_row(lengths: list[int], seq_len: int) -> None:
    """A row stores seq_len + 1 tokens, and pieces of one document share a token."""
    census = Census.of(lengths)
    long = [n for n in lengths if n > seq_len + 1]
    assert (census.documents_too_long(seq_len), census.tokens_too_long(seq_len)) == (len(long), sum(long))
    assert census.least_splits(seq_len) == sum(ceil(Fraction(n - 1, seq_len)) - 1 for n in long)
    assert census.tokens_in_documents_of_at_least(seq_len) == sum(n for n in lengths if n - 1 >= seq_len)


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=8), st.integers(0, 5), st.integers(0, 5))
def test_rows_within_documents_are_those_of_cutting_each_document(lengths: list[int], start: int, more: int) -> None:
    """Largest rows first, document by document; whole rows and leftovers are all targets."""
    shortest, longest = 2**start, 2 ** (start + more)
    rows, leftovers = Counter[int](), 0
    for n in lengths:
        targets = n - 1
        for seq_len in (2**k for k in reversed(range(start, start + more + 1))):
            while targets >= seq_len:
                rows[seq_len] += 1
                targets -= seq_len
        leftovers += targets
    found = Census.of(lengths).decompose(shortest, longest)
    assert Counter(found.rows) == rows
    assert found.leftover_targets == leftovers
    assert found.targets == sum(lengths) - len(lengths)


@given(LENGTHS, st.integers(1, 100))
def test_percentiles_and_bins_are_those_of_the_sorted_list(lengths: list[int], percent: int) -> None:
    """Nearest rank: the length of a real document, never one between two."""
    census, ordered = Census.of(lengths), sorted(lengths)
    tokens = [n for n in ordered for _ in range(n)]
    assert census.percentile(percent) == ordered[ceil(Fraction(percent * len(ordered), 100)) - 1]
    assert census.percentile(percent, by_tokens=True) == tokens[ceil(Fraction(percent * len(tokens), 100)) - 1]
    bins = census.histogram()
    assert [(b.documents, b.tokens) for b in bins] == [
        (len(inside), sum(inside)) for inside in ([n for n in ordered if b.low <= n < 2 * b.low] for b in bins)
    ]
    assert (sum(b.documents for b in bins), sum(b.tokens for b in bins)) == (census.documents, census.tokens)
    assert all(other.low == 2 * one.low for one, other in pairwise(bins))


def test_no_corpus_is_too_large_for_exact_numbers() -> None:
    """10**17 tokens: cubes of such sums exceed 64 bits by far, and an overflow would look like a plausible share."""
    small = {3: 2, 500: 5, 100_000: 1}
    large = Census.of({n: c * 10**12 for n, c in small.items()})
    assert large.tokens == Census.of(small).tokens * 10**12
    for seq_len in (2, 400, 4096, 2**20):
        assert large.cross_document_attention(seq_len) == Census.of(small).cross_document_attention(seq_len)
        assert large.documents_reached(seq_len, 2**21) == Census.of(small).documents_reached(seq_len, 2**21)
    with pytest.raises(PlanError, match="at most"):
        Census.of({2**40: 2**40})


def test_a_census_of_nothing_is_refused() -> None:
    """Every share would divide by zero."""
    for wrong in ([], [0, 3]):
        with pytest.raises(PlanError, match="a census needs"):
            Census.of(wrong)
    with pytest.raises(PlanError, match="ascending"):
        Census(lengths=np.array([3, 3]), counts=np.array([1, 1]))


def _write_part(store: Path, name: str, lengths: list[int], hashes: list[int]) -> None:
    zeros = np.zeros(len(lengths), np.uint64)
    index = PartIndex(
        key_high=zeros,
        key_low=zeros,
        text_hash=np.array(hashes, np.uint64),
        start=zeros,
        num_tokens=np.array(lengths, np.uint64),
        file=zeros,
        position=zeros,
    )
    summary = PartSummary(
        name=name,
        documents=len(lengths),
        tokens=sum(lengths),
        empty_documents=0,
        skipped_records=0,
        skipped_examples=(),
        text_bytes=0,
        content=(0, 0),
        tokens_digest="",
        index_digest="",
        backend="",
        files=(),
    )
    write_index(store_files(store), index, summary)


def test_a_store_is_counted_without_its_held_out_documents(tmp_path: Path) -> None:
    """Validation documents are not trained on; a part may hold nothing at all."""
    _write_part(tmp_path, "a" * 32, [5, 9, 5, 7], [10, 99, 2**64 - 1, 100])
    _write_part(tmp_path, "b" * 32, [9, 1 << 33], [100, 500])
    _write_part(tmp_path, "c" * 32, [], [])
    parts = ("a" * 32, "b" * 32, "c" * 32)
    every = take_census(store_files(tmp_path), parts)
    assert (every.lengths.tolist(), every.counts.tolist()) == ([5, 7, 9, 1 << 33], [2, 1, 2, 1])
    assert (every.lengths.dtype, every.counts.dtype) == (np.int64, np.int64)
    trained = take_census(store_files(tmp_path), parts, held_out_below=100)
    assert dict(zip(trained.lengths.tolist(), trained.counts.tolist(), strict=True)) == {5: 1, 7: 1, 9: 1, 1 << 33: 1}
    with pytest.raises(PlanError, match="no document is left"):
        take_census(store_files(tmp_path), parts, held_out_below=2**64)
    with pytest.raises(PlanError, match="no document is left"):
        take_census(store_files(tmp_path), ("c" * 32,))


def test_the_census_of_a_build_has_the_tokens_of_its_manifest(build_small: Build, tmp_path: Path) -> None:
    """`plan` and `build` must speak of the same documents."""
    accounting = build_small(tmp_path / "out", validation_tokens=2_000).manifest.accounting
    store = tmp_path / "out.store"
    parts = tuple(read_corpora(store_files(store))[0]["parts"])
    every = take_census(store_files(store), parts)
    assert (every.documents, every.tokens) == (accounting.documents, accounting.corpus_tokens)
    held_out = hold_out(store_files(store), parts, num_tokens=2_000)
    trained = take_census(store_files(store), parts, held_out_below=held_out.below)
    assert trained.tokens == accounting.corpus_tokens - accounting.validation_tokens


@settings(deadline=None)
@given(st.lists(st.integers(1, 500), min_size=1, max_size=50), st.sampled_from([(1, 4), (8, 16), (8, 64), (32, 256)]))
def test_what_plan_announces_is_what_build_cuts(lengths: list[int], ends: tuple[int, int]) -> None:
    """The shares of the census and the pieces that document mode cuts are computed in two places: they must agree."""
    shortest, longest = ends
    buckets = [1 << k for k in range(shortest.bit_length() - 1, longest.bit_length())]
    announced = Census.of(lengths).decompose(shortest, longest)
    cut = decompose(np.array(lengths, np.int64), buckets)
    assert dict(announced.rows) == dict(zip(buckets, np.bincount(cut.bucket, minlength=len(buckets)), strict=True))
    assert announced.leftover_targets == cut.leftover_targets.sum()
