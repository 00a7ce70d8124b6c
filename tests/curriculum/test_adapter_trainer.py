"""Hugging Face `Trainer` on a compiled dataset trains on each step's rows once, in order, wherever it continues."""

from __future__ import annotations

import copy
import json
import shutil
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

pytest.importorskip("transformers", reason="the extra 'trainers' is not installed")

from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler, SequentialSampler
from transformers import Trainer, TrainerCallback

import curriculum
from curriculum.adapters.micro_batches import MicroBatches
from curriculum.adapters.pytorch import CurriculumDataset
from curriculum.adapters.transformers import one_micro_batch, trainer_inputs
from curriculum.errors import ConfigError, CursorError
from curriculum.reader import Reader
from example_run import assert_losses_are_cross_entropy, planned, run_example
from packed_dataset import write_packed_dataset
from ready_python import ready_python
from tiny_trainer import arguments, gpt2, llama, losses, make, watch

STEPS = 6


@pytest.fixture(scope="module")
def reader(build_small: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """Six steps of 8 rows, from 24 to 64 inputs."""
    out = tmp_path_factory.mktemp("trainer") / "dataset"
    build_small(out, steps=STEPS, start_length=8, frac=0.5, validation_tokens=6_000)
    return curriculum.open(out)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """Eight steps of 4 packed rows of 8 or 16 inputs, with labels of -100."""
    root = tmp_path_factory.mktemp("packed")
    write_packed_dataset(root)
    return curriculum.open(root)


def assert_rows(seen: list[np.ndarray], reader: Reader, start: int, stop: int, micro_batches: int) -> None:
    """The micro-batches of those steps and nothing else, laid end to end, are the global batches."""
    assert len(seen) == (stop - start) * micro_batches
    for step in range(start, stop):
        of_step = seen[(step - start) * micro_batches :][:micro_batches]
        np.testing.assert_array_equal(np.concatenate(of_step), reader[step].inputs)


@pytest.mark.parametrize("micro_batches", [1, 2, 4, 8])
def test_the_model_gets_the_rows_of_each_step_once_and_in_order(
    reader: Reader, tmp_path: Path, micro_batches: int
) -> None:
    model = llama()
    seen = watch(model)
    make(reader, tmp_path, model, gradient_accumulation_steps=micro_batches).train()
    assert_rows(seen, reader, 0, STEPS, micro_batches)


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_on_any_number_of_processes_the_sampler_of_accelerate_deals_out_whole_steps(
    reader: Reader, world_size: int, micro_batches: int
) -> None:
    """Of the items 0, 1, 2 ... rank r gets r, r + W ...: those that hold its rows. Trainer's loader is made of it."""
    data = MicroBatches(reader, world_size=world_size, micro_batches=micro_batches, shift_labels=True)
    inner = BatchSampler(SequentialSampler(data), 1, drop_last=False)
    for rank in range(world_size):
        mine = BatchSamplerShard(inner, num_processes=world_size, process_index=rank)
        found = [one_micro_batch([data[index] for index in indices]) for indices in mine]
        expected = list(reader.steps(0, rank, world_size, micro_batches))
        assert len(found) == len(expected)
        for item, batch in zip(found, expected, strict=True):
            np.testing.assert_array_equal(item["input_ids"].numpy(), batch.inputs)


def plain_loop(model: nn.Module, reader: Reader, steps: int) -> list[float]:
    """Each step's loss on its whole global batch, without any trainer; trains the model."""
    found = []
    for step in range(steps):
        batch = reader[step]
        logits = model(input_ids=torch.from_numpy(batch.inputs.astype(np.int64))).logits
        loss = F.cross_entropy(logits.flatten(0, 1), torch.from_numpy(batch.labels).flatten())
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
        found.append(loss.item())
    return found


@pytest.mark.parametrize("rows", ["plain", "packed"])
@pytest.mark.parametrize("micro_batches", [1, 2])
@pytest.mark.parametrize("build", [gpt2, llama])
def test_loss_and_weights_are_those_of_plain_cross_entropy(
    reader: Reader, packed: Reader, tmp_path: Path, build: Callable[[], nn.Module], micro_batches: int, rows: str
) -> None:
    """Labels are not shifted a second time, none is left out of the count, and -100 counts for nothing.

    With packed rows micro-batches have unequal numbers of labels: the mean of their means would be another loss.
    """
    data = packed if rows == "packed" else reader
    model = build()
    reference = copy.deepcopy(model)
    trainer = make(data, tmp_path, model, gradient_accumulation_steps=micro_batches)
    trainer.train()
    expected = plain_loop(reference, data, len(data))
    assert losses(trainer) == pytest.approx(expected, abs=2e-5)
    for one, other in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-5)


def test_packed_micro_batches_have_unequal_numbers_of_labels(packed: Reader) -> None:
    """Else the test above could not tell a mean of means from the mean."""
    counts = [int((batch.labels >= 0).sum()) for batch in packed.steps(micro_batches=2)]
    assert any(one != other for one, other in zip(counts[::2], counts[1::2], strict=True))


