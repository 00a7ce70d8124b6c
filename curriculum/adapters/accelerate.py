"""Hugging Face Accelerate: whole optimizer steps for a loop of one's own, and a state that `save_state` keeps.

In:  an `Accelerator` and a dataset.
Out: `AccelerateDataset`, registered for checkpointing; its `steps()` yield the micro-batches of one optimizer step on
the accelerator's device, and what the step's loss is divided by.
Guarantees: `accelerator.accumulate` synchronizes on the last micro-batch of each step, also where their number changes
with the length (`micro_tokens`) or with a restart; `load_state` continues on any number of processes; a checkpoint of
another dataset is refused.

    dataset = dataset_for(accelerator, "curriculum-data")               # never accelerator.prepare(dataset)
    for step in dataset.steps():
        for batch in step.micro_batches:
            with accelerator.accumulate(model):
                loss = model(**batch, num_items_in_batch=step.num_targets).loss
                accelerator.backward(loss * step.num_shares)
                ...

    2 processes, 2 micro-batches of 2 rows of 8: num_targets 64, num_shares 4. The loss of a share is a sum / 64; the
    factor 4 makes up for `backward`, which divides by 2, and for the mean over 2 processes.

A prepared loader would be dealt out to processes a second time: batches lost, or every row read by every process.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Any

from curriculum.cursor import Cursor
from curriculum.errors import ConfigError, CursorError
from curriculum.reader import Reader

try:  # types are checked with accelerate installed and without: hence `unused-ignore`
    import torch
    from accelerate import Accelerator  # type: ignore[import-not-found, unused-ignore]

    from curriculum.adapters.pytorch import CurriculumDataset
    from curriculum.adapters.trainer_settings import launched_world_size
    from curriculum.adapters.widened import Attention, Example
except ImportError as error:
    raise ImportError(
        f"curriculum.adapters.accelerate needs torch and accelerate ({error}); "
        f"install them with: pip install 'seqlen-curriculum[trainers]'"
    ) from error

__all__ = ["AccelerateDataset", "Step", "dataset_for"]

_log = logging.getLogger(__name__)
_AXES = ("tp_size", "cp_size", "sp_size")
"""Of accelerate's ParallelismConfig: processes along them share rows or a model, and have no rows of their own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One optimizer step of this process."""

    step: int
    """its number in the plan"""
    seq_len: int
    """inputs per row"""
    micro_batches: list[Example]
    """tensors on the accelerator's device"""
    num_targets: int
    """labels that are not -100, of all micro-batches of all processes: what the sum of their losses is divided by"""
    num_shares: int
    """micro-batches of the step on all processes: what `backward` and the mean over processes divide gradients by"""


