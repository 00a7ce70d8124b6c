"""Accelerate: whole steps for `accumulate`, and a state that continues anywhere or says why not."""

from __future__ import annotations

import importlib
import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

pytest.importorskip("accelerate", reason="the extra 'trainers' is not installed")

from accelerate import Accelerator
from torch.optim.lr_scheduler import LambdaLR

import curriculum
from curriculum.adapters.accelerate import AccelerateDataset, Step, dataset_for
from curriculum.errors import ConfigError, CursorError
from curriculum.reader import Reader
from example_run import assert_losses_are_cross_entropy, planned, run_example
from packed_dataset import write_packed_dataset
from ready_python import ready_python

STEPS = 6


@pytest.fixture(scope="module")
def reader(build_small: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """Six steps of 8 rows, from 24 to 64 inputs."""
    out = tmp_path_factory.mktemp("accelerate") / "dataset"
    build_small(out, steps=STEPS, start_length=8, frac=0.5)
    return curriculum.open(out)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """Eight steps of 4 packed rows, with labels of -100."""
    root = tmp_path_factory.mktemp("packed")
    write_packed_dataset(root)
    return curriculum.open(root)


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(257, 16), nn.Linear(16, 257))


class Run:
    """What a user's script holds, and which weights updates were made after which micro-batch."""

    def __init__(self, reader: Reader, micro_batches: int = 1, **options: Any) -> None:
        self.accelerator = Accelerator(cpu=True, gradient_accumulation_steps=micro_batches)
        self.dataset = dataset_for(self.accelerator, reader, **options)
        module = make_model()
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        self.model, self.optimizer = self.accelerator.prepare(module, optimizer)
        self.synced: list[list[bool]] = []
        """for each step and micro-batch: did accelerate let the optimizer move?"""
        self.rows: list[np.ndarray] = []
        self.losses: list[float] = []

    def train(self, stop_before: int | None = None) -> None:
        """The loop of the module's docstring, with a model that is none of transformers'."""
        for step in self.dataset.steps():
            self.synced.append([])
            self.losses.append(0.0)
            for batch in step.micro_batches:
                with self.accelerator.accumulate(self.model):
                    self.loss(step, batch)
                    self.optimizer.step()
                    self.optimizer.zero_grad()
                self.synced[-1].append(self.accelerator.sync_gradients)
            if self.dataset.cursor.step == stop_before:
                break

    def loss(self, step: Step, batch: dict[str, torch.Tensor]) -> None:
        logits = self.model(batch["input_ids"])
        loss = F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), reduction="sum") / step.num_targets
        self.accelerator.backward(loss * step.num_shares)
        self.rows.append(batch["input_ids"].numpy().copy())
        self.losses[-1] += loss.item()

    @property
    def weights(self) -> torch.Tensor:
        return nn.utils.parameters_to_vector(self.model.parameters()).detach()


def plain_loop(reader: Reader) -> tuple[list[float], torch.Tensor]:
    """Losses on whole global batches and final weights, without accelerate."""
    model = make_model()
    losses = []
    for step in range(len(reader)):
        batch = reader[step]
        logits = model(torch.from_numpy(batch.inputs.astype(np.int64)))
        loss = F.cross_entropy(logits.flatten(0, 1), torch.from_numpy(batch.labels).flatten())
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
        losses.append(loss.item())
    return losses, nn.utils.parameters_to_vector(model.parameters()).detach()


def assert_rows(found: list[np.ndarray], reader: Reader, start: int, stop: int) -> None:
    """Every row of those steps once, in order."""
    flat = np.concatenate([row for rows in found for row in rows])
    np.testing.assert_array_equal(flat, np.concatenate([reader[step].inputs.ravel() for step in range(start, stop)]))


@pytest.mark.parametrize("rows", ["plain", "packed"])
@pytest.mark.parametrize("options", [{}, {"micro_batches": 2}, {"micro_batches": 4}, {"micro_tokens": 32}])
def test_losses_and_weights_are_those_of_plain_cross_entropy_on_whole_steps(
    reader: Reader, packed: Reader, options: dict[str, int], rows: str
) -> None:
    """Divided by accelerate, made up for by num_shares, counted over the step: also where -100 is spread unevenly."""
    data = packed if rows == "packed" else reader
    if rows == "plain" and "micro_tokens" in options:
        options = {"micro_tokens": 128}
    run = Run(data, **options)
    run.train()
    losses, weights = plain_loop(data)
    assert_rows(run.rows, data, 0, len(data))
    assert run.losses == pytest.approx(losses, abs=1e-5)
    torch.testing.assert_close(run.weights, weights, rtol=0, atol=1e-5)