@pytest.mark.parametrize("build", [gpt2, llama])
def test_packed_attention_gives_the_loss_of_documents_run_alone(
    packed: Reader, tmp_path: Path, build: Callable[[], nn.Module]
) -> None:
    """Trainer passes position_ids on, adds no mask that would hide them, and no cache that would ignore them."""
    model = build()
    total, count = 0.0, 0
    with torch.no_grad():
        batch = packed[3]
        inputs, labels = torch.from_numpy(batch.inputs.astype(np.int64)), torch.from_numpy(batch.labels)
        edges = batch.varlen.cu_seqlens.tolist()
        for start, stop in pairwise(edges):
            logits = model(input_ids=inputs.flatten()[None, start:stop]).logits[0]
            total += F.cross_entropy(logits, labels.flatten()[start:stop], reduction="sum", ignore_index=-100).item()
            count += int((labels.flatten()[start:stop] >= 0).sum())
    assert len(edges) > len(batch) + 1  # some row holds more than one piece
    options = {"learning_rate": 0.0, "gradient_accumulation_steps": 2}
    alone = make(packed, tmp_path / "a", model, attention="position_ids", stop_after=4, **options)
    together = make(packed, tmp_path / "b", model, stop_after=4, **options)
    alone.train()
    together.train()
    assert losses(alone)[3] == pytest.approx(total / count, abs=1e-5)
    assert abs(losses(together)[3] - total / count) > 1e-4


@pytest.fixture(scope="module")
def whole(reader: Reader, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """A run that was not stopped."""
    trainer = make(reader, tmp_path_factory.mktemp("whole"), llama())
    trainer.train()
    return trainer


@pytest.mark.parametrize("stop", range(1, STEPS + 1))
def test_a_run_continues_exactly_with_another_number_of_micro_batches(
    whole: Trainer, reader: Reader, tmp_path: Path, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after any step: rows, losses and weights are those of the run that was not, and nothing old is read."""
    make(reader, tmp_path / "out", llama(), stop_after=stop, gradient_accumulation_steps=2).train()
    read: list[int] = []
    of_index = MicroBatches.batch

    def counted(self: MicroBatches, index: Any) -> Any:
        read.append(int(index))
        return of_index(self, index)

    model = llama()
    seen = watch(model)
    later = make(reader, tmp_path / "out", model, gradient_accumulation_steps=4)
    monkeypatch.setattr(MicroBatches, "batch", counted)
    later.train(resume_from_checkpoint=str(tmp_path / "out" / f"checkpoint-{stop}"))
    assert_rows(seen, reader, stop, STEPS, 4)
    assert min(read) == min(stop * 4, STEPS * 4 - 1)  # of a finished run the last item, to see which keys it has
    assert losses(later) == pytest.approx(losses(whole), abs=1e-5)
    for one, other in zip(model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_a_run_continues_twice_in_a_row(reader: Reader, tmp_path: Path) -> None:
    """A second interruption starts from the first one's checkpoint; a third start of a finished run trains nothing."""
    for start, stop, micro_batches in [(0, 2, 1), (2, 3, 4), (3, None, 2), (6, None, 8)]:
        model = llama()
        seen = watch(model)
        folder = tmp_path / "out"
        trainer = make(
            reader,
            folder,
            model,
            stop_after=stop,
            gradient_accumulation_steps=micro_batches,
            save_strategy="steps",
            save_steps=100,
        )
        trainer.train(resume_from_checkpoint=bool(start))
        assert_rows(seen, reader, start, STEPS if stop is None else stop, micro_batches)
        assert trainer.state.global_step == (STEPS if stop is None else stop)


def test_a_checkpoint_of_another_dataset_is_refused_with_both_ids(
    reader: Reader, build_small: Callable[..., Any], tmp_path: Path
) -> None:
    build_small(tmp_path / "other", steps=STEPS, seed=1)
    other = curriculum.open(tmp_path / "other")
    make(other, tmp_path / "out", llama(), stop_after=2).train()
    with pytest.raises(CursorError) as refused:
        make(reader, tmp_path / "out", llama()).train(resume_from_checkpoint=True)
    assert reader.id in str(refused.value)
    assert other.id in str(refused.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda kept: kept.pop("curriculum"), "holds no cursor"),
        (lambda kept: kept["curriculum"].update(step=1), "Trainer's step 2, but its cursor stands at step 1, row 0"),
        (lambda kept: kept["curriculum"].update(row=4), "stands at step 2, row 4"),
        (lambda kept: kept["curriculum"].update(step="2"), "not a cursor"),
    ],
)
def test_a_checkpoint_that_contradicts_itself_is_refused(
    reader: Reader, tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    """Made without the callback, or edited: Trainer alone would go on with whatever data it has."""
    make(reader, tmp_path, llama(), stop_after=2).train()
    path = tmp_path / "checkpoint-2" / "trainer_state.json"
    state = json.loads(path.read_text())
    change(state["stateful_callbacks"])
    path.write_text(json.dumps(state))
    with pytest.raises(CursorError, match=message):
        make(reader, tmp_path, llama()).train(resume_from_checkpoint=True)


def test_held_out_rows_are_evaluated_with_plain_cross_entropy(reader: Reader, tmp_path: Path) -> None:
    """As docs/trainers.md says: batches of `validation` as items; labels are not shifted again. Trainer takes the mean
    over items, so they should have equal numbers of rows: one is always right."""
    held_out = list(CurriculumDataset(reader, shift_labels=True).validation(1))
    model = llama()
    args = arguments(reader, tmp_path, per_device_eval_batch_size=1)
    trainer = Trainer(model, args, eval_dataset=held_out, **trainer_inputs(reader, args))
    with torch.no_grad():
        logits = torch.cat([model(input_ids=batch["input_ids"]).logits for batch in held_out]).flatten(0, 1)
    expected = F.cross_entropy(logits, torch.cat([batch["labels"] for batch in held_out]).flatten()).item()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, abs=1e-5)
    with pytest.raises(ConfigError, match="Trainer asks for 8 items at a time"):
        make(reader, tmp_path, model).evaluate(held_out)


