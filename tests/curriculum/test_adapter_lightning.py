"""Lightning resumes exactly, after every batch, with other micro-batches and processes; silent errors are refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import curriculum
from curriculum.doctor.check import check_runs
from curriculum.doctor.run_log import load_run
from curriculum.errors import ConfigError, CursorError
from curriculum.reader import Reader
from packed_dataset import write_packed_dataset
from ready_python import ready_python

pytest.importorskip("lightning")
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler

from curriculum.adapters.lightning import CurriculumDataModule
from curriculum.adapters.pytorch import CurriculumDataset
from curriculum.examples.train_lightning import Model

pytestmark = [
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),  # torch 2.13 of Lightning 2.6
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:GPU available but not used"),
    pytest.mark.filterwarnings("ignore:The `srun` command is available"),
]
STEPS = 8
"""Of the packed dataset: 4 rows each, of 8, 16 and again 8 tokens."""


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """Rows with unequal numbers of labels: a mean of means would show."""
    root = tmp_path_factory.mktemp("packed") / "dataset"
    write_packed_dataset(root)
    return curriculum.open(root)


class Recorded(Model):  # type: ignore[misc, unused-ignore]
    """The example's model, which notes what it was given."""

    def __init__(self, vocab_size: int) -> None:
        torch.manual_seed(0)
        super().__init__(vocab_size)
        self.seen: list[torch.Tensor] = []
        self.losses: list[float] = []

    def training_step(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        self.seen.append(batch["input_ids"].clone())
        return super().training_step(batch)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        super().on_before_optimizer_step(optimizer)
        self.losses.append(float(self.trainer.callback_metrics["loss"]))


class SaveAfterEveryBatch(Callback):  # type: ignore[misc, unused-ignore]
    """Also between the micro-batches of a step, as ModelCheckpoint(train_time_interval=...) does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        trainer.save_checkpoint(self.folder / f"{batch_idx}.ckpt")


def trainer_of(**options: Any) -> Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    return Trainer(**{**quiet, "devices": 1, "enable_model_summary": False, **options})


def fit(data: CurriculumDataModule, ckpt: Path | None = None, **options: Any) -> Recorded:
    model = Recorded(data.reader.manifest.tokenizer.vocab_size)
    trainer_of(**options).fit(model, datamodule=data, ckpt_path=ckpt)
    return model


def assert_rows(seen: list[torch.Tensor], reader: Reader, start: int, stop: int, micro_batches: int) -> None:
    """Exactly the micro-batches of these steps."""
    expected = [
        batch.inputs for batch in reader.steps(start, micro_batches=micro_batches) if start <= batch.step < stop
    ]
    assert len(seen) == len(expected)
    assert all(np.array_equal(one.numpy(), other) for one, other in zip(seen, expected, strict=True))


def assert_same_weights(one: torch.nn.Module, other: torch.nn.Module) -> None:
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def whole_run(packed: Reader, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recorded, Path]:
    """8 steps of 2 micro-batches, and a checkpoint after each of them."""
    folder = tmp_path_factory.mktemp("checkpoints")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CURRICULUM_DOCTOR_LOG", raising=False)
        model = fit(
            CurriculumDataModule(packed),
            max_steps=STEPS,
            accumulate_grad_batches=2,
            callbacks=[SaveAfterEveryBatch(folder)],
        )
    return model, folder


def test_first_loss_is_plain_cross_entropy_and_every_step_is_a_step_of_the_plan(
    packed: Reader, whole_run: tuple[Recorded, Path]
) -> None:
    """Labels shifted twice, or a loss that is a mean of unequal micro-batches, would train on something else."""
    model, _ = whole_run
    assert_rows(model.seen, packed, 0, STEPS, micro_batches=2)
    untrained = Recorded(packed.manifest.tokenizer.vocab_size)
    batch = packed[0]
    logits = untrained.layers(torch.from_numpy(batch.inputs.astype(np.int64)))
    expected = cross_entropy(logits.flatten(0, 1), torch.from_numpy(batch.labels).flatten())
    assert model.losses[0] == pytest.approx(expected.item(), rel=1e-5)
    assert len(model.losses) == STEPS


@pytest.mark.parametrize("micro_batches", [1, 2, 4])
def test_any_number_of_micro_batches_trains_the_same_weights(
    packed: Reader, whole_run: tuple[Recorded, Path], micro_batches: int
) -> None:
    """Gradients of packed rows are divided by the labels of the step, not by those of a micro-batch."""
    model = fit(CurriculumDataModule(packed), max_steps=STEPS, accumulate_grad_batches=micro_batches)
    assert_same_weights(model, whole_run[0])


@pytest.mark.parametrize("micro_batches", [1, 2, 4])
@pytest.mark.parametrize("batches", range(1, 2 * STEPS + 1))
def test_a_checkpoint_after_any_batch_resumes_exactly(
    packed: Reader, whole_run: tuple[Recorded, Path], batches: int, micro_batches: int
) -> None:
    """Batches 1, 3, 5 ... lie inside a step: its gradients are not in the checkpoint, so the step is done again."""
    before, folder = whole_run
    model = fit(
        CurriculumDataModule(packed),
        folder / f"{batches - 1}.ckpt",
        max_steps=STEPS,
        accumulate_grad_batches=micro_batches,
    )
    assert_rows(model.seen, packed, batches // 2, STEPS, micro_batches)
    assert_same_weights(model, before)
    assert model.global_step == STEPS


def test_epoch_of_a_run_that_stopped_early_goes_on(
    packed: Reader, whole_run: tuple[Recorded, Path], tmp_path: Path
) -> None:
    """Lightning calls the epoch of a stopped run finished: with max_epochs=1 a resume would end at once, silently."""

    class Stop(Callback):  # type: ignore[misc, unused-ignore]
        def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
            trainer.should_stop = trainer.global_step == 3

    saved = tmp_path / "last.ckpt"
    data = CurriculumDataModule(packed)
    trainer = trainer_of(max_epochs=1, callbacks=[Stop()])
    trainer.fit(Recorded(packed.manifest.tokenizer.vocab_size), datamodule=data)
    trainer.save_checkpoint(saved)
    numbers: list[int] = []

    class Note(Callback):  # type: ignore[misc, unused-ignore]
        def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, batch_idx: int) -> None:
            numbers.append(batch_idx)

    trainer = trainer_of(max_epochs=1, accumulate_grad_batches=4, callbacks=[Note()])
    model = Recorded(packed.manifest.tokenizer.vocab_size)
    trainer.fit(model, datamodule=CurriculumDataModule(packed), ckpt_path=saved)
    assert_rows(model.seen, packed, 3, STEPS, micro_batches=4)
    assert numbers == list(range(3 * 4, STEPS * 4)), "the epoch goes on, it does not begin again"
    assert trainer.current_epoch == 1
    assert_same_weights(model, whole_run[0])
    trainer.save_checkpoint(saved)
    assert fit(CurriculumDataModule(packed), saved, max_epochs=1).seen == [], "the dataset is at its end"


def test_resuming_twice_in_a_row(packed: Reader, whole_run: tuple[Recorded, Path], tmp_path: Path) -> None:
    """A restart that shifts by one batch each time only shows at the second."""
    saved, step = tmp_path / "last.ckpt", 0
    for stop, micro_batches in ((2, 4), (3, 1), (5, 2), (STEPS, 4)):
        trainer = trainer_of(max_steps=stop, accumulate_grad_batches=micro_batches)
        model = Recorded(packed.manifest.tokenizer.vocab_size)
        trainer.fit(model, datamodule=CurriculumDataModule(packed), ckpt_path=saved if step else None)
        trainer.save_checkpoint(saved)
        assert_rows(model.seen, packed, step, stop, micro_batches)
        step = stop
    assert_same_weights(model, whole_run[0])


def test_a_checkpoint_saved_by_an_exception_holds_the_last_whole_step(packed: Reader, tmp_path: Path) -> None:
    """The last micro-batch of a step was handed out, but the optimizer has not stepped."""

    class Fail(Recorded):
        def training_step(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            if len(self.seen) == 5:
                self.trainer.save_checkpoint(tmp_path / "failed.ckpt")  # what OnExceptionCheckpoint does
                raise RuntimeError("out of memory")
            return super().training_step(batch)

    trainer = trainer_of(max_steps=STEPS, accumulate_grad_batches=2)
    with pytest.raises(RuntimeError, match="out of memory"):
        trainer.fit(Fail(packed.manifest.tokenizer.vocab_size), datamodule=CurriculumDataModule(packed))
    model = fit(CurriculumDataModule(packed), tmp_path / "failed.ckpt", max_steps=STEPS)
    assert_rows(model.seen, packed, 2, STEPS, micro_batches=1)


def test_validation_and_loggers_go_on_where_they_were(packed: Reader, tmp_path: Path) -> None:
    """The rewritten progress is what decides when to validate and at which step loggers log."""

    class Data(CurriculumDataModule):
        def val_dataloader(self) -> Any:
            return [0]

    class Validated(Recorded):
        def __init__(self, vocab_size: int) -> None:
            super().__init__(vocab_size)
            self.validated_at: list[tuple[int, int]] = []

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.validated_at.append((self.global_step, self.trainer.fit_loop.epoch_loop._batches_that_stepped))

    def run(stop: int, micro_batches: int, ckpt: Path | None) -> list[tuple[int, int]]:
        trainer = trainer_of(
            max_steps=stop,
            accumulate_grad_batches=micro_batches,
            val_check_interval=2 * micro_batches,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            callbacks=[SaveAfterEveryBatch(tmp_path)],
        )
        model = Validated(packed.manifest.tokenizer.vocab_size)
        trainer.fit(model, datamodule=Data(packed), ckpt_path=ckpt)
        return model.validated_at

    whole = run(STEPS, 2, None)
    assert [step for step, _ in whole] == [2, 4, 6, 8]
    assert run(STEPS, 2, tmp_path / "0.ckpt") == whole, "saved inside step 0: nothing to validate before it"
    assert run(STEPS, 2, tmp_path / "5.ckpt") == whole[1:], "saved after step 3"
    assert run(STEPS, 4, tmp_path / "5.ckpt") == whole[1:]
    assert run(STEPS, 1, tmp_path / "9.ckpt") == whole[2:], "saved after step 5, with 2 micro-batches"


def test_a_checkpoint_of_the_last_batch_ends_the_epoch(packed: Reader, whole_run: tuple[Recorded, Path]) -> None:
    """Saved before Lightning counted the epoch: a resume has nothing to train, and the epoch is over, once."""
    ends: list[int] = []

    class Note(Callback):  # type: ignore[misc, unused-ignore]
        def on_train_epoch_end(self, trainer: Trainer, module: Any) -> None:
            ends.append(trainer.current_epoch)

    trainer = trainer_of(max_epochs=1, accumulate_grad_batches=2, callbacks=[Note()])
    model = Recorded(packed.manifest.tokenizer.vocab_size)
    saved = whole_run[1] / f"{2 * STEPS - 1}.ckpt"
    trainer.fit(model, datamodule=CurriculumDataModule(packed), ckpt_path=saved)
    assert model.seen == []
    assert (trainer.current_epoch, trainer.global_step, ends) == (1, STEPS, [])


def test_a_data_module_that_was_resumed_or_validated_begins_a_new_run_at_step_0(packed: Reader, tmp_path: Path) -> None:
    """In a notebook one data module sees several runs: a position kept from the last would refuse, or skip, rows."""

    class Data(CurriculumDataModule):
        def val_dataloader(self) -> Any:
            return [0]

    class Validated(Recorded):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            """Nothing."""

    def trained(stop: int, ckpt: Path | None = None) -> list[torch.Tensor]:
        model = Validated(vocab_size)
        trainer = trainer_of(max_steps=stop, num_sanity_val_steps=0)
        trainer.fit(model, datamodule=data, ckpt_path=ckpt)
        trainer.save_checkpoint(tmp_path / f"{stop}.ckpt")
        return model.seen

    data, saved = Data(packed), tmp_path / "4.ckpt"
    vocab_size = packed.manifest.tokenizer.vocab_size
    trained(4)
    data = Data(packed)
    trainer_of().validate(Validated(vocab_size), datamodule=data, ckpt_path=saved)
    assert data.cursor.step == 0, "validation resumes nothing"
    assert_rows(trained(1), packed, 0, 1, micro_batches=1)
    assert_rows(trained(5, saved), packed, 4, 5, micro_batches=1)
    assert_rows(trained(1), packed, 0, 1, micro_batches=1)


class Manual(Recorded):
    """Manual optimization: the cursor says where a step ends."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__(vocab_size)
        self.automatic_optimization = False

    def training_step(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        loss = super().training_step(batch)
        self.manual_backward(loss)
        if self.trainer.datamodule.dataset.cursor.row == 0:
            optimizer = self.optimizers()
            optimizer.step()
            optimizer.zero_grad()
        return loss


def test_manual_optimization_takes_micro_batches_bounded_by_tokens(
    packed: Reader, whole_run: tuple[Recorded, Path], tmp_path: Path
) -> None:
    """16 tokens: 2 rows of 8 at once, 1 of 16. Lightning's fixed number of batches per step cannot do that."""
    vocab_size = packed.manifest.tokenizer.vocab_size
    trainer = trainer_of(max_steps=STEPS, callbacks=[SaveAfterEveryBatch(tmp_path)])
    model = Manual(vocab_size)
    trainer.fit(model, datamodule=CurriculumDataModule(packed, micro_tokens=16))
    assert [seen.shape[0] for seen in model.seen] == [2] * 6 + [1] * 12 + [2] * 4
    assert_same_weights(model, whole_run[0])
    resumed = Manual(vocab_size)
    trainer = trainer_of(max_steps=STEPS)
    data = CurriculumDataModule(packed, micro_tokens=32)
    trainer.fit(resumed, datamodule=data, ckpt_path=tmp_path / "11.ckpt")  # batch 11: the second of four of step 4
    assert [seen.shape for seen in resumed.seen] == [(2, 16)] * 4 + [(4, 8)] * 2
    assert_same_weights(resumed, model)


def test_a_second_pass_is_refused_when_it_begins(packed: Reader) -> None:
    """With manual optimization and several optimizers max_steps cannot be compared with the plan's steps in advance."""
    model = Manual(packed.manifest.tokenizer.vocab_size)
    with pytest.raises(ConfigError, match="begins a second epoch"):
        trainer_of(max_steps=2 * STEPS).fit(model, datamodule=CurriculumDataModule(packed))
    assert_rows(model.seen, packed, 0, STEPS, micro_batches=1)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "max_epochs": ({"max_epochs": 3}, r"max_epochs=3.*Give Trainer\(max_steps=8\)"),
    "max_steps": ({"max_steps": 9}, r"max_steps=9.*has 8 steps"),
    "limit_train_batches": ({"max_steps": 8, "limit_train_batches": 4}, r"limit_train_batches=4"),
    "limit_train_batches in part": ({"max_steps": 8, "limit_train_batches": 0.5}, r"limit_train_batches=0.5"),
    "overfit_batches": ({"max_steps": 8, "overfit_batches": 1}, r"overfit_batches=1"),
    "scheduler": (
        {"max_steps": 8, "callbacks": [GradientAccumulationScheduler({0: 2})]},
        r"GradientAccumulationScheduler.*accumulate_grad_batches",
    ),
}


@pytest.mark.filterwarnings("ignore:You requested to overfit")
@pytest.mark.parametrize("name", REFUSED)
def test_settings_that_would_train_on_other_rows_are_refused(packed: Reader, name: str) -> None:
    """Each of them runs without an error in Lightning."""
    options, message = REFUSED[name]
    with pytest.raises(ConfigError, match=message):
        fit(CurriculumDataModule(packed), **options)


def test_micro_batches_other_than_the_trainers_are_refused(packed: Reader) -> None:
    for sizes in ({"micro_batches": 4}, {"micro_tokens": 64}):
        with pytest.raises(ConfigError, match=r"Trainer\(accumulate_grad_batches=2\)"):
            fit(CurriculumDataModule(packed, **sizes), max_steps=STEPS, accumulate_grad_batches=2)
    fit(CurriculumDataModule(packed, micro_batches=2), max_steps=1, accumulate_grad_batches=2)
    with pytest.raises(CursorError, match="does not divide the 4 rows"):
        fit(CurriculumDataModule(packed), max_steps=STEPS, accumulate_grad_batches=3)


def test_processes_that_would_train_alone_are_refused(packed: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU `Trainer()` takes one device: under torchrun each process then trains on all rows, without a word."""
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    data = CurriculumDataModule(packed)
    data.trainer = trainer_of(max_steps=STEPS)
    data.trainer.strategy.connect(Recorded(257))
    with pytest.raises(ConfigError, match=r"started 4 processes.*devices=2, num_nodes=2"):
        data.train_dataloader()


def test_another_dataset_is_refused_with_both_ids(
    packed: Reader, small_dataset: Path, whole_run: tuple[Recorded, Path]
) -> None:
    other = curriculum.open(small_dataset)
    with pytest.raises(CursorError) as refused:
        fit(CurriculumDataModule(other), whole_run[1] / "3.ckpt", max_steps=STEPS)
    assert packed.id in str(refused.value)
    assert other.id in str(refused.value)


class _Plain:
    """Batches without a state."""

    def __init__(self, reader: Reader) -> None:
        self.batches = list(CurriculumDataset(reader))

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        return iter(self.batches)


def test_a_checkpoint_without_a_position_is_refused(packed: Reader, tmp_path: Path) -> None:
    """Of a run without the data module: training would go on at step 4 with the rows of step 0."""
    trainer = trainer_of(max_steps=4, callbacks=[SaveAfterEveryBatch(tmp_path)])
    trainer.fit(Recorded(257), train_dataloaders=_Plain(packed))
    with pytest.raises(CursorError, match=r"after optimizer step 4, and the data at step 0"):
        fit(CurriculumDataModule(packed), tmp_path / "3.ckpt", max_steps=STEPS)


def test_a_dry_run_is_allowed(packed: Reader) -> None:
    """fast_dev_run sets limit_train_batches and max_steps, and saves nothing."""
    assert len(fit(CurriculumDataModule(packed), fast_dev_run=2).seen) == 2


def launch(python: Path, dataset: str, processes: int, saved: Path, log: Path, *arguments: str) -> list[dict[str, Any]]:
    """Run the example under torchrun; its JSON lines."""
    command = [str(python), "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command += ["-m", "curriculum.examples.train_lightning", dataset, "--checkpoint", str(saved), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CURRICULUM_DOCTOR_LOG": str(log)}
    environment["CUDA_VISIBLE_DEVICES"] = ""  # one GPU would not do for two processes
    environment |= {"PYTHONPATH": str(Path(curriculum.__file__).parent.parent), "PYTHON_EXEC": str(python)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]


def test_the_example_on_two_processes_then_on_one(
    packed: Reader, whole_run: tuple[Recorded, Path], tmp_path: Path
) -> None:
    """The rows that reached the model are the plan's, the losses those of an undisturbed run."""
    saved = tmp_path / "saved"
    with ready_python(sys.executable, "train_lightning", {**os.environ, "CUDA_VISIBLE_DEVICES": ""}) as python:
        lines = launch(python, packed.where, 2, saved, tmp_path / "log-1", "--stop-before", "3", "--micro-batches", "2")
        lines += launch(python, packed.where, 1, saved, tmp_path / "log-2", "--micro-batches", "4")
    assert [line["step"] for line in lines] == list(range(STEPS))
    assert [line["seq_len"] for line in lines] == [8] * 3 + [16] * 3 + [8] * 2
    assert [line["loss"] for line in lines] == pytest.approx(whole_run[0].losses, rel=1e-4)
    report = check_runs(
        packed,
        [load_run(tmp_path / f"log-{number}") for number in (1, 2)],
        resumed_at=[3],
        stop_steps=[3, STEPS],
    )
    assert report.ok, report.findings
