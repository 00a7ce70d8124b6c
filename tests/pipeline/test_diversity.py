"""Distinct documents per batch are counted exactly and compared with what random rows have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import curriculum
from forged_shards import (
    verify,
)
from pipeline.build import BuildResult
from pipeline.diversity import count_documents, distinct_at_random, diversity_notes, merge_counts
from pipeline.windows import split_windows
from small_corpus import read_rows

Build = Callable[..., BuildResult]


@pytest.mark.parametrize("options", [{}, {"phases": "8:60,64:60,8:60,16:40"}], ids=["growing", "cyclic"])
def test_distinct_documents_are_those_of_a_plain_count(
    build_small: Build, tmp_path: Path, options: dict[str, Any]
) -> None:
    """The reported numbers decide whether the shuffle is trusted: counted again, one step at a time."""
    explicit = {"start_length": None, "max_length": None} if options else {}
    build_small(tmp_path / "out", **options, **explicit)
    reader = curriculum.open(tmp_path / "out")
    stream, manifest = read_rows(reader), reader.manifest
    document_of = np.concatenate(([0], np.cumsum(stream[:-1] == 256)))
    distinct, expected = [], []
    for window in split_windows(manifest.plan, manifest.build.window_tokens):
        inside = document_of[window.offset : window.offset + window.num_tokens]
        share = np.unique(inside, return_counts=True)[1] / len(inside)
        for step in range(window.first_step, window.stop_step):
            batch = reader[step]
            if batch.seq_len < 64:
                assert batch.document.tolist() == document_of[batch.offset.astype(np.int64)].tolist()
                distinct.append(len(set(batch.document.tolist())))
                expected.append(sum(1 - (1 - p) ** len(batch) for p in share.tolist()))
    counts = verify(tmp_path / "out").documents
    assert counts is not None
    assert (counts.num_steps, counts.distinct, counts.least) == (len(distinct), sum(distinct), min(distinct))
    assert counts.expected == pytest.approx(sum(expected), rel=1e-9)
    assert counts.worst_distinct == distinct[_warmup_steps(reader).index(counts.worst_step)]
    assert counts.worst_expected == pytest.approx(expected[_warmup_steps(reader).index(counts.worst_step)])


def _warmup_steps(reader: Any) -> list[int]:
    return [step for step in range(len(reader)) if reader[step].seq_len < 64]


def test_mean_and_deviation_at_random_are_those_of_all_outcomes() -> None:
    """The mean is exact for 3 documents and 3 rows (27 outcomes); the deviation is within 1 % where it matters."""
    shares = np.array([0.5, 0.3, 0.2])
    outcomes = [(len(set(drawn)), np.prod(shares[list(drawn)])) for drawn in product(range(3), repeat=3)]
    assert distinct_at_random(shares, 3)[0] == pytest.approx(sum(count * p for count, p in outcomes))
    shares = np.random.default_rng(0).dirichlet(np.full(800, 0.5))
    missed = (1 - shares) ** 100
    both = (1 - shares[:, None] - shares[None, :]) ** 100 - missed[:, None] * missed[None, :]
    np.fill_diagonal(both, 0)
    exact = np.sqrt((missed * (1 - missed)).sum() + both.sum())
    assert distinct_at_random(shares, 100)[1] == pytest.approx(exact, rel=0.01)
    assert distinct_at_random(np.array([1.0]), 16)[0] == 1


def test_rows_in_stream_order_would_be_noted(build_small: Build, tmp_path: Path) -> None:
    """What the permuted cut is for: the same rows in stream order hold far fewer documents per batch."""
    build_small(tmp_path / "out", phases="8:400,64:40", start_length=None, max_length=None, batch_rows=32)
    reader = curriculum.open(tmp_path / "out")
    plan = reader.plan
    (window,) = split_windows(plan, plan.consumed_tokens)
    short = np.sort(np.concatenate([reader[step].document for step in range(400)]).astype(np.int64))
    long = np.concatenate([reader[step].document for step in range(400, 440)]).astype(np.int64)
    shares = np.unique(np.concatenate((short, long)), return_counts=True)[1] / (len(short) + len(long))
    counts = count_documents(plan, window, {0: short, 1: long}, shares)
    assert counts is not None
    assert counts.ratio < 0.5
    assert [note.split()[0] for note in diversity_notes(merge_counts([None, counts]))] == ["Warmup", "Step"]


def test_a_repeat_in_a_small_batch_is_no_surprise() -> None:
    """16 rows with 0.3 repeats on average have 4 once in some thousand batches: seven deviations, and no alarm. 512
    rows with 30 have 80 never."""
    from pipeline.diversity import DocumentCounts

    counts = DocumentCounts(
        num_steps=1000,
        distinct=15_700,
        expected=15_700.0,
        least=12,
        worst_sigmas=-7.1,
        worst_step=5,
        worst_distinct=12,
        worst_expected=15.7,
        worst_rows=16,
    )
    assert diversity_notes(counts) == ()
    never = replace(counts, worst_rows=512, worst_expected=482.0, worst_distinct=432, worst_sigmas=-50 / 30**0.5)
    assert diversity_notes(never) == (
        "Step 5 holds 432 distinct documents, 9.1 standard deviations below the 482.0 of random rows.",
    )
