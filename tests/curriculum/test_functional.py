"""Batches cut at run time: what is kept, what is dropped, and where Composer's function does something else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from curriculum.budget import Batch, Budget
from curriculum.errors import ConfigError, CursorError, PlanError
from curriculum.functional import num_dropped_tokens, segment, seq_len_at, truncate
from curriculum.plan import compile_plan
from curriculum.schedule import parse_phases

TEN = [[1, 2, 3, 4, 5], [6, 7, 8, 9, 0]]
SEGMENTS = {  # seq_len: (laid end to end as Composer does, dropped, row by row, dropped); worked by hand
    1: ([[1], [2], [3], [4], [5], [6], [7], [8], [9], [0]], 0, [[1], [2], [3], [4], [5], [6], [7], [8], [9], [0]], 0),
    2: ([[1, 2], [3, 4], [5, 6], [7, 8], [9, 0]], 0, [[1, 2], [3, 4], [6, 7], [8, 9]], 2),
    3: ([[1, 2, 3], [4, 5, 6], [7, 8, 9]], 1, [[1, 2, 3], [6, 7, 8]], 4),
    4: ([[1, 2, 3, 4], [5, 6, 7, 8]], 2, [[1, 2, 3, 4], [6, 7, 8, 9]], 2),
    5: (TEN, 0, TEN, 0),
    6: (TEN, 0, TEN, 0),
}
ENDS = [  # (what the row is, ids, mask, truncated to 3 with the end preserved); 9 is the EOS, 0 padding
    ("full", [1, 2, 3, 4, 5, 9], [1, 1, 1, 1, 1, 1], [1, 2, 9]),
    ("padded on the right, longer", [1, 2, 3, 4, 9, 0], [1, 1, 1, 1, 1, 0], [1, 2, 9]),
    ("padded on the right, just as long", [1, 2, 9, 0, 0, 0], [1, 1, 1, 0, 0, 0], [1, 2, 9]),
    ("padded on the right, shorter", [1, 9, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1, 9, 0]),
    ("all padding", [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [0, 0, 0]),
    ("padded on the left", [0, 0, 3, 4, 5, 9], [0, 0, 1, 1, 1, 1], [0, 0, 9]),
    ("padded on the left beyond the cut", [0, 0, 0, 4, 5, 9], [0, 0, 0, 1, 1, 1], [0, 0, 0]),
]
MAKERS = pytest.mark.parametrize("make", [np.array, torch.tensor], ids=["numpy", "torch"])


def lists(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: value.tolist() for name, value in batch.items()}


@st.composite
def batches(draw: st.DrawFn) -> dict[str, np.ndarray]:
    """Rows with a mask of any shape, labels that ignore some tokens, and embeddings."""
    rows, length = draw(st.integers(1, 5)), draw(st.integers(1, 12))
    ids = np.arange(1, rows * length + 1).reshape(rows, length)
    mask = np.array(draw(st.lists(st.integers(0, 1), min_size=rows * length, max_size=rows * length)))
    mask = mask.reshape(rows, length)
    labels = np.where(mask == 1, ids, -100)
    return {"input_ids": ids, "labels": labels, "attention_mask": mask, "inputs_embeds": np.stack([ids, -ids], 2)}


@MAKERS
@pytest.mark.parametrize("seq_len", SEGMENTS)
def test_segments_worked_by_hand(make: Any, seq_len: int) -> None:
    """Composer's users get Composer's rows; who wants no row to cross a border loses the tails that are counted."""
    crossing, dropped, row_by_row, dropped_row_by_row = SEGMENTS[seq_len]
    batch = {"input_ids": make(TEN), "labels": make(TEN)}
    assert lists(segment(batch, seq_len)) == {"input_ids": crossing, "labels": crossing}
    assert segment(batch, seq_len, cross_rows=False)["labels"].tolist() == row_by_row
    shape = {"rows": 2, "length": 5, "seq_len": seq_len, "mode": "segment"}
    assert num_dropped_tokens(**shape) == dropped
    assert num_dropped_tokens(**shape, cross_rows=False) == dropped_row_by_row


@MAKERS
@pytest.mark.parametrize(("ids", "mask", "expected"), [row[1:] for row in ENDS], ids=[row[0] for row in ENDS])
def test_the_end_of_a_row_is_preserved_where_it_was_cut_off(
    make: Any, ids: list[int], mask: list[int], expected: list[int]
) -> None:
    """A model that loses every EOS to truncation never learns to stop; a row that kept it must not be touched."""
    batch = {"input_ids": make([ids]), "attention_mask": make([mask])}
    assert truncate(batch, 3, preserve_end_of_sequence=True)["input_ids"].tolist() == [expected]
    assert truncate(batch, 3)["input_ids"].tolist() == [ids[:3]]
    assert batch["input_ids"].tolist() == [ids], "Composer writes into the batch if it has one row"


@MAKERS
def test_all_entries_move_with_the_end_but_positions(make: Any) -> None:
    """A label must stay beside its token; a row of three tokens has the positions 0, 1, 2 and not 0, 1, 5."""
    batch = {
        "input_ids": make([[10, 11, 12, 13, 14, 15]]),  # Composer's own example
        "labels": make([[10, 11, 12, 13, 14, -100]]),
        "attention_mask": make([[True] * 6]),
        "position_ids": make([[0, 1, 2, 3, 4, 5]]),
    }
    assert lists(truncate(batch, 3, preserve_end_of_sequence=True)) == {
        "input_ids": [[10, 11, 15]],
        "labels": [[10, 11, -100]],
        "attention_mask": [[True] * 3],
        "position_ids": [[0, 1, 2]],
    }


@given(batches(), st.integers(1, 14), st.booleans())
def test_truncation_is_a_prefix_on_numpy_and_torch(batch: dict[str, np.ndarray], seq_len: int, preserve: bool) -> None:
    """Whatever the option does to the last column, the columns before it are the batch's own."""
    cut = truncate(batch, seq_len, preserve_end_of_sequence=preserve)
    tensors = {name: torch.from_numpy(value) for name, value in batch.items()}
    assert lists(truncate(tensors, seq_len, preserve_end_of_sequence=preserve)) == lists(cut)
    safe = seq_len - 1 if preserve else seq_len
    for name, value in batch.items():
        assert cut[name].shape[1] == min(seq_len, value.shape[1])
        assert np.array_equal(cut[name][:, :safe], value[:, :safe])


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 9))
def test_rows_padded_on_the_right_end_as_in_composer(lengths: list[int], seq_len: int) -> None:
    """Composer 0.33 takes the token at (sum of the mask - 1) and puts it at that place, or at the last kept one."""
    ids = np.arange(1, len(lengths) * 9 + 1).reshape(-1, 9)
    mask = (np.arange(9) < np.array(lengths)[:, None]).astype(np.int64)
    cut = truncate({"input_ids": ids, "attention_mask": mask}, seq_len, preserve_end_of_sequence=True)["input_ids"]
    for row, kept, length in zip(ids, cut, lengths, strict=True):
        expected = row[:seq_len].copy()
        expected[min(length, seq_len) - 1] = row[length - 1]
        assert kept.tolist() == expected.tolist()


