"""Lightning: a data module whose checkpoints resume exactly, at any moment, on any number of processes.

In:  a dataset (a path or a `Reader`); rank, processes and micro-batches come from the `Trainer`.
Out: `CurriculumDataset`'s micro-batches, {"input_ids", "labels"}, `accumulate_grad_batches` of them per optimizer step.
Guarantees: what was saved is the border of the last whole optimizer step, the same on every rank, also if Lightning
saves between the micro-batches of a step or after an exception; resuming replays from there, with another world size or
another `accumulate_grad_batches` too; settings that would silently train on other rows are refused before the first.

    data = CurriculumDataModule("curriculum-data")
    trainer = Trainer(max_steps=len(data.reader), accumulate_grad_batches=4)
    trainer.fit(model, datamodule=data, ckpt_path="last.ckpt")
    saved after 4 batches a step in the middle of step 10: step 10    resumed with 2 a step: the next batch is number 20

Lightning's progress counts batches, and says where a step ends by `batches % accumulate_grad_batches`. With another
number that points into the middle of a step: so the counts are written anew from the cursor when training resumes.

`StabilityCallback` logs how stable a run is (`lightning_stability`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from os import PathLike
from typing import Any

import curriculum
from curriculum.cursor import Cursor
from curriculum.errors import ConfigError, CursorError
from curriculum.reader import Reader
from curriculum.share import Share

try:  # types are checked with lightning installed and without: hence `unused-ignore`
    from lightning.pytorch import LightningDataModule  # type: ignore[import-not-found, unused-ignore]
    from lightning.pytorch.callbacks import (  # type: ignore[import-not-found, unused-ignore]
        GradientAccumulationScheduler,
    )

    from curriculum.adapters.lightning_stability import StabilityCallback
    from curriculum.adapters.pytorch import CurriculumDataset
    from curriculum.adapters.widened import Example
except ImportError as error:
    raise ImportError(
        f"curriculum.adapters.lightning needs torch and lightning ({error}); "
        f"install them with: pip install 'seqlen-curriculum[trainers]'"
    ) from error

__all__ = ["CurriculumDataModule", "StabilityCallback"]


class CurriculumDataModule(LightningDataModule):  # type: ignore[misc, unused-ignore]
    """The training batches of a dataset for `Trainer.fit(model, datamodule=...)`.

    Subclass it to add a `val_dataloader`: Lightning asks the data module alone. `dataset` is the `CurriculumDataset` of
    the run, once training begins. With manual optimization a step ends where `dataset.cursor.row == 0`.
    """

    def __init__(self, dataset: str | PathLike[str] | Reader, **options: Any) -> None:
        """Open the dataset.

        Args:
            dataset: folder of a finished dataset, or a reader of it.
            **options: what else `CurriculumDataset` takes, but not rank and world_size. `micro_batches` and
                `micro_tokens` belong to manual optimization: else the Trainer's accumulate_grad_batches counts.
        """
        super().__init__()
        self.reader = dataset if isinstance(dataset, Reader) else curriculum.open(dataset)
        self.dataset: CurriculumDataset | None = None
        self._options = options
        self._loaded: Cursor | None = None

    @property
    def cursor(self) -> Cursor:
        """Where the model stands: the border after the last whole optimizer step."""
        if self.dataset is None or self.trainer is None:
            return self._loaded or Cursor(self.reader.id, 0)
        # Batches of a step that is not finished were handed out, but the weights have not learned from them.
        automatic = self.trainer.lightning_module.automatic_optimization
        return Cursor(self.reader.id, self.trainer.global_step if automatic else self.dataset.cursor.step)

    def state_dict(self) -> dict[str, Any]:
        """`cursor` as plain values; Lightning keeps that of rank 0, and it is the same on all."""
        return self.cursor.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue there; Lightning calls it for `fit(ckpt_path=...)`.

        Raises:
            CursorError: the state is of another dataset (both ids are named), or no position in this one.
        """
        cursor = Cursor.from_state_dict(state_dict)
        self.reader.steps(cursor)
        if self.trainer is None or self.trainer.training:  # validate(ckpt_path=...) resumes nothing
            self._loaded = cursor

    def train_dataloader(self) -> Any:
        """The micro-batches that remain for this process.

        Raises:
            ConfigError: a setting of the Trainer under which other rows than the plan's would be trained on.
            CursorError: processes x micro-batches do not divide the rows of every remaining step, or the checkpoint
                holds no position in this dataset.
        """
        trainer: Any = self.trainer  # its types lack what connectors set
        sizes = self._sizes(trainer)
        _require_all_processes(trainer)
        if not trainer.fast_dev_run:
            _require_one_pass(trainer, len(self.reader))
        start = self._loaded or Cursor(self.reader.id, 0)
        if trainer.lightning_module.automatic_optimization and trainer.global_step != start.step:
            raise CursorError(
                f"The Trainer resumes after optimizer step {trainer.global_step}, and the data at step {start.step} of "
                f"{self.reader.where}. Resume with ckpt_path= from a checkpoint that was saved with this data module, "
                f"or load only the weights to begin a new run at step 0."
            )
        share = _rank_and_world_size(trainer) | sizes
        self.dataset = CurriculumDataset(self.reader, **{**self._options, **share})
        self.dataset.load_state_dict(start.state_dict())
        num_before = Share(plan=self.reader.plan, **share).micro_batches_before(start.step)
        if self._loaded is not None:
            _rewrite_progress(trainer, num_before, is_end=start.step == len(self.reader))
        self._loaded = None
        return _OnePass(self, self.dataset)

    def _sizes(self, trainer: Any) -> dict[str, int]:
        """The arguments of `CurriculumDataset` that say how many micro-batches a step has."""
        own = {
            name: self._options[name]
            for name in ("micro_batches", "micro_tokens")
            if self._options.get(name) is not None
        }
        accumulated = trainer.accumulate_grad_batches
        if not trainer.lightning_module.automatic_optimization:
            return own
        if own and own != {"micro_batches": accumulated}:
            named = ", ".join(f"{name}={count}" for name, count in own.items())
            raise ConfigError(
                f"CurriculumDataModule({named}) and Trainer(accumulate_grad_batches={accumulated}): Lightning steps "
                f"after every {accumulated} batches. Give accumulate_grad_batches alone; other sizes need "
                f"automatic_optimization = False."
            )
        return {"micro_batches": accumulated}


