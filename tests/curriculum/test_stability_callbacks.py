"""The callbacks of Trainer and Lightning write what a loop of a few lines measures, also across resumes."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

pytest.importorskip("transformers", reason="the extra 'trainers' is not installed")
pytest.importorskip("lightning")

from lightning.pytorch import Trainer as LightningTrainer
from transformers import Trainer

import curriculum
from curriculum.adapters.adam_moments import measure
from curriculum.adapters.lightning import CurriculumDataModule
from curriculum.adapters.lightning import StabilityCallback as LightningCallback
from curriculum.adapters.pytorch import CurriculumDataset
from curriculum.adapters.transformers import StabilityCallback, trainer_inputs
from curriculum.errors import ConfigError
from curriculum.examples.train_lightning import Model
from curriculum.reader import Reader
from curriculum.stability_log import read_log
from packed_dataset import write_packed_dataset
from tiny_trainer import StopAt, arguments, llama

pytestmark = [
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),  # torch 2.13 of Lightning 2.6
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:GPU available but not used"),
]
OPTIONS: dict[str, Any] = {
    "optim": "adamw_torch",
    "learning_rate": 0.01,
    "lr_scheduler_type": "linear",
    "max_grad_norm": 0.5,
    "logging_nan_inf_filter": False,
    "eval_strategy": "steps",
    "eval_steps": 3,
    "per_device_eval_batch_size": 1,
}


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """Eight steps of 4 packed rows of 8, 16 and again 8 inputs, with unequal numbers of labels."""
    root = tmp_path_factory.mktemp("packed")
    write_packed_dataset(root)
    return curriculum.open(root)


def decay(step: int) -> float:
    """Of the learning rate, in each of the eight steps."""
    return 1 - step / 8


def expected(
    reader: Reader, model: torch.nn.Module, optimizer: torch.optim.Optimizer, logits_of: Callable[..., Any], clip: float
) -> list[dict[str, Any]]:
    """The loop of a few lines."""
    lines, scheduler = [], LambdaLR(optimizer, decay)
    for step, batch in enumerate(CurriculumDataset(reader)):
        loss = F.cross_entropy(logits_of(model, batch["input_ids"]).flatten(0, 1), batch["labels"].flatten())
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
        lines.append(
            {
                "step": step,
                "seq_len": batch["input_ids"].shape[1],
                "tokens": reader.plan.tokens_at(step + 1),
                "learning_rate": optimizer.param_groups[0]["lr"],
                **measure(optimizer, loss=loss, grad_norm=norm),
            }
        )
        scheduler.step()
    return lines


def assert_same(log: Path, lines: list[dict[str, Any]]) -> None:
    found = read_log(log)
    assert [record["step"] for record in found] == list(range(len(lines)))
    for record, line in zip(found, lines, strict=True):
        assert {key: record[key] for key in line} == pytest.approx(line, rel=2e-3)
    losses = [record["loss"] for record in found]
    ratios = [losses[step] / min(losses[:step]) for step in range(1, len(losses))]
    assert [record["loss_ratio"] for record in found][1:] == pytest.approx(ratios), "also across a resume"


class LogsItsOwn(Trainer):  # type: ignore[misc, unused-ignore]
    """As subclasses do to see parts of a loss: under the name that Trainer itself uses, before the step."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        self.log({"loss": 99.0})
        return super().compute_loss(*args, **kwargs)


def trained(reader: Reader, folder: Path, *, resume: bool = False, **options: Any) -> None:
    stop = options.pop("stop_after", None)
    args = arguments(reader, folder, **{**OPTIONS, **options})
    held_out = list(CurriculumDataset(reader, shift_labels=True))[:2]
    trainer = LogsItsOwn(llama(), args, eval_dataset=held_out, **trainer_inputs(reader, args))
    trainer.add_callback(StopAt(stop))
    trainer.add_callback(StabilityCallback(folder / "log.jsonl"))
    trainer.train(resume_from_checkpoint=resume)


