"""torchtitan: a data loader whose state is one cursor, and the settings of its Trainer that follow from a dataset.

In:  a dataset; from torchtitan's Trainer the rank and size of the data-parallel mesh.
Out: ({"input", "positions"}, labels) per micro-batch, int64 [rows, seq_len] each. Labels are shifted already, or -100
where packed rows have no target: torchtitan's losses compare position by position and divide by the step's targets.
Guarantee: the state is the same plain dictionary on every rank. The distributed checkpoint stores it once, so a run
resumes on another number of ranks, which torchtitan's own loader refuses. Nothing is read ahead.

    config = Trainer.Config(model_spec=..., checkpoint=CheckpointManager.Config(enable=True, ...), ...)
    configure(config, "curriculum-data", world_size=8, micro_batches=2)
    config.build().train()

    64 rows per step, 8 ranks, micro_batches=2   ->   local_batch_size 4, global_batch_size 64: torchtitan takes two
                                                      micro-batches of 4 rows before each optimizer step
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

import numpy as np

import curriculum
from curriculum.batch import Batch
from curriculum.cursor import Cursor
from curriculum.errors import ConfigError, CursorError
from curriculum.plan import Plan
from curriculum.resumable import Resumable
from curriculum.share import Share

try:  # types are checked with torchtitan installed and without: hence `unused-ignore`
    import torch
    from torchtitan.components.dataloader import BaseDataLoader  # type: ignore[import-not-found, unused-ignore]
except ImportError as error:
    raise ImportError(
        f"curriculum.adapters.torchtitan needs torch and torchtitan ({error}); install them with: "
        f"pip install 'torch>=2.13' torchtitan   (it wants datasets<4.8; without a CUDA build of torch, triton as well)"
    ) from error

__all__ = ["CurriculumDataLoader", "configure"]

_Example = tuple[dict[str, torch.Tensor], torch.Tensor]


class CurriculumDataLoader(Resumable[_Example], BaseDataLoader):  # type: ignore[misc, unused-ignore]
    """The micro-batches of one data-parallel rank; see the module. Built by torchtitan's Trainer from `Config`."""

    @dataclass(kw_only=True, slots=True)
    class Config(BaseDataLoader.Config):  # type: ignore[misc, unused-ignore]
        """`dataset` is the folder of a finished dataset. `configure` fills this in."""

        micro_batches: int = 1
        """gradient accumulation steps: training.global_batch_size // (local_batch_size * data-parallel ranks)"""
        document_positions: bool = True
        """positions start anew at each document, as torchtitan's own loaders give them: its flex and varlen attention
        then stay inside documents. False: 0 .. seq_len - 1 in every row, and rows attend to all before them"""

    def __init__(
        self,
        config: Config,
        *,
        dp_world_size: int,
        dp_rank: int,
        local_batch_size: int,
        **unused: Any,  # the Trainer also passes tokenizer, seq_len (the longest) and snapshot_every_n_steps
    ) -> None:
        """Open the dataset.

        Raises:
            DataError: there is no finished dataset.
            CursorError: dp_world_size x micro_batches does not divide every step.
            ConfigError: every step has the same number of rows, and local_batch_size is another part of it.
        """
        self.config = config
        reader = curriculum.open(config.dataset)
        share = Share(plan=reader.plan, rank=dp_rank, world_size=dp_world_size, micro_batches=config.micro_batches)
        super().__init__(reader, share)
        self.share.require_fits(0, 0, self.reader.where)
        local, total = _batch_sizes(self.reader.plan, dp_world_size, config.micro_batches)
        if len(_rows_per_step(self.reader.plan)) == 1 and local != local_batch_size:
            raise ConfigError(
                f"{self.reader.where}: steps of {total} rows on {dp_world_size} data-parallel ranks in "
                f"{config.micro_batches} micro-batches are {local} rows each, but training.local_batch_size is "
                f"{local_batch_size}; set training.local_batch_size={local} and training.global_batch_size={total}, "
                f"or call curriculum.adapters.torchtitan.configure, which does."
            )

    def state_dict(self) -> dict[str, Any]:
        """The cursor as plain values, the same on every rank.

        Raises:
            CursorError: the last micro-batch did not complete a step. torchtitan saves after whole optimizer steps, so
                it accumulates another number of micro-batches than `micro_batches`.
        """
        if self._cursor.row:
            raise CursorError(
                f"{self.reader.where}: a checkpoint inside step {self._cursor.step}, at row {self._cursor.row}: "
                f"torchtitan's gradient accumulation is not the {self.config.micro_batches} micro-batches of "
                f"dataloader.micro_batches, so its optimizer steps are not the plan's. Set training.global_batch_size "
                f"to local_batch_size x data-parallel ranks x {self.config.micro_batches}."
            )
        return super().state_dict()

    def _examples(self, batches: Iterator[Batch]) -> Iterator[tuple[Cursor, _Example]]:
        for batch in batches:
            inputs = {
                "input": torch.from_numpy(batch.inputs.astype(np.int64)),
                "positions": torch.from_numpy(self._positions(batch)),
            }
            yield batch.cursor, (inputs, torch.from_numpy(batch.labels))

    def _positions(self, batch: Batch) -> np.ndarray[Any, np.dtype[np.int64]]:
        """int64 [rows, seq_len]"""
        if self.config.document_positions:
            return batch.varlen.position_ids
        return np.tile(np.arange(batch.seq_len), (len(batch), 1))