class _OnePass:
    """What Lightning iterates over: no DataLoader, so it adds no sampler; `len` and a state, so it loses no batch.

    A stateful loader without `len` loses one batch per restart, because Lightning then reads one batch ahead.
    """

    def __init__(self, data: CurriculumDataModule, dataset: CurriculumDataset) -> None:
        self._data = data
        self._dataset = dataset
        self._has_begun = False

    def __len__(self) -> int:
        return len(self._dataset)

    def __iter__(self) -> Iterator[Example]:
        if self._has_begun:
            raise ConfigError(
                f"{self._data.reader.where}: Lightning begins a second epoch, but the dataset is the whole run of "
                f"{len(self._data.reader)} steps. Give Trainer(max_steps={len(self._data.reader)}) or less."
            )
        return self._watched(iter(self._dataset))

    def _watched(self, batches: Iterator[Example]) -> Iterator[Example]:
        for batch in batches:
            self._has_begun = True  # not at `iter`: Lightning calls that twice before the first batch
            yield batch

    def state_dict(self) -> dict[str, Any]:
        return self._data.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._dataset.load_state_dict(state)


def _rank_and_world_size(trainer: Any) -> dict[str, int]:
    """Of this process among those that read different rows: with tensor parallelism they are fewer than all."""
    of_strategy = trainer.distributed_sampler_kwargs
    if of_strategy is None:
        return {"rank": trainer.global_rank, "world_size": trainer.world_size}
    return {"rank": of_strategy["rank"], "world_size": of_strategy["num_replicas"]}