def test_trainer_writes_what_a_plain_loop_measures(reader: Reader, tmp_path: Path) -> None:
    """Also with micro-batches, and after a stop and a resume in the middle."""
    model = llama()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0)
    lines = expected(reader, model, optimizer, lambda model, ids: model(input_ids=ids).logits, 0.5)
    trained(reader, tmp_path / "whole")
    assert_same(tmp_path / "whole" / "log.jsonl", lines)
    trained(reader, tmp_path / "split", gradient_accumulation_steps=2, stop_after=5)
    assert len(read_log(tmp_path / "split" / "log.jsonl")) == 5
    trained(reader, tmp_path / "split", gradient_accumulation_steps=4, resume=True)
    assert_same(tmp_path / "split" / "log.jsonl", lines)
    for name in ("whole", "split"):
        found = read_log(tmp_path / name / "log.jsonl")
        assert [record["step"] for record in found if "validation_loss" in record] == [2, 5, 7]


def test_a_divergence_of_trainer_is_in_the_log(reader: Reader, tmp_path: Path) -> None:
    """By default Trainer reports a loss of 0 instead."""
    trained(reader, tmp_path, learning_rate=math.inf, stop_after=4)
    assert [math.isfinite(record["loss"]) for record in read_log(tmp_path / "log.jsonl")] == [True] + [False] * 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"logging_steps": 10}, "Set logging_steps=1"),
        ({"logging_strategy": "epoch"}, "logging_strategy='epoch'"),
        ({"logging_nan_inf_filter": True}, "no divergence would be seen"),
    ],
)
def test_settings_of_trainer_that_report_other_numbers_are_refused(
    reader: Reader, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        trained(reader, tmp_path, **options)
    assert not (tmp_path / "log.jsonl").exists()


@pytest.mark.parametrize(("name", "validated"), [("eval_b_loss", 2.0), ("eval_loss", None)])
def test_one_of_several_evaluation_sets_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, validated: float | None
) -> None:
    """Trainer reports each by itself. A name that none has is said once, not a log without validations."""
    callback = StabilityCallback(tmp_path / "log", validation_loss=name)
    args: Any = SimpleNamespace(logging_strategy="steps", logging_steps=1, logging_nan_inf_filter=False)
    control: Any = None
    state: Any = SimpleNamespace(is_world_process_zero=True, global_step=0)
    callback.on_train_begin(args, state, control)
    for state.global_step in (1, 2):
        callback.on_step_end(args, state, control)
        callback.on_log(args, state, control, {"loss": 3.0})
        callback.on_evaluate(args, state, control, {"eval_a_loss": 1.0})
        callback.on_evaluate(args, state, control, {"eval_b_loss": 2.0})
    callback.on_train_end(args, state, control)
    assert [record.get("validation_loss") for record in read_log(tmp_path / "log")] == [validated] * 2
    assert caplog.text.count("found eval_a_loss, eval_b_loss") == (validated is None)


def test_the_log_of_a_training_after_one_that_failed_is_its_own(tmp_path: Path) -> None:
    """A cell of a notebook that is run again: what is left of the first training takes nothing from the second."""
    args: Any = SimpleNamespace(logging_strategy="steps", logging_steps=1, logging_nan_inf_filter=False)
    state: Any = SimpleNamespace(is_world_process_zero=True, global_step=0)
    callbacks = [StabilityCallback(tmp_path / "log") for _ in range(2)]
    for callback in callbacks:
        callback.on_train_begin(args, state, None)  # type: ignore[arg-type, unused-ignore]
    script = "import sys; from curriculum.stability_log import StabilityLog; StabilityLog(sys.argv[1])"
    other = subprocess.run([sys.executable, "-c", script, str(tmp_path / "log")], capture_output=True, check=False)
    assert b"another process has it open" in other.stderr
    callbacks[1].on_train_end(args, state, None)  # type: ignore[arg-type, unused-ignore]