def configure(
    config: Any,
    dataset: str | PathLike[str],
    *,
    world_size: int,
    micro_batches: int = 1,
    document_positions: bool = True,
) -> None:
    """Set what a dataset decides in torchtitan's `Trainer.Config`, in place: the loader, steps, batch sizes, longest
    length, no CUDA graphs, and the steps of the learning-rate schedule unless they are set.

    Args:
        config: a `Trainer.Config`; its `parallelism` is final.
        dataset: folder of a finished dataset.
        world_size: all processes of the run.
        micro_batches: gradient accumulation steps.
        document_positions: see `CurriculumDataLoader.Config`.

    Raises:
        ConfigError: a kind of parallelism that cannot take these lengths.
        CursorError: data-parallel ranks x micro_batches do not divide every step.
    """
    reader = curriculum.open(dataset)
    plan, parallelism = reader.plan, config.parallelism
    tensor, context = parallelism.tensor_parallel_degree, parallelism.context_parallel_degree
    _require_lengths(plan, parallelism, reader.where)
    dp_world_size = max(1, world_size // (tensor * context))
    Share(plan=plan, world_size=dp_world_size, micro_batches=micro_batches).require_fits(0, 0, reader.where)
    config.dataloader = CurriculumDataLoader.Config(
        dataset=fspath(dataset), micro_batches=micro_batches, document_positions=document_positions
    )
    training = config.training
    training.local_batch_size, training.global_batch_size = _batch_sizes(plan, dp_world_size, micro_batches)
    training.seq_len = plan.max_seq_len  # of the RoPE cache, and of the FLOPs that the MFU is computed from
    training.steps = plan.total_steps
    training.disable_cuda_graphs = True  # on by default; a graph takes one shape and raises at the first longer step
    if config.lr_scheduler.total_steps is None:
        config.lr_scheduler.total_steps = plan.total_steps


def _batch_sizes(plan: Plan, dp_world_size: int, micro_batches: int) -> tuple[int, int]:
    """`(local_batch_size, global_batch_size)`. torchtitan uses them only to count micro-batches: where steps differ in
    rows, they are 1 and the number of micro-batches of all ranks."""
    rows = _rows_per_step(plan)
    total = rows.pop() if len(rows) == 1 else dp_world_size * micro_batches
    return total // (dp_world_size * micro_batches), total


def _rows_per_step(plan: Plan) -> set[int]:
    return {phase.rows_per_step for phase in plan.phases}


def _require_lengths(plan: Plan, parallelism: Any, where: str) -> None:
    lengths = sorted({phase.seq_len for phase in plan.phases})
    if parallelism.pipeline_parallel_degree > 1:
        raise ConfigError(
            f"{where}: pipeline_parallel_degree is {parallelism.pipeline_parallel_degree}, but the stages of a "
            f"pipeline are made for one shape, and steps of a curriculum have several; set it to 1."
        )
    tensor = parallelism.tensor_parallel_degree if parallelism.enable_sequence_parallel else 1
    context = parallelism.context_parallel_degree
    divisor = tensor * (2 * context if context > 1 else 1)
    uneven = [length for length in lengths if length % divisor]
    if uneven:
        raise ConfigError(
            f"{where}: sequence and context parallelism cut rows into {divisor} equal parts, and lengths "
            f"{', '.join(map(str, uneven))} do not divide; build with --multiple-of {divisor}, or use less of it."
        )
