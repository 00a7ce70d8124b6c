"""Stop in the middle and continue: does the model see the batches of a run that was never stopped?

In:  the ways, and a step to stop after.   Out: how many later batches are the same, and what had to be read again.
Guarantee: a batch is known by the sha256 of its inputs and targets. What is carried over a restart is what the tool's
own checkpoint holds: our cursor, DeepSpeed's `global_steps`, Composer's batch number, the sampler's `state_dict()`.
Of the tools only `DeepSpeedDataSampler` itself runs here. The other cases are torch's `DataLoader` and a step, used as
the tools' sources use theirs: DeepSpeed's engine begins its loader anew, Composer's trainer skips what was trained.

    begun anew          the length is right, the rows are those of the beginning: they are seen twice
    skipped to the step exact: what was trained is read again and thrown away
"""

from __future__ import annotations

import copy
import hashlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from length_data import Setting, deepspeed_schedule
from length_ways import SEED, Way

from curriculum.adapters.pytorch import CurriculumDataset


@dataclass(frozen=True, kw_only=True, slots=True)
class Resumed:
    """What the rest of a run saw."""

    batches: int
    """after the restart"""
    same: int
    """equal to those of the run that was not stopped, at their steps"""
    same_rows: int
    """of the same rows, perhaps in another order within the batch"""
    rows_read_again: int
    """read and thrown away before the first batch"""
    seconds_to_first_batch: float


def resume_compiled(path: Path, stop: int, world_size: int = 1) -> Resumed:
    """Our cursor, loaded by as many ranks as there are after the restart."""
    dataset = CurriculumDataset(path)
    whole = [_digest(batch["input_ids"], batch["labels"]) for batch in dataset]
    before = CurriculumDataset(path)
    for _ in islice(before, stop):
        pass
    state = before.state_dict()
    began = time.perf_counter()
    ranks = [CurriculumDataset(path, rank=rank, world_size=world_size) for rank in range(world_size)]
    for rank in ranks:
        rank.load_state_dict(state)
    rest = zip(*ranks, strict=True)
    first = next(rest)
    seconds = time.perf_counter() - began
    after = [_together(first), *map(_together, rest)]
    same = sum(x == y for x, y in zip(whole[stop:], after, strict=True))
    return Resumed(batches=len(after), same=same, same_rows=same, rows_read_again=0, seconds_to_first_batch=seconds)


def _together(batches: tuple[dict[str, torch.Tensor], ...]) -> str:
    """The global batch of all ranks."""
    names = ("input_ids", "labels")
    return _digest(*(torch.cat([batch[name] for batch in batches]) for name in names))


def resume_cut(way: Way, stop: int, steps: int, *, skips: bool) -> Resumed:
    """A loader that has no state of its own, and a step that the checkpoint knows."""
    whole = list(islice(_digests(way, way.loaded(), 0), steps))
    began = time.perf_counter()
    batches = way.loaded()
    skipped = sum(len(batch) for batch in islice(batches, stop if skips else 0))
    rest = _digests(way, batches, stop)
    first = next(rest)
    seconds = time.perf_counter() - began
    after = [first, *islice(rest, steps - stop - 1)]
    same = sum(x == y for x, y in zip(whole[stop:], after, strict=True))
    return Resumed(
        batches=len(after), same=same, same_rows=same, rows_read_again=skipped, seconds_to_first_batch=seconds
    )


def _digests(way: Way, batches: Iterator[Any], step: int) -> Iterator[str]:
    for number, batch in enumerate(batches, step):
        yield _digest(*way.cut(batch, number))


def _digest(*tensors: torch.Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(repr(tuple(tensor.shape)).encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def resume_deepspeed_sampler(
    setting: Setting, stop: int, rows_per_epoch: int, rows: int
) -> tuple[str, Resumed, Resumed] | None:
    """The version, what follows within the epoch, and what from its end on; None where DeepSpeed is not installed.

    A sampler gives numbers of rows, and these are compared: nothing is loaded.
    """
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    try:
        from deepspeed import __version__, comm, ops
        from deepspeed.runtime.data_pipeline.data_sampling.data_sampler import DeepSpeedDataSampler
    except ImportError:
        return None
    ops.__compatible_ops__ = {}  # else an operator is compiled first, 47 s, which gloo does without
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    comm.init_distributed("gloo", auto_mpi_discovery=False, dist_init_required=False, verbose=False)

    def sampler(folder: str) -> Any:
        metric = {"difficulty_type": "value", "clustering_type": "single_cluster", **deepspeed_schedule(setting)}
        learning = {"enabled": True, "data_cluster_path": folder, "curriculum_metrics": {"seqlen_truncate": metric}}
        config = {"seed": SEED, "data_sampling": {"num_epochs": 10, "curriculum_learning": learning}}
        group = torch.distributed.group.WORLD
        return DeepSpeedDataSampler(config, rows_per_epoch, rows, 0, 1, group, 1, 0)

    try:
        with TemporaryDirectory() as one, TemporaryDirectory() as other, redirect_stdout(sys.stderr):
            whole = list(islice(sampler(one), setting.steps))
            stopped = sampler(other)
            before = list(islice(stopped, stop))
            state = copy.deepcopy(stopped.state_dict())  # it is made of the sampler's own lists
            began = time.perf_counter()
            continued = sampler(other)
            continued.load_state_dict(state)
            rest = iter(continued)
            first = next(rest)
            seconds = time.perf_counter() - began
            after = [first, *islice(rest, setting.steps - stop - 1)]
    finally:
        torch.distributed.destroy_process_group()
    assert before == whole[:stop], "two samplers of one seed differ"
    border = rows_per_epoch // rows

    def compared(begin: int, end: int) -> Resumed:
        pairs = list(zip(whole[begin:end], after[begin - stop : end - stop], strict=True))
        return Resumed(
            batches=len(pairs),
            same=sum(x == y for x, y in pairs),
            same_rows=sum(sorted(x) == sorted(y) for x, y in pairs),
            rows_read_again=0,
            seconds_to_first_batch=seconds,
        )

    return __version__, compared(stop, border), compared(border, setting.steps)