@given(batches(), st.integers(1, 14), st.booleans())
def test_segments_keep_every_token_but_the_counted_tail(
    batch: dict[str, np.ndarray], seq_len: int, cross_rows: bool
) -> None:
    """Tokens that vanish uncounted make every comparison at equal tokens wrong."""
    cut = segment(batch, seq_len, cross_rows=cross_rows)
    tensors = {name: torch.from_numpy(value) for name, value in batch.items()}
    assert lists(segment(tensors, seq_len, cross_rows=cross_rows)) == lists(cut)
    rows, length = batch["input_ids"].shape
    per_row = length - length % seq_len if seq_len < length else length
    dropped = num_dropped_tokens(rows=rows, length=length, seq_len=seq_len, mode="segment", cross_rows=cross_rows)
    assert dropped < seq_len * (1 if cross_rows else rows)
    for name, value in batch.items():
        kept = value[:, :per_row] if not cross_rows else value
        flat = kept.reshape(-1, *value.shape[2:])
        assert np.array_equal(cut[name].reshape(-1, *value.shape[2:]), flat[: rows * length - dropped])
        assert cut[name].shape[1] == min(seq_len, length)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4))
def test_both_segmentations_agree_where_the_length_is_a_multiple(rows: int, seq_len: int, pieces: int) -> None:
    """With power-of-two lengths nobody has to choose, and nothing is dropped."""
    batch = {"input_ids": np.arange(rows * seq_len * pieces).reshape(rows, -1)}
    crossing, row_by_row = segment(batch, seq_len), segment(batch, seq_len, cross_rows=False)
    assert lists(crossing) == lists(row_by_row)
    assert crossing["input_ids"].shape == (rows * pieces, seq_len)


def test_truncation_counts_what_it_drops() -> None:
    """8 rows of 1024 at length 8: 8,128 of 8,192 loaded tokens are thrown away."""
    assert num_dropped_tokens(rows=8, length=1024, seq_len=8, mode="truncate") == 8_128
    assert num_dropped_tokens(rows=8, length=1024, seq_len=1024, mode="truncate") == 0
    with pytest.raises(ConfigError, match=r"mode is 'document'; batches are cut by 'truncate' or 'segment'\."):
        num_dropped_tokens(rows=8, length=1024, seq_len=8, mode="document")