def test_the_optimizer_moves_on_the_last_micro_batch_of_each_step_where_their_number_changes(reader: Reader) -> None:
    """128 tokens: 8 rows of 24 in 2 micro-batches of 4 rows, of 40 in 4, of 64 in 4 of 2 rows."""
    run = Run(reader, micro_tokens=128)
    run.train()
    lengths = [reader[step].seq_len for step in range(STEPS)]
    expected = {24: 2, 40: 4, 48: 4, 64: 4}
    assert [len(synced) for synced in run.synced] == [expected[length] for length in lengths]
    assert len({len(synced) for synced in run.synced}) > 1
    assert all(synced == [False] * (len(synced) - 1) + [True] for synced in run.synced)


@pytest.mark.parametrize("stop", range(1, STEPS))
@pytest.mark.parametrize("after", [{"micro_batches": 1}, {"micro_batches": 8}, {"micro_tokens": 64}])
def test_a_run_continues_exactly_with_other_micro_batches(
    reader: Reader, tmp_path: Path, stop: int, after: dict[str, int]
) -> None:
    """accelerate restores its count of micro-batches: 2 * stop of them, in the middle of a step of 8."""
    first = Run(reader, 2)
    first.train(stop)
    first.accelerator.save_state(str(tmp_path))
    later = Run(reader, **after)
    later.accelerator.load_state(str(tmp_path))
    later.train()
    losses, weights = plain_loop(reader)
    assert_rows(first.rows, reader, 0, stop)
    assert_rows(later.rows, reader, stop, STEPS)
    assert all(synced == [False] * (len(synced) - 1) + [True] for synced in later.synced)
    assert first.losses + later.losses == pytest.approx(losses, abs=1e-5)
    torch.testing.assert_close(later.weights, weights, rtol=0, atol=1e-5)


def test_without_steps_accumulate_is_in_phase_after_a_restart_too(reader: Reader, tmp_path: Path) -> None:
    """Stopped after 3 micro-batches of one step each, continued with 2 per step: accelerate's own count says 3."""
    first = Run(reader)
    first.train(3)
    first.accelerator.save_state(str(tmp_path))
    later = Run(reader, 2)
    later.accelerator.load_state(str(tmp_path))
    synced = []
    for _ in later.dataset:
        with later.accelerator.accumulate(later.model):
            synced.append(later.accelerator.sync_gradients)
    assert synced == [False, True] * 3


def test_a_run_continues_twice_in_a_row(reader: Reader, tmp_path: Path) -> None:
    """Each interruption starts from the last one's checkpoint."""
    rows: list[np.ndarray] = []
    for number, (stop, micro_batches) in enumerate([(2, 4), (3, 1), (None, 2)]):
        run = Run(reader, micro_batches)
        if number:
            run.accelerator.load_state(str(tmp_path / str(number - 1)))
        run.train(stop)
        run.accelerator.save_state(str(tmp_path / str(number)))
        rows += run.rows
    assert_rows(rows, reader, 0, STEPS)


def test_a_state_of_another_dataset_is_refused_with_both_ids(reader: Reader, packed: Reader, tmp_path: Path) -> None:
    Run(packed).accelerator.save_state(str(tmp_path))
    with pytest.raises(CursorError) as refused:
        Run(reader).accelerator.load_state(str(tmp_path))
    assert reader.id in str(refused.value)
    assert packed.id in str(refused.value)


def test_a_state_inside_a_step_is_neither_saved_nor_loaded(reader: Reader, tmp_path: Path) -> None:
    """accelerate keeps no gradients: the rows before it would be trained on by nobody."""
    run = Run(reader, 2)
    batches = iter(run.dataset)
    next(batches)
    with pytest.raises(CursorError, match=r"inside step 0, after 4 of its rows, .* Save after the last "):
        run.accelerator.save_state(str(tmp_path))
    with pytest.raises(CursorError, match=r"inside step 0, after 4 of its rows, .* Resume from a checkpoint"):
        run.dataset.load_state_dict({"dataset_id": reader.id, "step": 0, "row": 4})


def stand_in(**changes: Any) -> Any:
    """An accelerator of processes that this machine does not have."""
    values: dict[str, Any] = {
        "process_index": 0,
        "num_processes": 1,
        "device": torch.device("cpu"),
        "gradient_accumulation_steps": 1,
        "distributed_type": SimpleNamespace(name="MULTI_CPU"),
        "parallelism_config": None,
        "split_batches": False,
        "step": 0,
        "_schedulers": [],
        "register_for_checkpointing": lambda *objects: None,
    }
    return SimpleNamespace(**{**values, **changes})


