"""MosaicML Composer's dataset protocol: sample counts of a checkpoint become a cursor, and back.

In:  a dataset; from Composer the samples trained on in this epoch, summed over ranks.
Out: {"input_ids", "labels"} per optimizer step, int64 [rows, seq_len]: a rank's whole share of the step, which Composer
cuts into micro-batches itself. Labels are shifted already.
Guarantee: the saved state is the cursor alone, so a run resumes on another number of ranks or micro-batches, and reads
nothing again. Samples are mapped to steps by sums over the plan's runs.

    dataset = ComposerDataset("curriculum-data", micro_tokens=16_384)
    Trainer(train_dataloader=dataset.data_spec(), device_train_microbatch_size=512, max_duration="1ep", ...)

    steps of 16, 16, 16, 8, 8 rows      48 samples -> step 3      56 samples -> step 4      50 samples -> refused

Composer 0.32 and 0.33 cannot be installed beside torch 2.8 or later; this file needs torch only and was written against
the source of 0.33.0.dev0 (commit 6405188). Composer looks for the protocol on the dataset of a real `DataLoader`, and
nowhere else: hand over what `data_spec` returns, not the dataset.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from os import PathLike
from typing import Any

import torch
from torch.utils.data import DataLoader

from curriculum.adapters.pytorch import CurriculumDataset
from curriculum.batch import IGNORED
from curriculum.cursor import Cursor
from curriculum.errors import ConfigError, CursorError
from curriculum.plan import Plan
from curriculum.reader import Reader

__all__ = ["ComposerDataset", "cursor_of_samples"]

_Batch = dict[str, torch.Tensor]


class ComposerDataset(CurriculumDataset):
    """One rank's share of every step, in training order; see the module."""

    def __init__(
        self,
        dataset: str | PathLike[str] | Reader,
        *,
        rank: int | None = None,
        world_size: int | None = None,
        micro_tokens: int | None = None,
    ) -> None:
        """Open the dataset.

        Args:
            dataset: folder of a finished dataset, or a reader of it.
            rank, world_size: this process; from the variables RANK and WORLD_SIZE of Composer's launcher if not given.
            micro_tokens: at most so many inputs in a micro-batch, but no fewer than one row: many short rows, few long
                ones. Beside it `device_train_microbatch_size`, which counts rows, is only an upper bound.

        Raises:
            ConfigError: micro_tokens below 1.
            CursorError: the rank is none of the world.
        """
        if micro_tokens is not None and micro_tokens < 1:
            raise ConfigError(f"micro_tokens is {micro_tokens}; it starts at 1.")
        super().__init__(
            dataset,
            rank=int(os.environ.get("RANK", 0)) if rank is None else rank,
            world_size=int(os.environ.get("WORLD_SIZE", 1)) if world_size is None else world_size,
        )
        self.micro_tokens = micro_tokens

    def state_dict(self, num_samples: int | None = None, from_beginning: bool = True) -> dict[str, Any]:
        """What Composer saves for this dataset: the cursor, the same on every rank.

        Args:
            num_samples: rows trained on, of all ranks; None: the state after the last batch that was handed out.
            from_beginning: counted from the start of the epoch, as Composer does; False: since the state that was
                loaded last.

        Raises:
            CursorError: no step ends after so many rows.
        """
        if num_samples is None:
            return super().state_dict()
        plan = self.reader.plan
        if not from_beginning:
            num_samples += _samples_before(plan, self._start.step)
        return cursor_of_samples(plan, num_samples, self.reader.id, self.reader.where).state_dict()

    def data_spec(self) -> dict[str, Any]:
        """Arguments for Composer's `DataSpec`; its Trainer also takes them as they are, as `train_dataloader`.

        The length of a `DataLoader` is steps; `num_samples` and `num_tokens` are those of all ranks in an epoch.
        """
        plan = self.reader.plan
        return {
            "dataloader": DataLoader(self, batch_size=None, num_workers=0),
            "num_samples": sum(phase.num_rows for phase in plan.phases),
            "num_tokens": plan.total_tokens,
            "get_num_samples_in_batch": num_samples_in_batch,
            "get_num_tokens_in_batch": num_tokens_in_batch,
            "split_batch": self.split_batch,
        }

    def split_batch(self, batch: _Batch, microbatch_size: int | float) -> Sequence[_Batch]:
        """Micro-batches of at most `microbatch_size` rows, and of at most `micro_tokens` inputs if that was given."""
        num_rows, seq_len = batch["input_ids"].shape
        rows = min(num_rows, max(1, int(microbatch_size)))
        if self.micro_tokens is not None:
            rows = min(rows, max(1, self.micro_tokens // seq_len))
        starts = range(0, num_rows, rows)
        return [{name: tensor[start : start + rows] for name, tensor in batch.items()} for start in starts]


def num_samples_in_batch(batch: _Batch) -> int:
    """Rows."""
    return len(batch["input_ids"])


def num_tokens_in_batch(batch: _Batch) -> dict[str, int]:
    """All inputs, and those that have a target: `accumulate_train_batch_on_tokens=True` weighs losses by the latter."""
    return {"total": batch["input_ids"].numel(), "loss_generating": int((batch["labels"] != IGNORED).sum())}


def cursor_of_samples(plan: Plan, num_samples: int, dataset_id: str, where: str) -> Cursor:
    """The cursor after `num_samples` rows of all ranks.

    Raises:
        CursorError: no step ends there, or the plan has fewer rows.
    """
    runs = [(plan.phases[phase].rows_per_step, num_steps) for phase, num_steps in plan.order]
    before = list(accumulate((rows * num_steps for rows, num_steps in runs), initial=0))
    if not 0 <= num_samples <= before[-1]:
        raise CursorError(
            f"{where}: {num_samples} samples of this epoch, but the dataset has {before[-1]}. Give Composer what "
            f"ComposerDataset.data_spec returns, and every rank its own `rank` and `world_size`."
        )
    run = min(bisect_right(before, num_samples), len(runs)) - 1
    steps, rest = divmod(num_samples - before[run], runs[run][0])
    step = sum(num_steps for _, num_steps in runs[:run]) + steps
    if rest:
        raise CursorError(
            f"{where}: after {num_samples} samples training stands inside step {step}: steps end after "
            f"{num_samples - rest} and {num_samples - rest + runs[run][0]}. Composer trains whole steps, so "
            f"samples are counted in another way: give it what ComposerDataset.data_spec returns."
        )
    return Cursor(dataset_id, step)


def _samples_before(plan: Plan, step: int) -> int:
    return sum(plan.phases[phase].rows_per_step * num_steps for phase, num_steps in plan.runs_between(0, step))
