"""Hugging Face `Trainer`: a log of how stable the run is, a line for each optimizer step.

In:  where the log goes.   Out: a `TrainerCallback`; lines of `curriculum.stability_log`.
Guarantees: loss, gradient norm (before clipping) and learning rate are Trainer's own, of that step alone; settings
under which Trainer would report other numbers are refused; a run that continues from a checkpoint continues its log.
Process 0 writes; every process measures, as shards of Adam's moments are exchanged.

    args = TrainingArguments("out", logging_steps=1, logging_nan_inf_filter=False, **trainer_arguments(reader))
    Trainer(model, args, **trainer_inputs(reader, args))
    trainer.add_callback(StabilityCallback("out/stability.jsonl"))

Lengths and tokens come from the plan of the dataset that is trained on; of a run that `SequenceLengthCallback` cuts,
the length from the plan that is given here too. Trainer's steps count from 1, those of the log from 0.
"""

from __future__ import annotations

import logging
from os import PathLike
from typing import TYPE_CHECKING, Any

from transformers import (  # type: ignore[import-not-found, unused-ignore]
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from curriculum.adapters.adam_moments import measure
from curriculum.adapters.micro_batches import MicroBatches
from curriculum.errors import ConfigError
from curriculum.functional import seq_len_at
from curriculum.plan import Plan
from curriculum.stability_log import StabilityLog

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_log = logging.getLogger(__name__)


class StabilityCallback(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Writes the log; see the module."""

    def __init__(
        self,
        log: str | PathLike[str],
        *,
        plan: Plan | None = None,
        validation_loss: str = "eval_loss",
        group: ProcessGroup | None = None,
    ) -> None:
        """Nothing is opened before training begins.

        Args:
            log: the file; a run from step 0 and those that continue it have one.
            plan: of `SequenceLengthCallback`, if that cuts the rows.
            validation_loss: what Trainer calls it: of several evaluation sets one, such as "eval_books_loss".
            group: of `curriculum.adapters.adam_moments.measure`; needed with FSDP version 1 alone.
        """
        self._path, self._lengths, self._group = log, plan, group
        self._dataset_plan: Plan | None = None
        self._log: StabilityLog | None = None
        self._is_due = self._is_written = False
        self._measured: dict[str, float] = {}
        self._validation = validation_loss
        self._evaluated: dict[str, None] = {}
        """what evaluations have reported, as long as none had the loss"""
        self._is_told = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the log.

        Raises:
            ConfigError: Trainer would report means over several steps, or hide that the loss is not finite.
            DataError: the file that is there is no such log.
        """
        _require_each_step(args)
        data = getattr(kwargs.get("train_dataloader"), "dataset", None)
        self._dataset_plan = data.reader.plan if isinstance(data, MicroBatches) else None
        self._is_due, self._is_written, self._measured = False, False, {}
        if state.is_world_process_zero:
            self._log = StabilityLog(self._path, start_step=state.global_step)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Adam's moments after the step, on every process."""
        self._measured = measure(kwargs["optimizer"], group=self._group)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Trainer logs it next. Before that, a loss is what the model or a subclass logs by itself."""
        self._is_due = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write the step's line; evaluations and the end are logged without a loss."""
        if self._log is None or logs is None or "loss" not in logs or not self._is_due:
            return
        self._is_due = False
        self._tell()
        step = state.global_step - 1
        reported = {key: logs[key] for key in ("loss", "grad_norm", "learning_rate") if key in logs}
        self._log.write(step, **self._planned(step), **reported, **self._measured)
        self._is_written = True

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add the validation to the line of the step that it followed."""
        if self._log is None or not self._is_written or not metrics:
            return
        self._evaluated.update(dict.fromkeys(metrics))
        if self._validation in metrics:
            self._log.add(validation_loss=metrics[self._validation])

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the log."""
        if self._log is not None:
            self._tell()
            self._log.close()
            self._log = None

    def _tell(self) -> None:
        """Once, after all evaluation sets of a step: that none had the loss."""
        if self._evaluated and self._validation not in self._evaluated and not self._is_told:
            self._is_told = True
            found = ", ".join(key for key in self._evaluated if key.endswith("loss")) or ", ".join(self._evaluated)
            _log.warning(
                "No evaluation reports %s, so that %s has no validation; found %s. Give one of them: "
                "StabilityCallback(..., validation_loss=...).",
                *(self._validation, self._path, found),
            )
        self._evaluated = {}

    def _planned(self, step: int) -> dict[str, int]:
        if self._dataset_plan is not None:
            phase, _ = self._dataset_plan.locate(step)
            tokens = self._dataset_plan.tokens_at(step + 1)
            return {"seq_len": self._dataset_plan.phases[phase].seq_len, "tokens": tokens}
        return {} if self._lengths is None else {"seq_len": seq_len_at(self._lengths, step)}


def _require_each_step(args: TrainingArguments) -> None:
    strategy = getattr(args.logging_strategy, "value", args.logging_strategy)
    if strategy != "steps" or args.logging_steps != 1:
        raise ConfigError(
            f"Trainer logs with logging_strategy={strategy!r} and logging_steps={args.logging_steps:g}: means over "
            f"several steps, in which a spike drowns. Set logging_steps=1."
        )
    if args.logging_nan_inf_filter:
        raise ConfigError(
            "logging_nan_inf_filter is on: Trainer reports a loss of 0 where it is NaN or infinite, and no divergence "
            "would be seen. Set it to False."
        )