@pytest.mark.parametrize(("world_size", "micro_batches"), [(2, 1), (2, 4), (4, 2), (8, 1)])
def test_processes_share_each_step_as_the_reader_says(reader: Reader, world_size: int, micro_batches: int) -> None:
    """Rank and world size are the accelerator's; targets of a step are counted over all processes."""
    for rank in range(world_size):
        accelerator = stand_in(process_index=rank, num_processes=world_size, gradient_accumulation_steps=micro_batches)
        steps = list(dataset_for(accelerator, reader).steps())
        batches = [batch for step in steps for batch in step.micro_batches]
        expected = list(reader.steps(0, rank, world_size, micro_batches))
        for found, batch in zip(batches, expected, strict=True):
            np.testing.assert_array_equal(found["input_ids"], batch.inputs)
        assert [step.step for step in steps] == list(range(STEPS))
        assert [step.seq_len for step in steps] == [reader[step].seq_len for step in range(STEPS)]
        assert [step.num_targets for step in steps] == [reader[step].targets.size for step in range(STEPS)]
        assert {step.num_shares for step in steps} == {world_size * micro_batches}


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"parallelism_config": SimpleNamespace(tp_size=2)}, {}, "would share rows or a model"),
        ({"parallelism_config": SimpleNamespace(cp_size=2)}, {}, "would share rows or a model"),
        ({"distributed_type": SimpleNamespace(name="DEEPSPEED")}, {"micro_tokens": 64}, "micro_tokens is 64, and Deep"),
    ],
)
def test_what_would_go_wrong_silently_is_refused(
    reader: Reader, changes: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        dataset_for(stand_in(**changes), reader, **options)


def test_processes_that_the_accelerator_does_not_see_are_refused(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchrun without a GPU and without cpu=True: every process would train a model of its own."""
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="2 processes were launched, and the accelerator takes this one for 1 of its"):
        dataset_for(stand_in(), reader)


def test_a_scheduler_that_accelerate_would_advance_once_a_process_is_noted(
    reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    """On 4 processes a warm-up of 100 steps would end after 25."""
    accelerator = Accelerator(cpu=True)
    optimizer = torch.optim.SGD(make_model().parameters(), lr=0.1)
    prepared = accelerator.prepare_scheduler(LambdaLR(optimizer, lambda step: 1.0))
    with caplog.at_level(logging.WARNING, "curriculum"):
        dataset_for(stand_in(_schedulers=[prepared]), reader).steps()
        dataset_for(stand_in(num_processes=4, _schedulers=[SimpleNamespace(step_with_optimizer=False)]), reader).steps()
    assert caplog.text == ""
    with caplog.at_level(logging.WARNING, "curriculum"):
        dataset_for(stand_in(num_processes=4, _schedulers=[prepared]), reader).steps()
    assert "advances it 4 times a step" in caplog.text


def test_processes_that_do_not_divide_the_rows_are_refused_before_the_first_step(reader: Reader) -> None:
    with pytest.raises(CursorError, match="= 3 does not divide the 8 rows per step"):
        dataset_for(stand_in(num_processes=3), reader).steps()


def test_labels_have_the_name_that_models_of_transformers_do_not_shift(reader: Reader) -> None:
    (batch,) = next(dataset_for(stand_in(), reader).steps()).micro_batches
    assert batch.keys() == {"input_ids", "labels", "shift_labels"}
    torch.testing.assert_close(batch["labels"], batch["shift_labels"])
    (batch,) = next(dataset_for(stand_in(), reader, attention="position_ids", shift_labels=False).steps()).micro_batches
    assert batch.keys() == {"input_ids", "labels", "position_ids"}


def test_the_dataset_is_registered_and_says_what_it_is(reader: Reader) -> None:
    accelerator = Accelerator(cpu=True)
    opened = dataset_for(accelerator, reader)
    assert isinstance(opened, AccelerateDataset)
    assert accelerator._custom_objects == [opened]


def test_without_accelerate_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    monkeypatch.delitem(sys.modules, "curriculum.adapters.accelerate")
    with pytest.raises(ImportError, match=r"torch and accelerate .*: pip install 'seqlen-curriculum\[trainers\]'"):
        importlib.import_module("curriculum.adapters.accelerate")


def test_the_example_on_two_processes_resumes_on_two_and_on_one(packed: Reader, tmp_path: Path) -> None:
    """Real processes: process 0's state serves all, on any number of them; losses go on as if nothing had happened."""
    dataset, steps, name = Path(packed.where), len(packed), "train_accelerate"
    with ready_python(sys.executable, name) as python:
        first = run_example(
            python, "train_accelerate", dataset, tmp_path / "out", tmp_path / "log-0", processes=2, stop_before=2
        )
        shutil.copytree(tmp_path / "out", tmp_path / "copy")
        runs = {"processes": 2, "micro_batches": 2}
        two = run_example(python, name, dataset, tmp_path / "out", tmp_path / "log-1", **runs)
        one = run_example(
            python, "train_accelerate", dataset, tmp_path / "copy", tmp_path / "log-2", processes=1, micro_batches=4
        )
    assert first.rows == planned(dataset, 0, 2)
    assert two.rows == one.rows == planned(dataset, 2, steps)
    assert [line["step"] for line in first.steps + two.steps] == list(range(steps))
    assert [line["loss"] for line in two.steps] == pytest.approx([line["loss"] for line in one.steps], abs=1e-4)
    for recorded in (first, two, one):
        assert_losses_are_cross_entropy(recorded)
