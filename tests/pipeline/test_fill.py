"""How full rows get when documents stay whole: what best-fit mode leaves free, so that it need not split what fits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from curriculum.budget import FULL
from pipeline.best_fit import pack
from pipeline.build import BuildResult
from pipeline.fill import MARGIN, fill_of_lengths
from pipeline.windows import consumed_tokens, split_windows

Build = Callable[..., BuildResult]


def test_worked_by_hand() -> None:
    """Documents of 300 targets fit a row of 512 alone: 59 %. A row of 1,024 holds three (301 tokens each): 88 %."""
    documents = np.full(6, 301)
    assert fill_of_lengths(documents, [512, 1024]) == {
        512: 6 * 301 * FULL // (6 * 512) - MARGIN,
        1024: 6 * 301 * FULL // (2 * 1024) - MARGIN,
    }
    assert fill_of_lengths(np.array([1, 1]), [8]) == {8: FULL}  # no document has a target
    assert fill_of_lengths(np.array([9, 9]), [8]) == {8: FULL - MARGIN}  # 9 tokens a row are more than 8 slots


@settings(deadline=None)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=60), st.integers(2, 64))
def test_rows_that_are_filled_so_far_hold_every_document_whole(num_tokens: list[int], length: int) -> None:
    """The rows that this fill gives to a corpus are enough for a packing that splits no document but longer ones."""
    documents = np.array(num_tokens)
    targets = documents - 1
    fill = fill_of_lengths(documents, [length])[length]
    rows = -(-int(documents.sum()) * FULL // (fill * length))
    rest = targets % length
    bins, _ = pack(rest[rest > 0] + 1, length + 1)
    assert rows >= int((targets // length).sum()) + int(bins.max(initial=-1)) + 1 or targets.sum() == 0


def test_many_lengths_are_estimated_from_below() -> None:
    """A length between two that were packed is taken to be as empty as the emptier of them: never too full."""
    documents = np.arange(2, 400)
    fills = fill_of_lengths(documents, range(8, 8 * 500, 8))
    assert list(fills) == list(range(8, 8 * 500, 8))
    assert all(0 < fill <= FULL - MARGIN for fill in fills.values())


def test_documents_that_fit_stay_whole_and_one_pass_lasts_longer(build_small: Build, tmp_path: Path) -> None:
    """Documents of 40 tokens in rows of 64: packed to the last slot, a third of them would be split for nothing."""
    corpus = tmp_path / "forties.jsonl"
    corpus.write_text("".join(json.dumps({"text": f"{i:039d}"}) + "\n" for i in range(600)), "utf-8")
    options = {"corpus": (str(corpus),), "schedule": "constant", "start_length": None, "batch_rows": 4}
    result = build_small(tmp_path / "out", mode="best-fit", **options)
    packing, manifest = result.packing, result.manifest
    assert packing is not None
    assert manifest.build.fill == (624_000,)  # 40 of 64, and a margin
    assert manifest.plan.total_steps == 23_999 // 160 == 149  # 4 * 64 * 62.4 % rounded up; full rows would have been 93
    assert consumed_tokens(manifest.plan, manifest.build.fill) == 149 * 160 < manifest.plan.total_tokens
    assert (packing["documents_truncated"], packing["padding_ratio"] > 0.35) == (0, True)
    assert manifest.accounting.truncated_tokens == 0


def test_windows_own_what_their_steps_are_to_hold(build_small: Build, tmp_path: Path) -> None:
    """The intervals of windows follow from plan and fill alone: a verifier needs nothing else."""
    manifest = build_small(tmp_path / "out", mode="best-fit", shuffle_window=1).manifest
    windows = split_windows(manifest.plan, manifest.build.window_tokens, manifest.build.fill)
    assert sum(window.num_tokens for window in windows) == consumed_tokens(manifest.plan, manifest.build.fill)
    assert consumed_tokens(manifest.plan, manifest.build.fill) <= manifest.plan.total_tokens
