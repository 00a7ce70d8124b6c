"""Five ways to the same curriculum: two compiled datasets, and three that load full rows and cut them in the loop.

In:  a `Setting` and the datasets of it (length_data.py).   Out: a `Way` each: an iterator of loaded batches, and how a
     loaded batch becomes what the model is given.
Guarantee: all read the same corpus from Arrow shards of this project, the run-time ways full rows of it by a shuffling
`DataLoader`; where those have a choice they get the cheaper one (no workers, no attention mask, one tensor for inputs
and labels, cut before it is copied). "-style": the operations were taken from reading the tools' sources, the loop and
the loader are this file's and torch's; DeepSpeed's own class gives the lengths where it is installed.

    compiled    a stored row of 8 + 1 tokens     ->  8 inputs, 8 targets
    DeepSpeed   1,024 + 1 tokens loaded, [:, :8] ->  8 inputs, 8 targets     labels were shifted before the cut
    Composer    1,024 tokens loaded, [:, :8]     ->  8 inputs, 7 targets     the model shifts inside the row
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from length_data import Setting, deepspeed_schedule
from torch.utils.data import DataLoader, Dataset

import curriculum
from curriculum.adapters.pytorch import CurriculumDataset
from curriculum.adapters.shapes import Shapes
from curriculum.functional import segment, truncate

SEED = 1234


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """How batches come about."""

    name: str
    source: Path
    """the dataset that is read"""
    loaded: Callable[[], Iterator[Any]]
    """full batches, or those of a compiled dataset, from the first step on"""
    cut: Callable[[Any, int], tuple[torch.Tensor, torch.Tensor]]
    """a loaded batch and its step -> inputs and targets, int64 [rows, length]"""
    loaded_tokens: Callable[[Any], int]
    """targets that the loaded batch has before it is cut"""


class FullRows(Dataset[torch.Tensor]):
    """Rows of the full length, int64 [max_length + 1], one by one, as a `DataLoader` asks for them."""

    def __init__(self, path: Path) -> None:
        self._reader = curriculum.open(path)
        self._rows = self._reader.plan.phases[0].rows_per_step

    def __len__(self) -> int:
        return len(self._reader) * self._rows

    def __getitem__(self, row: int) -> torch.Tensor:
        step, within = divmod(row, self._rows)
        return torch.from_numpy(self._reader[step].tokens[within].astype("int64"))


def full_loader(path: Path, rows: int) -> DataLoader[torch.Tensor]:
    """Full rows in a seeded random order: the same one whenever it is started anew."""
    order = torch.Generator().manual_seed(SEED)
    return DataLoader(FullRows(path), batch_size=rows, shuffle=True, generator=order, drop_last=True)


def seq_len_of_deepspeed(setting: Setting) -> tuple[Callable[[int], int], str]:
    """Step -> length, by DeepSpeed's own class where the package is installed; and which it was."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    try:
        from deepspeed import __version__
        from deepspeed.runtime.data_pipeline.curriculum_scheduler import CurriculumScheduler
    except ImportError:
        return lambda step: _fixed_linear(setting, step), "its formula"
    scheduler = CurriculumScheduler(deepspeed_schedule(setting))
    return lambda step: int(scheduler.get_difficulty(step + 1)), f"CurriculumScheduler of {__version__}"


def _fixed_linear(setting: Setting, step: int) -> int:
    growth = setting.max_length - setting.start_length
    length = setting.start_length + min(step + 1, setting.warmup_steps) * growth // setting.warmup_steps
    return length - length % setting.multiple_of


def seq_len_of_composer(setting: Setting, every: int, step: int) -> int:
    """`SeqLengthWarmup.apply` with a length for `every` batches; its batches count from 0."""
    return min(setting.max_length, setting.start_length + setting.multiple_of * (step // every))


def compiled(name: str, path: Path, *, tells_shapes: bool = False) -> Way:
    """Our dataset through our adapter; `tells_shapes`: torch.compile is told which sizes will change."""
    shapes = Shapes(CurriculumDataset(path).share)

    def cut(batch: Any, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        if tells_shapes:
            shapes.mark(batch)
        return batch["input_ids"], batch["labels"]

    return Way(
        name=name,
        source=path,
        loaded=lambda: iter(CurriculumDataset(path)),
        cut=cut,
        loaded_tokens=lambda batch: batch["labels"].numel(),
    )


def deepspeed_style(path: Path, setting: Setting, seq_len: Callable[[int], int]) -> Way:
    """Tokens and labels of full rows, cut as Megatron-DeepSpeed's `forward` cuts them."""

    def cut(batch: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        length = seq_len(step)
        return batch[:, :-1][:, :length].contiguous(), batch[:, 1:][:, :length].contiguous()

    return Way(
        name="DeepSpeed-style",
        source=path,
        loaded=lambda: iter(full_loader(path, setting.batch_rows)),
        cut=cut,
        loaded_tokens=lambda batch: batch[:, 1:].numel(),
    )


def composer_style(path: Path, setting: Setting, *, is_segment: bool) -> Way:
    """`input_ids` of full rows, cut by the same operation as Composer's; its models shift the labels inside a row."""
    every = 1 if is_segment else setting.warmup_steps // setting.num_changes
    operation = segment if is_segment else truncate

    def cut(batch: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        rows = {"input_ids": batch[:, :-1].contiguous()}
        ids = operation(rows, seq_len_of_composer(setting, every, step))["input_ids"].contiguous()
        return ids, ids[:, 1:]

    return Way(
        name=f"Composer-style, {'segment' if is_segment else 'truncate'}",
        source=path,
        loaded=lambda: iter(full_loader(path, setting.batch_rows)),
        cut=cut,
        loaded_tokens=lambda batch: batch[:, 1:].numel(),
    )
