"""The run: steps of the dataset in order, each of them trained, logged, now and then validated and saved.

In:  `Settings`.   Out: an `Outcome`; in the run's folder checkpoint.pt, stability.jsonl and, at the end of the plan,
model/, for `GPT2LMHeadModel.from_pretrained`.
Guarantees: see the package. A loss that is not finite ends the run: what follows it is no training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from curriculum.adapters.adam_moments import measure
from curriculum.adapters.pytorch import CurriculumDataset, lr_lambda
from curriculum.adapters.shapes import Shapes
from curriculum.adapters.widened import Example
from curriculum.errors import PlanError
from curriculum.stability_log import Record, StabilityLog
from curriculum.training import checkpoint
from curriculum.training.gpt2 import adamw, gpt2, save_model
from curriculum.training.processes import Processes, processes
from curriculum.training.settings import Settings
from curriculum.training.validation import validation_loss

Watch = Callable[[Record], None]
"""Called with each line of the log, on the first process."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a run ended."""

    steps: int
    """steps trained, those before a resume included"""
    tokens: int
    """targets trained"""
    loss: float | None
    """of the last step; None if this call had nothing to train"""
    validation_loss: float | None
    """the last one of this call; None without held-out rows"""
    diverged: bool
    """whether the last loss was not finite"""
    parameters: int
    log: str

    def to_json(self) -> dict[str, Any]:
        """For `--json`; numbers that are not finite as None."""
        values = asdict(self)
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in values.items()
        }


def train(settings: Settings, watch: Watch = lambda record: None) -> Outcome:
    """Train, or continue from the checkpoint.

    Raises:
        ConfigError, PlanError: the settings do not fit the dataset or the machine.
        DataError: the dataset, the checkpoint or the log is damaged.
        CursorError: the checkpoint belongs to another dataset, or the processes cannot share its steps.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    with processes(settings.device) as among:
        return _Run(settings, among).train(watch)


class _Run:
    """What a run consists of, on one process."""

    def __init__(self, settings: Settings, among: Processes) -> None:
        self.settings, self.among = settings, among
        self.dataset = CurriculumDataset(
            settings.dataset,
            rank=among.rank,
            world_size=among.world_size,
            micro_tokens=settings.micro_tokens,
            device=among.device,
        )
        reader = self.dataset.reader
        self.plan = reader.plan
        self.stop = self.plan.total_steps if settings.steps is None else settings.steps
        if self.stop > self.plan.total_steps:
            raise PlanError(f"steps is {self.stop:,}; the dataset has {self.plan.total_steps:,}, so give at most that.")
        self.lr_factor = lr_lambda(
            self.plan,
            schedule=settings.lr_schedule,
            warmup_steps=self.plan.total_steps // 100 if settings.lr_warmup_steps is None else settings.lr_warmup_steps,
            final=settings.lr_final,
            decay_tokens=settings.decay_tokens,
        )
        self.model = gpt2(settings, vocab_size=reader.manifest.tokenizer.vocab_size, max_seq_len=self.plan.max_seq_len)
        self.model.to(among.device)  # type: ignore[arg-type, unused-ignore]
        self.optimizer = adamw(self.model, settings)
        self.shapes = Shapes(self.dataset.share)
        if settings.compile:
            self.model.compile(dynamic=self.shapes.compile_options["dynamic"])
        self.trained = among.wrap(self.model)
        saved = checkpoint.load(settings.checkpoint_path, settings)
        if saved is not None:
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.dataset.load_state_dict(saved["data"])

    def train(self, watch: Watch) -> Outcome:
        """All steps that remain."""
        first = step = self.dataset.cursor.step
        log = StabilityLog(self.settings.log_path, start_step=first) if self.among.is_first else None
        loss, validated = math.nan, None
        for micro_batches in self._steps() if first < self.stop else ():
            values = self._step(step, micro_batches)
            loss, step = values["loss"], step + 1
            at_end = step == self.stop or not math.isfinite(loss)
            if self.dataset.reader.validation and (at_end or step % self.settings.validate_every == 0):
                values["validation_loss"] = validated = self._validate()
            if log:
                watch(log.write(step - 1, **values))
            if math.isfinite(loss) and (at_end or step % self.settings.save_every == 0):
                self._save()
            if at_end:
                break
        if log:
            log.close()
        if self.among.is_first and step == self.plan.total_steps:
            save_model(self.model, Path(self.settings.out) / "model")
        return Outcome(
            steps=step,
            tokens=self.plan.tokens_at(step),
            loss=loss if step > first else None,
            validation_loss=validated,
            diverged=step > first and not math.isfinite(loss),
            parameters=sum(parameter.numel() for parameter in self.model.parameters()),
            log=str(self.settings.log_path),
        )

    def _steps(self) -> Iterator[list[Example]]:
        """The micro-batches of each step that remains."""
        micro_batches = []
        for example in self.dataset:
            micro_batches.append(example)
            if self.dataset.cursor.row == 0:
                yield micro_batches
                micro_batches = []

    def _step(self, step: int, micro_batches: list[Example]) -> dict[str, float]:
        """One optimizer step; the values of its line in the log."""
        lr = self.settings.lr * self.lr_factor(step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        num_targets = self.among.sum(sum((example["labels"] >= 0).sum() for example in micro_batches))
        loss = torch.zeros((), device=self.among.device)
        for example in micro_batches:
            is_last = example is micro_batches[-1]
            with nullcontext() if is_last else self.among.without_exchange(self.trained):
                share = self._loss_sum(example) / num_targets
                # The mean over processes is taken; the sum is wanted.
                torch.autograd.backward(share * self.among.world_size)
            loss += share.detach()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {
            "seq_len": micro_batches[0]["labels"].shape[1],
            "tokens": self.plan.tokens_at(step + 1),
            "learning_rate": lr,
            **measure(self.optimizer, loss=self.among.sum(loss), grad_norm=norm),
        }

    def _loss_sum(self, example: Example) -> torch.Tensor:
        """Labels are shifted already: no logits[:, :-1], no labels[:, 1:]."""
        self.shapes.mark(example)
        with torch.autocast(self.among.device.type, torch.bfloat16, enabled=self.settings.bf16):
            logits = self.trained(example["input_ids"]).logits
        return F.cross_entropy(logits.flatten(0, 1).float(), example["labels"].flatten(), reduction="sum")

    def _validate(self) -> float:
        return validation_loss(self._loss_sum, self.dataset, self.settings.validation_rows, self.among)

    def _save(self) -> None:
        if self.among.is_first:
            checkpoint.save(
                self.settings.checkpoint_path,
                self.settings,
                model=self.model.state_dict(),
                optimizer=self.optimizer.state_dict(),
                data=self.dataset.state_dict(),
            )
        self.among.wait()
