"""The run: steps of the dataset in order, each of them trained, logged, now and then validated and saved.

In:  `Settings`.   Out: an `Outcome`; in the run's folder checkpoint.pt, stability.jsonl and, at the end of the plan,
model/, for `GPT2LMHeadModel.from_pretrained`.
Guarantees: see the package. A loss, gradient or weight that is not finite ends the run: what follows is no training,
and the checkpoint before it stays; the validation loss of that step is NaN, which tells `curriculum tune` and others
who read the log alone, even where its loss is finite. The largest micro-batch is tried before the first step, so that
memory that does not suffice for the longest rows is known at once.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from traceback import clear_frames
from typing import Any

import torch
from torch.nn import functional as F

from curriculum.adapters.adam_moments import measure
from curriculum.adapters.pytorch import CurriculumDataset, LrLambda, lr_lambda
from curriculum.adapters.shapes import GRAPHS, Shapes, warm_up
from curriculum.adapters.widened import Example
from curriculum.errors import ConfigError, CursorError, PlanError
from curriculum.plan import Plan
from curriculum.stability_log import Record, StabilityLog
from curriculum.training import checkpoint
from curriculum.training.failures import explained
from curriculum.training.gpt2 import adamw, gpt2, save_model
from curriculum.training.processes import Processes, processes
from curriculum.training.run_folder import MODEL, run_folder
from curriculum.training.settings import Settings
from curriculum.training.validation import validation_loss

_log = logging.getLogger(__name__)
Watch = Callable[[Record], None]
"""Called with each line of the log, on the first process, once the step is saved if it is to be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a run ended."""

    steps: int
    """steps trained, those before a resume included"""
    tokens: int
    """targets trained; of packed rows, slots: inputs with and without a target"""
    loss: float | None
    """of the last step; None if this call had nothing to train"""
    validation_loss: float | None
    """the last one of this call; NaN if it diverged; None without held-out rows"""
    diverged: bool
    """whether a loss, gradient or weight was not finite, which ended the run"""
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
        CurriculumError: the memory does not suffice, or the folder or the log of the run cannot be written.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    try:
        with processes(settings.device) as among, ExitStack() as until_end:
            log = None
            with among.together():
                if among.is_first:
                    until_end.enter_context(run_folder(Path(settings.out)))
                run = _Run(settings, among)
                if among.is_first:
                    log = StabilityLog(run.settings.log_path, start_step=run.dataset.cursor.step)
                    until_end.callback(log.close)
                    _say_what_lacks(log, run.dataset.cursor.step)
            until_end.enter_context(run.among_others())
            return run.train(log, watch)
    except RuntimeError as error:
        raise explained(error) from error


class _Run:
    """What a run consists of, on one process: all that is read and checked before the processes meet."""

    def __init__(self, settings: Settings, among: Processes) -> None:
        self.among = among
        self.dataset = CurriculumDataset(
            settings.dataset,
            rank=among.rank,
            world_size=among.world_size,
            micro_tokens=settings.micro_tokens,
            device=among.device,
        )
        reader = self.dataset.reader
        self.plan = reader.plan
        saved = checkpoint.load(settings.checkpoint_path)
        if saved:
            saved.restore_place(self.dataset, settings.checkpoint_path)
        self.stop = self.plan.total_steps if settings.steps is None else settings.steps
        if self.stop > self.plan.total_steps:
            raise PlanError(f"steps is {self.stop:,}; the dataset has {self.plan.total_steps:,}, so give at most that.")
        self.settings = settings.resolved(self.plan, saved.settings if saved else {})
        self.lr_factor = _learning_rate(self.settings, self.plan)
        self.model = gpt2(self.settings, reader.manifest.tokenizer, max_seq_len=self.plan.max_seq_len)
        self.model.to(among.device)  # type: ignore[arg-type, unused-ignore]
        self.optimizer = adamw(self.model, self.settings)
        # Validation takes a graph for its batches, and one for the last of them, which may have fewer rows.
        self.shapes = Shapes(self.dataset.share, limit=GRAPHS - 2 if reader.validation else GRAPHS)
        if settings.compile:
            self.model.compile(dynamic=self.shapes.compile_options["dynamic"])
        self.trained: torch.nn.Module = self.model
        if saved:
            saved.require(self.settings, settings.checkpoint_path)
            saved.restore_weights(self.model, self.optimizer, settings.checkpoint_path)

    @contextmanager
    def among_others(self) -> Iterator[None]:
        """Begin with the weights of the first process, at the place of all; free what holds their group at the end.

        Freed after the group, it can wait for a thread that waits for Python; the frames of an error hold it, too.

        Raises:
            CursorError: there is no such place.
        """
        places = self.among.gather(self.dataset.cursor)
        for rank, place in enumerate(places):
            if place != places[0]:
                raise CursorError(
                    f"The processes do not begin at one place: process 0 at step {places[0].step} of dataset "
                    f"{places[0].dataset_id}, process {rank} at step {place.step} of {place.dataset_id}. All machines "
                    f"have to see the same DATASET and the same --out: give folders of a disk that they share."
                )
        self.trained = self.among.wrap(self.model)
        try:
            yield
        except RuntimeError as error:
            clear_frames(error.__traceback__)
            raise
        finally:
            self.trained = self.model

    def train(self, log: StabilityLog | None, watch: Watch) -> Outcome:
        """All steps that remain."""
        first = step = self.dataset.cursor.step
        values: dict[str, float] = {}
        is_finite = True
        if first < self.stop:
            warm_up(self._backward_alone, self.model, self.dataset)
        for micro_batches in self._steps() if first < self.stop else ():
            values = self._step(step, micro_batches)
            step += 1
            at_end = step == self.stop
            to_save = at_end or step % self.settings.save_every == 0
            # An update may have broken the weights after the last loss.
            is_finite = all(map(math.isfinite, values.values())) and (not to_save or self._has_finite_weights())
            if not is_finite:
                values["validation_loss"] = math.nan
            elif self.dataset.reader.validation and (at_end or step % self.settings.validate_every == 0):
                values["validation_loss"] = self._validate()
            record = log.write(step - 1, **values) if log else None
            if to_save and is_finite:
                self._save()
            if record:
                watch(record)
            if at_end or not is_finite:
                break
        with self.among.together():
            if self.among.is_first and is_finite and step == self.plan.total_steps:
                save_model(self.model, Path(self.settings.out) / MODEL)
        return Outcome(
            steps=step,
            tokens=self.plan.tokens_at(step),
            loss=values.get("loss"),
            validation_loss=values.get("validation_loss"),
            diverged=not is_finite,
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
        assert self.settings.validation_rows is not None
        return validation_loss(self._loss_sum, self.dataset, self.settings.validation_rows, self.among)

    def _backward_alone(self, example: Example) -> None:
        torch.autograd.backward(self._loss_sum(example))

    def _has_finite_weights(self) -> bool:
        return all(bool(parameter.isfinite().all()) for parameter in self.model.parameters())

    def _save(self) -> None:
        with self.among.together():
            if self.among.is_first:
                now = checkpoint.of(self.settings, self.model, self.optimizer, self.dataset)
                now.save(self.settings.checkpoint_path)


def _say_what_lacks(log: StabilityLog, step: int) -> None:
    """A power cut can take lines from it, not being synced as the checkpoint is; so can who moves it."""
    if log.next_step < step:
        _log.warning(
            "%s: has no lines of steps %d to %d, which the checkpoint has trained; loss ratios count without them.",
            *(log.path, log.next_step, step - 1),
        )


def _learning_rate(settings: Settings, plan: Plan) -> LrLambda:
    assert settings.lr_warmup_steps is not None
    try:
        return lr_lambda(
            plan,
            schedule=settings.lr_schedule,
            warmup_steps=settings.lr_warmup_steps,
            final=settings.lr_final,
            decay_tokens=settings.decay_tokens,
        )
    except ConfigError as error:
        raise ConfigError(f"learning rate: {error}") from None
