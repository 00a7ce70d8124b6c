"""The torch adapter adds two things to the reader, dtype and state, and nothing else."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

import curriculum
from curriculum.adapters.pytorch import CurriculumDataset
from curriculum.errors import ConfigError, CursorError
from packed_dataset import write_packed_dataset
from pipeline.build import BuildResult

ROOT = Path(__file__).parents[2]
Example = dict[str, torch.Tensor]


def copies(examples: Any) -> list[Example]:
    """Examples that outlive a re-used buffer."""
    return [{name: tensor.clone() for name, tensor in example.items()} for example in examples]


def assert_same(found: list[Example], expected: list[Example]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("reuse_buffer", [False, True])
@pytest.mark.parametrize("contiguous", [False, True])
def test_tensors_are_the_rows_of_the_reader_widened(small_dataset: Path, reuse_buffer: bool, contiguous: bool) -> None:
    """Training on anything else than inputs and the next tokens would be silent nonsense."""
    reader = curriculum.open(small_dataset)
    dataset = CurriculumDataset(
        reader, rank=1, world_size=2, micro_batches=2, reuse_buffer=reuse_buffer, contiguous=contiguous
    )
    count = 0
    for example, batch in zip(dataset, reader.steps(0, 1, 2, 2), strict=True):
        assert list(example) == ["input_ids", "labels"]
        assert example["input_ids"].dtype == example["labels"].dtype == torch.int64
        assert np.array_equal(example["input_ids"].numpy(), batch.inputs)
        assert np.array_equal(example["labels"].numpy(), batch.targets)
        assert torch.equal(example["labels"][:, :-1], example["input_ids"][:, 1:]), "already shifted"
        count += 1
    assert count == len(dataset) == 2 * len(reader)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of pieces with boundaries and padding; treat it as read-only."""
    root = tmp_path_factory.mktemp("packed")
    write_packed_dataset(root)
    return root


@pytest.mark.parametrize("reuse_buffer", [False, True])
@pytest.mark.parametrize("contiguous", [False, True])
def test_packed_rows_have_their_ids_as_inputs_and_the_labels_of_the_batch(
    packed: Path, reuse_buffer: bool, contiguous: bool
) -> None:
    """Inputs and labels that shared their memory would turn masked labels into inputs of -100: an index error on the
    CPU, a device assert without a line number on a GPU."""
    reader = curriculum.open(packed)
    dataset = CurriculumDataset(
        reader, rank=1, world_size=2, micro_batches=2, reuse_buffer=reuse_buffer, contiguous=contiguous
    )
    masked = 0
    for example, batch in zip(dataset, reader.steps(0, 1, 2, 2), strict=True):
        assert example["input_ids"].dtype == example["labels"].dtype == torch.int64
        assert example["input_ids"].tolist() == batch.inputs.tolist()
        assert example["labels"].tolist() == batch.labels.tolist()
        assert example["input_ids"].is_contiguous()
        assert example["labels"].is_contiguous()
        masked += int((example["labels"] == -100).sum())
    assert masked > 0


def test_cross_entropy_leaves_out_inputs_without_a_target(packed: Path) -> None:
    """-100 is what torch ignores by default: the mean is over as many targets as the manifest counts."""
    reader = curriculum.open(packed)
    generator = torch.Generator().manual_seed(0)
    total, counted = 0.0, 0
    for example, batch in zip(CurriculumDataset(reader), reader, strict=True):
        logits = torch.randn(*example["labels"].shape, 257, generator=generator)
        losses = cross_entropy(logits.flatten(0, 1), example["labels"].flatten(), reduction="none")
        has_target = torch.from_numpy(batch.has_target.ravel())
        assert torch.equal(losses != 0, has_target)
        mean = cross_entropy(logits.flatten(0, 1), example["labels"].flatten())
        assert torch.allclose(mean, losses[has_target].mean())
        total, counted = total + float(mean), counted + int(has_target.sum())
    assert total > 0
    assert counted == reader.manifest.accounting.trained_tokens


