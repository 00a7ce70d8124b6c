"""Hugging Face `Trainer` on a compiled dataset: exact batches, exact resume, logs that count tokens.

In:  a reader of a dataset, and the `TrainingArguments` of a run.
Out: the arguments Trainer needs, its dataset, its collator, and a callback that refuses what would go silently wrong.
Guarantees: step s trains on the rows of the dataset's step s, on any number of processes and micro-batches; a run
continues from a checkpoint with the step after the last, without reading what came before; a checkpoint of another
dataset is refused.

    reader = curriculum.open("curriculum-data")
    args = TrainingArguments("out", gradient_accumulation_steps=2, **trainer_arguments(reader))
    Trainer(model, args, **trainer_inputs(reader, args)).train()

    2 processes, 2 micro-batches: items 0 1 2 3 are step 0: rank 0 has 0 and 2, rank 1 has 1 and 3; item 4 is step 1

Item i of the dataset is one micro-batch of one rank, ranks varying fastest, which is how Trainer deals items out. The
state is Trainer's `global_step`: it skips `global_step * gradient_accumulation_steps` of its own batches, without
reading them. The cursor in `trainer_state.json` says which dataset they were of.
"""

from __future__ import annotations

import logging
from typing import Any

from transformers import (  # type: ignore[import-not-found, unused-ignore]
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from curriculum.adapters.micro_batches import MicroBatches
from curriculum.adapters.trainer_settings import REQUIRED, require_order, require_settings
from curriculum.adapters.widened import Attention, Example
from curriculum.cursor import Cursor
from curriculum.errors import ConfigError, CursorError, PlanError
from curriculum.reader import Reader

CURSOR = "curriculum"
"""Key of the cursor in `stateful_callbacks` of a checkpoint's trainer_state.json."""
_log = logging.getLogger(__name__)


def trainer_arguments(reader: Reader) -> dict[str, Any]:
    """What `TrainingArguments` needs for this dataset; everything else is the user's.

    Args:
        reader: of the dataset to train on. Its steps become `max_steps`; to end earlier, stop the run: the learning
            rate of Trainer follows `max_steps`.
    """
    return {**REQUIRED, "max_steps": len(reader)}


def trainer_inputs(reader: Reader, args: TrainingArguments, *, attention: Attention | None = None) -> dict[str, Any]:
    """`train_dataset`, `data_collator` and `callbacks` for `Trainer`, for the processes and micro-batches of `args`.

    Args:
        reader: of the dataset to train on.
        args: the run's arguments: rows are shared by its processes and its `gradient_accumulation_steps`.
        attention: "position_ids" gives the model positions that start anew at each document, so that attention stays
            inside it (models of transformers see to that if they get no cache and no attention mask).

    Raises:
        CursorError: processes x gradient_accumulation_steps does not divide the rows of some phase.
    """
    data = MicroBatches(
        reader,
        world_size=args.world_size,
        micro_batches=args.gradient_accumulation_steps,
        shift_labels=True,
        attention=attention,
    )
    return {"train_dataset": data, "data_collator": one_micro_batch, "callbacks": [CurriculumCallback(data)]}


def one_micro_batch(items: list[Example]) -> Example:
    """The collator: a micro-batch is one item, there is nothing to stack.

    Raises:
        ConfigError: Trainer asks for more at a time, for evaluation (training is refused before).
    """
    if len(items) != 1:
        raise ConfigError(
            f"Trainer asks for {len(items)} items at a time, and an item is a whole micro-batch; set "
            f"per_device_eval_batch_size=1 and let each item of eval_dataset hold as many rows as you want."
        )
    return items[0]


class CurriculumCallback(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Refuses settings that go silently wrong, keeps the cursor in checkpoints, and logs what was trained on.

    Logged beside Trainer's loss: `seq_len` of the last step, `tokens_seen` (slots where rows are packed, as
    `plan.tokens_at` counts), and `epoch`: passes over the corpus, not over the dataset, which is always one.
    """

    def __init__(self, data: MicroBatches) -> None:
        """Watch a run on `data`, which is also its `train_dataset`."""
        self._data = data
        self._plan = data.reader.plan
        accounting = data.reader.manifest.accounting
        self._epochs = (accounting.trained_tokens + accounting.truncated_tokens) / (
            accounting.corpus_tokens - accounting.validation_tokens
        )

    def log_first(self, trainer: Trainer) -> None:
        """Come before the loggers of `report_to`, so that they (wandb, TensorBoard ...) see what this one adds.

        Trainer puts callbacks of the user after them; its progress bar and `trainer_state.json` need no such call.
        """
        callbacks = trainer.callback_handler.callbacks
        callbacks.remove(self)
        callbacks.insert(0, self)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Refuse what would go wrong, before the first batch.

        Raises:
            ConfigError: settings; see `curriculum.adapters.trainer_settings`.
            PlanError: more steps than the dataset has.
            CursorError: the checkpoint is of another dataset, of none, or not at the step it says.
        """
        require_settings(args, self._data, kwargs.get("model"), state.global_step)
        self._require_steps(state.max_steps)
        require_order(args, self._data, kwargs.get("train_dataloader"))
        if state.global_step:
            self._require_same_run(state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """The cursor that a checkpoint of this step holds, and the epoch that Trainer logs."""
        _stateful(state)[CURSOR] = Cursor(self._data.reader.id, state.global_step).state_dict()
        consumed = self._plan.consumed_at(state.global_step) / self._plan.consumed_tokens
        state.epoch = consumed * self._epochs

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add to Trainer's own logs: of training steps, not of evaluation or of the end."""
        if logs is None or "loss" not in logs or not state.global_step:
            return
        phase, _ = self._plan.locate(state.global_step - 1)
        seen = {
            "seq_len": self._plan.phases[phase].seq_len,
            "tokens_seen": self._plan.tokens_at(state.global_step),
        }
        logs.update(seen)
        state.log_history[-1].update(seen)  # what trainer_state.json keeps is a copy

    def _require_steps(self, max_steps: int) -> None:
        steps = self._plan.total_steps
        if max_steps > steps:
            raise PlanError(
                f"Trainer is set to run {max_steps} steps, but the dataset has {steps}, and it would begin again; set "
                f"max_steps={steps}, or build a dataset of {max_steps} steps."
            )
        if max_steps < steps:
            _log.warning("Trainer runs %d of the dataset's %d steps.", max_steps, steps)

    def _require_same_run(self, state: TrainerState) -> None:
        where, dataset_id = self._data.reader.where, self._data.reader.id
        saved = _stateful(state).get(CURSOR)
        if saved is None:
            raise CursorError(
                f"{where}: the checkpoint of step {state.global_step} holds no cursor, so its run was not on a "
                f"compiled dataset, or without CurriculumCallback. Start anew, or resume with the data that it had."
            )
        cursor = Cursor.from_state_dict(saved)
        if not self._data.reader.manifest.continues(cursor.dataset_id, cursor.step):
            raise CursorError(
                f"{where}: the checkpoint belongs to dataset {cursor.dataset_id}, this one is {dataset_id}. Resume "
                f"with the dataset that the run was started on."
            )
        if (cursor.step, cursor.row) != (state.global_step, 0):
            raise CursorError(
                f"{where}: the checkpoint is of Trainer's step {state.global_step}, but its cursor stands at step "
                f"{cursor.step}, row {cursor.row}. One of them was edited; resume from another checkpoint."
            )


def _stateful(state: TrainerState) -> dict[str, Any]:
    """What callbacks keep in a checkpoint. It is declared as a list, and made a dictionary at once."""
    kept: Any = state.stateful_callbacks
    assert isinstance(kept, dict)
    return kept