class Decayed(Model):  # type: ignore[misc, unused-ignore]
    """The example's module, which logs loss and gradient norm of a step by itself, at a falling learning rate."""

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = super().configure_optimizers()
        scheduler = LambdaLR(optimizer, decay)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class MeanOfMicroBatch(Decayed):
    """Returns a mean, as most modules do; validates by name."""

    def training_step(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return F.cross_entropy(self.layers(batch["input_ids"]).flatten(0, 1), batch["labels"].flatten())

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """The example's divides by labels."""


class Validated(MeanOfMicroBatch):
    """Its validation loss is the number of steps trained, the check before training included."""

    def validation_step(self, batch: dict[str, torch.Tensor]) -> None:
        assert batch["labels"].shape == batch["input_ids"].shape
        self.log("val_loss", float(self.global_step), batch_size=len(batch["labels"]))


class WithHeldOut(CurriculumDataModule):  # type: ignore[misc, unused-ignore]
    """As docs/trainers.md has it: a list alone would be several validation sets."""

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(list(CurriculumDataset(self.reader).validation(4)), batch_size=None)


def fitted(reader: Reader, folder: Path, kind: type[Any], *, ckpt: Path | None = None, **options: Any) -> Any:
    names = options.pop("names", {"loss": "loss", "grad_norm": "grad_norm"} if kind is Decayed else {})
    data = (WithHeldOut if kind is Validated else CurriculumDataModule)(reader)
    torch.manual_seed(0)
    trainer = LightningTrainer(
        **{"max_steps": 8, "gradient_clip_val": 0.5, **options},
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        devices=1,
        callbacks=[LightningCallback(folder / "log.jsonl", **names)],
    )
    trainer.fit(kind(reader.manifest.tokenizer.vocab_size), datamodule=data, ckpt_path=ckpt)
    return trainer


@pytest.mark.filterwarnings("ignore:The `srun` command is available")
def test_lightning_writes_what_a_plain_loop_measures(reader: Reader, tmp_path: Path) -> None:
    """A module that returns means, and one that divides sums and logs, with micro-batches and a resume."""
    torch.manual_seed(0)
    model = Model(reader.manifest.tokenizer.vocab_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    lines = expected(reader, model, optimizer, lambda model, ids: model.layers(ids), 0.5)
    fitted(reader, tmp_path / "means", MeanOfMicroBatch)
    assert_same(tmp_path / "means" / "log.jsonl", lines)
    fitted(reader, tmp_path / "named", Decayed, max_steps=5, accumulate_grad_batches=2).save_checkpoint(
        tmp_path / "at 5"
    )
    fitted(reader, tmp_path / "named", Decayed, ckpt=tmp_path / "at 5", accumulate_grad_batches=4)
    assert_same(tmp_path / "named" / "log.jsonl", lines)


@pytest.mark.parametrize("micro_batches", [2, 4])
def test_lightning_logs_the_mean_over_micro_batches(reader: Reader, tmp_path: Path, micro_batches: int) -> None:
    """Lightning hands out what `training_step` returned divided by their number: the loss was that much too low."""
    fitted(reader, tmp_path, MeanOfMicroBatch, max_steps=1, accumulate_grad_batches=micro_batches)
    torch.manual_seed(0)
    model = MeanOfMicroBatch(reader.manifest.tokenizer.vocab_size)
    batch = next(iter(CurriculumDataset(reader)))
    parts = zip(batch["input_ids"].chunk(micro_batches), batch["labels"].chunk(micro_batches), strict=True)
    losses = [model.training_step({"input_ids": ids, "labels": labels}).item() for ids, labels in parts]
    (record,) = read_log(tmp_path / "log.jsonl")
    assert record["loss"] == pytest.approx(sum(losses) / micro_batches, rel=1e-5)


def test_a_validation_of_lightning_is_in_the_line_of_its_step(
    reader: Reader, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After steps 1 and 3; the check before the first step is none. A name that is not logged is spoken of once."""
    for name, said in (("val_loss", 0), ("loss", 1)):
        options = {"max_steps": 4, "val_check_interval": 2, "check_val_every_n_epoch": None}
        fitted(reader, tmp_path / name, Validated, names={"validation_loss": name}, **options)
        found = [record.get("validation_loss") for record in read_log(tmp_path / name / "log.jsonl")]
        assert found == ([None, 2.0, None, 4.0] if name == "val_loss" else [None] * 4)
        assert caplog.text.count("has no validation; it logs val_loss.") == said


def test_a_name_that_the_module_does_not_log_is_a_sentence(reader: Reader, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"The module logs no 'train_loss' \(it logs nothing\)"):
        LightningTrainer(
            max_steps=8,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            accelerator="cpu",
            devices=1,
            callbacks=[LightningCallback(tmp_path / "log.jsonl", loss="train_loss")],
        ).fit(MeanOfMicroBatch(reader.manifest.tokenizer.vocab_size), datamodule=CurriculumDataModule(reader))