def _require_all_processes(trainer: Any) -> None:
    """Refuse processes that train alone, each on all rows: what `Trainer()` makes of torchrun on a CPU.

    Raises:
        ConfigError: says what to give the Trainer.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ["WORLD_SIZE"]) != trainer.world_size:
        nodes = int(os.environ["WORLD_SIZE"]) // int(os.environ["LOCAL_WORLD_SIZE"])
        raise ConfigError(
            f"torchrun started {os.environ['WORLD_SIZE']} processes, and this Trainer is one of {trainer.world_size}: "
            f"give Trainer(devices={os.environ['LOCAL_WORLD_SIZE']}, num_nodes={nodes})."
        )


def _require_one_pass(trainer: Any, total_steps: int) -> None:
    """Refuse settings under which the rows of an optimizer step would not be those of the plan's step.

    Raises:
        ConfigError: names the setting and what to give instead.
    """
    max_steps, max_epochs = trainer.max_steps, trainer.max_epochs
    allowed = f"Give Trainer(max_steps={total_steps}), or fewer."
    if trainer.overfit_batches > 0:
        raise ConfigError(f"Trainer(overfit_batches={trainer.overfit_batches}) repeats the first batches. Drop it.")
    if trainer.limit_train_batches != 1.0:
        raise ConfigError(
            f"Trainer(limit_train_batches={trainer.limit_train_batches}) ends each pass early and begins again at step "
            f"0. {allowed}"
        )
    if trainer.lightning_module.automatic_optimization and max_steps > total_steps:
        raise ConfigError(f"Trainer(max_steps={max_steps}): the dataset has {total_steps} steps. {allowed}")
    if max_steps == -1 and max_epochs != 1:
        raise ConfigError(
            f"Trainer(max_epochs={max_epochs}) passes over the dataset again from step 0, its short rows included; it "
            f"is the whole run of {total_steps} steps. {allowed}"
        )
    if any(isinstance(callback, GradientAccumulationScheduler) for callback in trainer.callbacks):
        raise ConfigError(
            "The callback GradientAccumulationScheduler changes the micro-batches of a step after the data was shared "
            "out. Give Trainer(accumulate_grad_batches=...) instead."
        )
    if trainer.strategy.handles_gradient_accumulation and trainer.accumulate_grad_batches > 1:
        raise ConfigError(
            f"{type(trainer.strategy).__name__} counts micro-batches itself, and a checkpoint would resume inside a "
            f"step. Give accumulate_grad_batches=1, or use curriculum.adapters.deepspeed without Lightning."
        )


def _rewrite_progress(trainer: Any, num_batches: int, *, is_end: bool) -> None:
    """Make Lightning's counts say: resumed at the end of the batch before, in the first epoch.

    Args:
        num_batches: this rank's micro-batches before the step to continue with, counted as they are now.
        is_end: no step is left.
    """
    loop = trainer.fit_loop
    if not hasattr(loop.epoch_loop, "_batches_that_stepped"):
        raise ConfigError(
            "this version of Lightning keeps its counts of batches elsewhere than 2.6 does, and a checkpoint could not "
            "be resumed exactly. Install lightning 2.6, or save the cursor in a loop of your own."
        )
    if not is_end:  # a run that stopped early called its epoch finished, and would find nothing to do
        for epochs in (loop.epoch_progress.total, loop.epoch_progress.current):
            epochs.ready = epochs.started = 1
            epochs.processed = epochs.completed = 0
        loop.restarting = True
    batches = loop.epoch_loop.batch_progress
    for counts in (batches.total, batches.current):
        counts.ready = counts.started = counts.processed = num_batches
        counts.completed = max(num_batches - 1, 0)  # as in a checkpoint of on_train_batch_end; Lightning adds it
    batches.is_last_batch = is_end
    # What loggers call the step; it, too, is one behind in such a checkpoint.
    loop.epoch_loop._batches_that_stepped = max(num_batches // trainer.accumulate_grad_batches - 1, 0)
    if num_batches == 0:
        loop.epoch_loop.restarting = False