@MAKERS
def test_cutting_copies_nothing_where_a_view_does(make: Any) -> None:
    """8 x 1024 rows a step: the cut itself must cost nothing, and a batch that is short enough is not touched."""
    batch = {"input_ids": make(TEN), "weight": make([0.5, 2.0]), "num_items_in_batch": make(8), "use_cache": False}
    cut = truncate(batch, 2)
    assert cut["weight"] is batch["weight"]
    assert cut["num_items_in_batch"] is batch["num_items_in_batch"]
    assert cut["use_cache"] is False
    batch["input_ids"][0, 0] = 77
    assert cut["input_ids"].tolist() == [[77, 2], [6, 7]]
    same = truncate(batch, 5)
    assert same is not batch
    assert all(same[name] is batch[name] for name in batch)
    del batch["weight"]
    assert segment(batch, 5)["input_ids"].tolist()[0][0] == 77
    assert segment(batch, 2)["input_ids"].tolist()[0] == [77, 2]


@pytest.mark.parametrize("seq_len", [0, -8, 2.0, "8", True, None])
@pytest.mark.parametrize("cut", [truncate, segment])
def test_a_length_below_one_is_refused(cut: Any, seq_len: Any) -> None:
    """DeepSpeed starts at length 0 in some configurations; an empty batch trains on nothing."""
    with pytest.raises(PlanError, match=r"^seq_len is .*; a row needs an integer of at least 1\.$"):
        cut({"input_ids": np.array(TEN)}, seq_len)
    assert truncate({"input_ids": np.array(TEN)}, np.int64(2))["input_ids"].shape == (2, 2)


IDS = np.array(TEN)
REFUSED: list[tuple[Any, Any, str]] = [
    (truncate, [TEN], r"batch is a list; give a mapping"),
    (truncate, {"input_ids": TEN}, r"batch\['input_ids'\] is a list; make it a numpy array"),
    (truncate, {"weight": np.ones(2)}, r"batch has no \[rows, length\] array"),
    (truncate, {"input_ids": IDS, "labels": IDS[:, 1:]}, r"batch\['labels'\] has shape \[2, 4\].* 2 rows of 5"),
    (truncate, {"input_ids": IDS, "labels": IDS[:1]}, r"batch\['labels'\] has shape \[1, 5\]"),
    (
        truncate,
        {"input_ids": IDS, "attention_mask": np.ones((2, 5, 5))},
        r"\[2, 5, 5\].*\(a mask just \[rows, length\]\)",
    ),
    (truncate, {"input_ids": IDS, "cu_seq_lens_q": np.array([0, 5, 10])}, r"has 3 values for 2 rows"),
    (segment, {"input_ids": IDS, "labels": np.array([0, 1])}, r"batch\['labels'\] holds one value a row"),
    (segment, {"input_ids": IDS, "labels": IDS[:, 1:]}, r"batch\['labels'\] has shape \[2, 4\]"),
]


@pytest.mark.parametrize(("cut", "batch", "message"), REFUSED)
@pytest.mark.parametrize("seq_len", [2, 5])
def test_what_cannot_be_cut_alike_is_refused_at_any_length(cut: Any, batch: Any, message: str, seq_len: int) -> None:
    """Labels of another length than their inputs, or a mask cut on one side only, train on nonsense."""
    with pytest.raises(ConfigError, match=message):
        cut(batch, seq_len)


def test_preserving_the_end_needs_a_mask_and_unshifted_labels() -> None:
    """Without a mask the last column may be padding; a shifted label would name a token that is gone."""
    for seq_len in (2, 5):
        with pytest.raises(ConfigError, match=r"in batch\['attention_mask'\], which is not there; add"):
            truncate({"input_ids": IDS}, seq_len, preserve_end_of_sequence=True)
        batch = {"input_ids": IDS, "attention_mask": IDS, "shift_labels": IDS}
        with pytest.raises(ConfigError, match=r"shift_labels would still name"):
            truncate(batch, seq_len, preserve_end_of_sequence=True)


def test_the_length_of_a_step_comes_from_the_plan() -> None:
    """The run-time form and the compiled dataset must not differ in when a length begins."""
    plan = compile_plan(pacing=parse_phases("8:2,16:1,8:1"), warmup=None, batch=Batch(rows=4), budget=Budget())
    assert [seq_len_at(plan, step) for step in range(4)] == [8, 8, 16, 8]
    with pytest.raises(CursorError, match="step 4 is outside this plan"):
        seq_len_at(plan, 4)