def test_uint32_tokens_above_the_signed_range_stay_positive(
    small_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vocabulary above 65,536 is stored as uint32; reinterpreted as int32, its ids could turn negative."""
    tokens = np.array([[2**32 - 1, 0, 70_000]], np.uint32)
    tokens.setflags(write=False)
    monkeypatch.setattr("curriculum.batch.Batch.tokens", tokens)
    example = next(iter(CurriculumDataset(small_dataset)))
    assert example["input_ids"].tolist() == [[2**32 - 1, 0]]
    assert example["labels"].tolist() == [[0, 70_000]]


def test_the_map_is_never_written_and_never_warned_about(small_dataset: Path) -> None:
    """Batches are writable tensors of their own: masking labels in place must not reach the dataset on disk."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        example = next(iter(CurriculumDataset(small_dataset)))
    example["labels"].fill_(-100)
    assert (curriculum.open(small_dataset)[0].targets < 257).all()


def test_fresh_batches_stay_valid_and_a_reused_buffer_is_reused(small_dataset: Path) -> None:
    """`reuse_buffer` is documented as "valid until the next batch": it must be off by default and real when on."""
    fresh = list(CurriculumDataset(small_dataset))
    assert_same(fresh, copies(CurriculumDataset(small_dataset)))
    reader = curriculum.open(small_dataset)
    pointers: dict[int, set[int]] = {}
    for example in CurriculumDataset(reader, reuse_buffer=True):
        pointers.setdefault(example["labels"].shape[1], set()).add(example["labels"].data_ptr())
    assert len(pointers) == len(reader.plan.phases) > 1
    assert all(len(of_shape) == 1 for of_shape in pointers.values())
    assert any(phase.num_steps > 1 for phase in reader.plan.phases)


def test_two_iterators_do_not_share_a_reused_buffer(small_dataset: Path) -> None:
    """Reading a batch for a look aside must not change the batch that is being trained on."""
    dataset = CurriculumDataset(small_dataset, reuse_buffer=True)
    first = next(iter(dataset))
    other = iter(dataset)
    expected = first["input_ids"].clone()
    next(other), next(other)
    assert torch.equal(first["input_ids"], expected)


def test_contiguous_gives_rows_back_to_back(small_dataset: Path) -> None:
    """Loops that call `.view(-1)` on labels need it; the default says so loudly instead of copying."""
    labels = next(iter(CurriculumDataset(small_dataset)))["labels"]
    with pytest.raises(RuntimeError, match="reshape"):
        labels.view(-1)
    for reuse_buffer in (False, True):
        example = next(iter(CurriculumDataset(small_dataset, contiguous=True, reuse_buffer=reuse_buffer)))
        assert torch.equal(example["labels"].view(-1), labels.flatten())
        assert example["input_ids"].is_contiguous()


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_ranks_together_see_each_global_batch(small_dataset: Path, world_size: int, micro_batches: int) -> None:
    """The trainer must not be able to tell from the data on how many processes it runs."""
    ranks = [
        CurriculumDataset(small_dataset, rank=rank, world_size=world_size, micro_batches=micro_batches)
        for rank in range(world_size)
    ]
    pieces = [example["input_ids"] for examples in zip(*ranks, strict=True) for example in examples]
    whole = [example["input_ids"] for example in CurriculumDataset(small_dataset)]
    per_step = world_size * micro_batches
    assert len(pieces) == per_step * len(whole)
    for step, expected in enumerate(whole):
        assert torch.equal(torch.cat(pieces[step * per_step : (step + 1) * per_step]), expected)


def test_a_packed_dataset_resumes_with_the_same_labels(packed: Path) -> None:
    """The state knows nothing of packing: what follows a restart is what would have followed without it."""
    everything = copies(CurriculumDataset(packed, micro_batches=2))
    dataset = CurriculumDataset(packed, micro_batches=2)
    iterator = iter(dataset)
    for _ in range(7):
        next(iterator)
    resumed = pickle.loads(pickle.dumps(CurriculumDataset(packed, micro_batches=2, reuse_buffer=True)))
    resumed.load_state_dict(dataset.state_dict())
    assert_same(copies(resumed), everything[7:])


@pytest.mark.parametrize("loader", [False, True], ids=["bare", "DataLoader"])
def test_a_state_taken_after_any_batch_continues_with_the_next(small_dataset: Path, loader: bool) -> None:
    """Resume loses no batch and repeats none, in the middle of a step too, through JSON as a checkpoint would."""

    def batches_of(dataset: CurriculumDataset) -> Any:
        return DataLoader(dataset, batch_size=None, num_workers=0) if loader else dataset

    everything = copies(batches_of(CurriculumDataset(small_dataset, micro_batches=2)))
    dataset = CurriculumDataset(small_dataset, micro_batches=2)
    states = [dataset.state_dict()] + [dataset.state_dict() for _ in batches_of(dataset)]
    assert len(states) == len(everything) + 1
    assert states[1] == {"dataset_id": dataset.reader.id, "step": 0, "row": 4}
    assert states[-1] == {"dataset_id": dataset.reader.id, "step": len(dataset.reader), "row": 0}
    last = len(everything)
    for taken in (0, 1, 2, 3, last // 3, last // 2, last - 1, last):
        resumed = CurriculumDataset(small_dataset, micro_batches=2)
        resumed.load_state_dict(json.loads(json.dumps(states[taken])))
        assert resumed.state_dict() == states[taken]
        assert_same(copies(batches_of(resumed)), everything[taken:])


def test_a_state_fits_another_world_size_and_is_equal_on_all_ranks(small_dataset: Path) -> None:
    """Trainers keep only rank 0's loader state, or hand all ranks the same file: either has to be enough."""
    ranks = [CurriculumDataset(small_dataset, rank=rank, world_size=4, micro_batches=2) for rank in range(4)]
    for _, *_ in zip(*(map(iter, ranks)), strict=True):
        if ranks[0].cursor.step == 5:
            break
    states = [rank.state_dict() for rank in ranks]
    assert states == [{"dataset_id": ranks[0].reader.id, "step": 5, "row": 0}] * 4
    alone = CurriculumDataset(small_dataset)
    alone.load_state_dict(states[3])
    assert torch.equal(next(iter(alone))["input_ids"], list(CurriculumDataset(small_dataset))[5]["input_ids"])


def test_every_pass_begins_at_the_loaded_cursor_until_one_is_complete(small_dataset: Path) -> None:
    """A look at the first batch must not cost it, and a second epoch after a resumed one is a whole one."""
    dataset = CurriculumDataset(small_dataset)
    everything = copies(dataset)
    total = len(everything)
    dataset.load_state_dict({"dataset_id": dataset.reader.id, "step": total - 3, "row": 0})
    assert torch.equal(next(iter(dataset))["labels"], everything[-3]["labels"])
    assert dataset.cursor.step == total - 2
    iterator = iter(dataset)
    assert dataset.cursor.step == total - 3, "a new pass, a new position, before its first batch too"
    assert_same(list(iterator), everything[-3:])
    assert dataset.cursor.step == total, "the end is a state that resumes to nothing"
    assert_same(list(dataset), everything)


def test_len_counts_a_whole_pass_whatever_was_loaded(small_dataset: Path) -> None:
    """Lightning and the DataLoader compare it with counts that include the batches before the restart."""
    dataset = CurriculumDataset(small_dataset, micro_batches=4)
    total = 4 * len(dataset.reader)
    assert len(dataset) == len(DataLoader(dataset, batch_size=None)) == total
    dataset.load_state_dict({"dataset_id": dataset.reader.id, "step": 10, "row": 0})
    loader = DataLoader(dataset, batch_size=None)
    assert len(loader) == total
    assert sum(1 for _ in loader) == total - 40  # with a len that is too small, torch warns: an error here


def test_another_dataset_is_refused_when_the_state_is_loaded(
    small_dataset: Path, build_small: Callable[..., BuildResult], tmp_path: Path
) -> None:
    """A checkpoint next to a rebuilt dataset would otherwise train on other data from the same step on."""
    build_small(tmp_path / "other", seed=1, validation_tokens=6_000)
    ours, other = CurriculumDataset(small_dataset), CurriculumDataset(tmp_path / "other")
    with pytest.raises(CursorError) as caught:
        ours.load_state_dict(other.state_dict())
    assert ours.reader.id in str(caught.value)
    assert other.reader.id in str(caught.value)
    assert ours.cursor == curriculum.Cursor(ours.reader.id, 0), "a refused state changes nothing"


@pytest.mark.parametrize(
    "state",
    [
        {},
        None,
        {"dataset_id": "ID", "step": 10**6, "row": 0},
        {"dataset_id": "ID", "step": 1, "row": 3},
        {"dataset_id": "ID", "step": -1, "row": 0},
        {"dataset_id": "ID", "step": True, "row": 0},
        {"dataset_id": "ID", "step": 1.0, "row": 0},
    ],
    ids=str,
)
def test_a_state_that_is_no_cursor_of_this_dataset_is_refused(small_dataset: Path, state: Any) -> None:
    """At the moment it is loaded, not after the model has been restored and the queue has been waited for."""
    dataset = CurriculumDataset(small_dataset)
    if state and "dataset_id" in state:
        state = {**state, "dataset_id": dataset.reader.id}
    with pytest.raises(CursorError):
        dataset.load_state_dict(state)


def test_a_world_size_that_does_not_divide_is_refused_before_the_first_batch(small_dataset: Path) -> None:
    """`iter` itself refuses: not the step where the phase begins, hours later."""
    with pytest.raises(CursorError, match=r"does not divide the 8 rows per step.*: 1, 2, 4, 8"):
        iter(CurriculumDataset(small_dataset, world_size=3))


def test_worker_processes_are_refused_with_the_reason(small_dataset: Path) -> None:
    """They would be 25 to 35 times slower, and the saved state would be ahead of the training."""
    loader = DataLoader(
        CurriculumDataset(small_dataset), batch_size=None, num_workers=1, multiprocessing_context="spawn"
    )
    with pytest.raises(ConfigError, match=r"num_workers=1\); use num_workers=0"):
        next(iter(loader))


def test_a_dataset_pickles_with_its_position_and_without_its_maps(small_dataset: Path) -> None:
    """Launchers that spawn processes send the dataset; it must not carry open files or megabytes."""
    dataset = CurriculumDataset(small_dataset, micro_batches=2, reuse_buffer=True)
    dataset.load_state_dict({"dataset_id": dataset.reader.id, "step": 7, "row": 4})
    next(iter(dataset))
    data = pickle.dumps(dataset)
    assert len(data) < 2_000
    again = pickle.loads(data)
    assert_same(copies(again), copies(dataset))


def test_micro_batches_bounded_by_tokens_are_the_same_step_in_other_pieces(small_dataset: Path) -> None:
    """Many short rows at once, few long ones, about equal memory; `len` and the state count these pieces."""
    dataset = CurriculumDataset(small_dataset, world_size=2, micro_tokens=64)
    sizes: dict[int, set[int]] = {}
    cursors, pieces = [], []
    for example in dataset:
        rows, seq_len = example["input_ids"].shape
        sizes.setdefault(seq_len, set()).add(rows)
        cursors.append(dataset.cursor)
        pieces.append(example["input_ids"])
    assert sizes == {8: {4}, 16: {4}, 24: {2}, 32: {2}, 40: {1}, 48: {1}, 56: {1}, 64: {1}}
    assert len(dataset) == len(pieces)
    assert sum(cursor.row == 0 for cursor in cursors) == len(dataset.reader)
    whole = [example["input_ids"] for example in CurriculumDataset(small_dataset)]
    other = [
        example["input_ids"] for example in CurriculumDataset(small_dataset, rank=1, world_size=2, micro_tokens=64)
    ]
    total = 0
    for mine, others, cursor in zip(pieces, other, cursors, strict=True):
        step = cursor.step - (cursor.row == 0)
        end = cursor.row or 8
        assert torch.equal(torch.cat([mine, others]), whole[step][end - 2 * len(mine) : end])
        total += 2 * len(mine)
    assert total == 8 * len(whole)
    middle = CurriculumDataset(small_dataset, world_size=2, micro_tokens=64)
    middle.load_state_dict(cursors[-4].state_dict())
    assert_same(copies(middle), copies(dataset)[-3:])


def test_attention_adds_the_keys_that_were_asked_for_and_no_mask(small_dataset: Path, packed: Path) -> None:
    """A model of transformers takes position_ids, and refuses keys it does not know; with an attention_mask of ones it
    would not look at them."""
    for root in (small_dataset, packed):
        plain = copies(CurriculumDataset(root))
        positions = list(CurriculumDataset(root, attention="position_ids"))
        pieces = list(CurriculumDataset(root, attention="varlen", shift_labels=True))
        for step, batch in enumerate(curriculum.open(root)):
            assert list(positions[step]) == ["input_ids", "labels", "position_ids"]
            keys = ["input_ids", "labels", "shift_labels", "position_ids", "cu_seqlens", "max_seqlen"]
            assert list(pieces[step]) == keys
            assert torch.equal(positions[step]["labels"], plain[step]["labels"])
            assert torch.equal(pieces[step]["shift_labels"], plain[step]["labels"])
            assert positions[step]["position_ids"].tolist() == batch.varlen.position_ids.tolist()
            assert pieces[step]["cu_seqlens"].tolist() == batch.varlen.cu_seqlens.tolist()
            assert pieces[step]["cu_seqlens"].dtype == torch.int32
            assert pieces[step]["max_seqlen"] == batch.varlen.max_seqlen
    with pytest.raises(ConfigError, match="attention is 'flash'; choose None, 'position_ids' or 'varlen'"):
        CurriculumDataset(small_dataset, attention="flash")  # type: ignore[arg-type]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_held_out_rows_come_once_and_all_ranks_call_the_model_equally_often(
    small_dataset: Path, packed: Path, world_size: int
) -> None:
    """A rank that had one batch less would leave the others waiting in a collective call; one that had it twice would
    count rows twice."""
    for root, rows in ((small_dataset, 3), (packed, 1), (packed, 2)):
        held_out = curriculum.open(root).validation
        assert held_out is not None
        datasets = [CurriculumDataset(root, rank=rank, world_size=world_size) for rank in range(world_size)]
        found = [list(dataset.validation(rows)) for dataset in datasets]
        assert len({len(of_rank) for of_rank in found}) == 1
        in_turn = [example for of_round in zip(*found, strict=True) for example in of_round]
        counted = [example for example in in_turn if (example["labels"] != -100).any()]
        batches = list(held_out.batches(rows))
        assert len(in_turn) == -(-len(batches) // world_size) * world_size
        assert [example["labels"].tolist() for example in counted] == [batch.targets.tolist() for batch in batches]
        assert [example["input_ids"].tolist() for example in counted] == [batch.inputs.tolist() for batch in batches]
        assert sum(len(example["labels"]) for example in counted) == len(held_out)
        assert all((example["input_ids"] >= 0).all() for example in in_turn), "masked labels are no inputs"
        assert datasets[0].cursor.step == 0


def test_a_dataset_without_held_out_rows_says_so(build_small: Callable[..., BuildResult], tmp_path: Path) -> None:
    """An evaluation of nothing would be a loss of nan."""
    build_small(tmp_path / "none", schedule="constant", start_length=None, steps=2)
    with pytest.raises(ConfigError, match="no held-out rows; build the dataset with --validation-tokens N"):
        CurriculumDataset(tmp_path / "none").validation(2)


@pytest.mark.parametrize("name", ["pytorch", "micro_batches"])
def test_without_torch_the_adapter_says_what_to_install(name: str) -> None:
    """The name of a missing module does not say that of the extra that brings it."""
    code = f"import sys; sys.modules['torch'] = None; import curriculum.adapters.{name}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert f"curriculum.adapters.{name} needs torch" in done.stderr
    assert "pip install 'seqlen-curriculum[torch]'" in done.stderr