class Logger(TrainerCallback):
    """Stands for wandb or TensorBoard."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        self.seen.append(dict(logs or {}))


def test_length_tokens_and_passes_over_the_corpus_are_logged(reader: Reader, tmp_path: Path) -> None:
    """In trainer_state.json, for callbacks after it, and with `log_first` for the loggers of report_to too."""
    args = arguments(reader, tmp_path)
    inputs = trainer_inputs(reader, args)
    before, after = Logger(), Logger()
    trainer = Trainer(llama(), args, **{**inputs, "callbacks": [before, *inputs["callbacks"], after]})
    trainer.train()
    plan, accounting = reader.plan, reader.manifest.accounting
    lengths = [reader[step].seq_len for step in range(STEPS)]
    tokens = [plan.tokens_at(step + 1) for step in range(STEPS)]
    assert len(set(lengths)) > 1
    corpus = accounting.corpus_tokens - accounting.validation_tokens
    for logs in (after.seen[:STEPS], trainer.state.log_history[:STEPS]):
        assert [entry["seq_len"] for entry in logs] == lengths
        assert [entry["tokens_seen"] for entry in logs] == tokens
        assert [entry["epoch"] for entry in logs] == pytest.approx([seen / corpus for seen in tokens])
    assert "seq_len" not in before.seen[0]
    assert "seq_len" not in trainer.state.log_history[STEPS]  # the summary at the end is of no step

    inputs = trainer_inputs(reader, args)
    first = Logger()
    trainer = Trainer(llama(), args, **{**inputs, "callbacks": [first, *inputs["callbacks"]]})
    inputs["callbacks"][0].log_first(trainer)
    trainer.train()
    assert [entry["seq_len"] for entry in first.seen[:STEPS]] == lengths


def test_an_epoch_counts_the_tokens_that_were_cut_off_too(build_small: Callable[..., Any], tmp_path: Path) -> None:
    """In truncate mode short rows consume as much of the corpus as long ones: without what was dropped, a run that
    read all of it would be logged as a part of a pass."""
    build_small(tmp_path / "dataset", mode="truncate", steps=STEPS, start_length=8, frac=0.5)
    data = curriculum.open(tmp_path / "dataset")
    trainer = make(data, tmp_path / "out", llama())
    trainer.train()
    accounting = data.manifest.accounting
    assert accounting.truncated_tokens > 0
    epochs = [entry["epoch"] for entry in trainer.state.log_history[:STEPS]]
    read = 8 * 64 * STEPS / accounting.corpus_tokens  # every row takes max_length tokens
    assert epochs == pytest.approx([read * (step + 1) / STEPS for step in range(STEPS)])


def test_the_example_on_two_processes_resumes_on_two_and_on_one(packed: Reader, tmp_path: Path) -> None:
    """Real processes: every row of every step reaches the model once, whoever continues the run, and losses are those
    of whole steps, although labels of -100 are spread unevenly over micro-batches and processes."""
    dataset, steps, name = Path(packed.where), len(packed), "train_hf"
    runs = {"processes": 2, "micro_batches": 2}
    with ready_python(sys.executable, name) as python:
        first = run_example(python, name, dataset, tmp_path / "out", tmp_path / "log-0", stop_before=3, **runs)
        shutil.copytree(tmp_path / "out", tmp_path / "copy")
        two = run_example(python, name, dataset, tmp_path / "out", tmp_path / "log-1", **runs)
        one = run_example(
            python, "train_hf", dataset, tmp_path / "copy", tmp_path / "log-2", processes=1, micro_batches=1
        )
    assert first.rows == planned(dataset, 0, 3)
    assert two.rows == one.rows == planned(dataset, 3, steps)
    assert [line["step"] for line in first.steps + two.steps] == list(range(steps))
    assert [line["loss"] for line in two.steps] == pytest.approx([line["loss"] for line in one.steps], abs=1e-4)
    for recorded in (first, two, one):
        assert_losses_are_cross_entropy(recorded)