class AccelerateDataset(CurriculumDataset):
    """The rows of this process; made by `dataset_for`."""

    def __init__(self, accelerator: Accelerator, dataset: str | PathLike[str] | Reader, **options: Any) -> None:
        """Open the dataset for this process; `options` are those of `CurriculumDataset`."""
        super().__init__(
            dataset,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
            device=accelerator.device,
            **options,
        )
        self._accelerator = accelerator

    def steps(self) -> Iterator[Step]:
        """The steps that remain.

        The state is that after the step that was handed out last, so `save_state` belongs after its `optimizer.step()`:
        leave the loop at the end of its body, not at the beginning.

        Raises:
            CursorError: at once, if processes x micro-batches does not divide every remaining step.
        """
        batches = iter(self)
        self._warn_of_scheduler()
        return self._steps(batches)

    def state_dict(self) -> dict[str, Any]:
        """The cursor, for `save_state`; process 0 writes it.

        Raises:
            CursorError: the batch handed out last is not the last of its step.
        """
        return self._at_border(super().state_dict(), "Save after the last optimizer.step() of a step")

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken; `load_state` calls it on every process.

        Raises:
            CursorError: the state is of another dataset, does not fit this number of processes and micro-batches, or
                is inside a step.
        """
        super().load_state_dict(self._at_border(state, "Resume from a checkpoint of a step's end"))
        # accelerate restores its count of micro-batches, which is out of phase where another number makes a step.
        self._accelerator.step = 0

    def _steps(self, batches: Iterator[Example]) -> Iterator[Step]:
        accelerator, plan = self._accelerator, self.reader.plan
        step = self.cursor.step
        while (first := next(batches, None)) is not None:
            of_step = [first]
            while self.cursor.row:
                of_step.append(next(batches))
            phase, _ = plan.locate(step)
            accelerator.gradient_accumulation_steps = len(of_step)
            accelerator.step = 0
            yield Step(
                step=step,
                seq_len=plan.phases[phase].seq_len,
                micro_batches=of_step,
                num_targets=self._num_targets(phase, of_step),
                num_shares=len(of_step) * self.share.world_size,
            )
            step += 1

    def _num_targets(self, phase: int, of_step: list[Example]) -> int:
        if not self.reader.manifest.packed:
            return self.reader.plan.phases[phase].tokens_per_step
        mine = torch.stack([(batch["labels"] >= 0).sum() for batch in of_step]).sum()
        return int(self._accelerator.reduce(mine, reduction="sum"))

    def _at_border(self, state: dict[str, Any], remedy: str) -> dict[str, Any]:
        cursor = Cursor.from_state_dict(state)
        if cursor.row:
            raise CursorError(
                f"{self.reader.where}: the state is inside step {cursor.step}, after {cursor.row} of its rows, and "
                f"accelerate does not keep the gradients of those. {remedy}."
            )
        return state

    def _warn_of_scheduler(self) -> None:
        accelerator = self._accelerator
        with_optimizer = [
            item for item in getattr(accelerator, "_schedulers", ()) if getattr(item, "step_with_optimizer", False)
        ]
        if with_optimizer and accelerator.num_processes > 1 and not accelerator.split_batches:
            _log.warning(
                "A learning-rate scheduler was prepared, and accelerate advances it %d times a step, once for every "
                "process; for one that counts steps, make Accelerator(step_scheduler_with_optimizer=False).",
                accelerator.num_processes,
            )


def dataset_for(
    accelerator: Accelerator,
    dataset: str | PathLike[str] | Reader,
    *,
    micro_tokens: int | None = None,
    attention: Attention | None = None,
    shift_labels: bool = True,
) -> AccelerateDataset:
    """Open a dataset for this process and register it: `save_state` and `load_state` keep its place.

    Args:
        accelerator: its processes share every step, in `gradient_accumulation_steps` micro-batches each.
        dataset: folder or address of a finished dataset, or a reader of it.
        micro_tokens: instead of that number, as many as keep a micro-batch within so many inputs.
        attention: as of `CurriculumDataset`: "position_ids" for models of transformers (with use_cache=False).
        shift_labels: add `shift_labels` for models of transformers. Other models compare logits and `labels` as they
            are, and want False if they take no such name.

    Raises:
        ConfigError: the accelerator does not see the other processes; processes share rows (tensor, context or
            sequence parallelism); DeepSpeed, which divides by a number of its own, meets `micro_tokens`.
    """
    launched = launched_world_size()
    if launched not in (None, accelerator.num_processes):
        raise ConfigError(
            f"{launched} processes were launched, and the accelerator takes this one for {accelerator.num_processes} "
            f"of its own: each would train a model of its own on all rows. Without a GPU, make Accelerator(cpu=True)."
        )
    split = getattr(accelerator, "parallelism_config", None)
    sizes = {name: getattr(split, name, None) or 1 for name in _AXES}
    if any(size > 1 for size in sizes.values()):
        raise ConfigError(
            f"The accelerator's parallelism_config has {sizes}: processes would share rows or a model, and this "
            f"adapter gives every process rows of its own. Use data parallelism (DDP, FSDP, ZeRO), or a loop over "
            f"reader.steps() with rank and world size of the data-parallel group."
        )
    if micro_tokens is not None and accelerator.distributed_type.name == "DEEPSPEED":
        raise ConfigError(
            f"micro_tokens is {micro_tokens}, and DeepSpeed divides by the fixed gradient_accumulation_steps of its "
            f"configuration; drop micro_tokens, or let accelerate use DDP or FSDP."
        )
    fixed = None if micro_tokens is not None else accelerator.gradient_accumulation_steps
    opened = AccelerateDataset(
        accelerator,
        dataset,
        micro_batches=fixed,
        micro_tokens=micro_tokens,
        attention=attention,
        shift_labels=shift_labels,
    )
    accelerator.register_for_checkpointing(opened)
    return opened
