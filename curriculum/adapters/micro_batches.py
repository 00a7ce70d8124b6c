"""PyTorch, map-style: item i is one micro-batch, for trainers that choose indices themselves (Hugging Face `Trainer`).

In:  a dataset, the number of processes W, micro-batches per step.
Out: `MicroBatches`: item i is the micro-batch of rank i % W, step after step and, in a step, micro after micro.
Guarantee: read with `batch_size=1`, in order, by a sampler that deals items to ranks in turn, every rank trains on its
part of every step, and no step mixes two lengths. Only the shards of items that are asked for are opened.

    W = 2, 2 micro-batches of 2 rows      item    0       1       2       3       4
                                          step    0       0       0       0       1
                                          rows    0 1     2 3     4 5     6 7     0 1
                                          rank    0       1       0       1       0
"""

from __future__ import annotations

from os import PathLike
from typing import Any, SupportsIndex

import curriculum
from curriculum.batch import Batch
from curriculum.reader import Reader
from curriculum.share import Share

try:
    from torch.utils.data import Dataset

    from curriculum.adapters.widened import Attention, Example, Wanted, widened
except ImportError as error:
    raise ImportError(
        f"curriculum.adapters.micro_batches needs torch ({error}); "
        f"install it with: pip install 'seqlen-curriculum[torch]'"
    ) from error

__all__ = ["MicroBatches"]


class MicroBatches(Dataset[Example]):
    """All micro-batches of all ranks as a sequence; see the module."""

    def __init__(
        self,
        dataset: str | PathLike[str] | Reader,
        *,
        world_size: int = 1,
        micro_batches: int | None = None,
        micro_tokens: int | None = None,
        attention: Attention | None = None,
        shift_labels: bool = False,
    ) -> None:
        """Open the dataset: one manifest is read.

        Args:
            dataset: folder or address of a finished dataset, or a reader of it.
            world_size: number of processes W that share each global batch.
            micro_batches: micro-batches per step and rank, the trainer's gradient accumulation steps; default 1.
            micro_tokens: instead, at most so many inputs in a micro-batch. Their number then changes with the length:
                only for trainers that do not count with a fixed one.
            attention: add what keeps attention inside documents; see `CurriculumDataset`.
            shift_labels: add labels under this name too, for models of transformers.

        Raises:
            CursorError: W x micro_batches does not divide the rows of every step.
        """
        self.reader = dataset if isinstance(dataset, Reader) else curriculum.open(dataset)
        self.share = Share(
            plan=self.reader.plan, world_size=world_size, micro_batches=micro_batches, micro_tokens=micro_tokens
        )
        self.share.require_fits(0, 0, self.reader.where)
        self._wanted = Wanted(attention=attention, shift_labels=shift_labels, contiguous=True)
        self._shares = {0: self.share}

    def __len__(self) -> int:
        """Micro-batches of a whole pass, of all ranks."""
        return len(self.share) * self.share.world_size

    def batch(self, index: SupportsIndex) -> Batch:
        """The numpy views of an item, with its step, micro-batch and cursor.

        Raises:
            IndexError: there is no such item.
        """
        i, rank = divmod(index.__index__(), self.share.world_size)
        step, micro = self.share.at(i)
        return self.reader.micro_batch(step, micro, self._share_of(rank))

    def __getitem__(self, index: SupportsIndex) -> Example:
        """One micro-batch: input_ids, labels and what was asked for, each contiguous and in memory of its own."""
        return widened(self.batch(index), self._wanted)

    def _share_of(self, rank: int) -> Share:
        """Made when first asked for: in a trainer one process asks for few ranks of many."""
        if rank not in self._shares:
            of_rank0 = self.share
            self._shares[rank] = Share(
                plan=of_rank0.plan,
                rank=rank,
                world_size=of_rank0.world_size,
                micro_batches=of_rank0.micro_batches,
                micro_tokens=of_rank0.micro_tokens,
            )
        return self._shares[rank]

    def __getstate__(self) -> dict[str, Any]:
        """Without the shares of the ranks that this process asked for."""
        return {**self.__dict__, "_shares": {0: self.share}}

    def __repr__(self) -> str:
        share = self.share
        size = (
            f"micro_tokens={share.micro_tokens}" if share.micro_tokens else f"micro_batches={share.micro_batches or 1}"
        )
        return f"MicroBatches({self.reader!r}, world_size={share.world_size}, {size}: {len(self):,} items)"
