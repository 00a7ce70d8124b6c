"""PyTorch: an iterable of int64 tensors whose state is one cursor.

In:  a dataset (a path or a `Reader`), and which share of every step this process trains on.
Out: {"input_ids", "labels"} per micro-batch, int64 [rows, seq_len]; `labels` are shifted already: labels[i, j] is the
token after input_ids[i, j], or -100 where packed rows have no target (`Batch.labels`).
Guarantee: one widening copy per batch and no other work (torch cannot embed uint16); the state is the same on every
rank and fits every world size; nothing of torch.distributed is called.

    dataset = CurriculumDataset("curriculum-data", rank=0, world_size=8, micro_batches=4)
    loader = DataLoader(dataset, batch_size=None, num_workers=0)        # or iterate over `dataset` itself
    stored row  5 6 7 0 8   ->   input_ids  5 6 7 0     labels  6 7 0 8
    packed row  5 6 0 8 0   ->   input_ids  5 6 0 8     labels  6 0 -100 0        pieces 5 6 0 and 8 0

`input_ids` and `labels` are two views of one copy, so their rows are not back to back: flatten them with
`labels.flatten()` or `.reshape(-1)`; `.view(-1)` refuses. `contiguous=True` widens twice for code that insists on it.
Packed rows are always widened twice: a -100 in one shared memory would also be an input.
"""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

import curriculum
from curriculum.batch import Batch, TokenArray
from curriculum.cursor import Cursor
from curriculum.errors import ConfigError
from curriculum.reader import Reader

Example = dict[str, torch.Tensor]


class CurriculumDataset(IterableDataset[Example]):
    """The micro-batches of one rank, in training order, as a torch dataset.

    Every `iter` begins at the cursor that was loaded last, or at step 0. A pass that reached the end makes the next one
    begin at step 0.
    """

    def __init__(
        self,
        dataset: str | PathLike[str] | Reader,
        *,
        rank: int = 0,
        world_size: int = 1,
        micro_batches: int = 1,
        reuse_buffer: bool = False,
        contiguous: bool = False,
    ) -> None:
        """Open the dataset.

        Args:
            dataset: folder of a finished dataset, or a reader of it.
            rank: this process, 0 <= rank < world_size.
            world_size: number of processes that share each global batch.
            micro_batches: batches per step and rank.
            reuse_buffer: widen into the same memory again and again: a batch is valid only until the next one is asked
                for. Several times faster than fresh memory once a batch exceeds the processor's cache.
            contiguous: give each of the two tensors memory of its own, at the price of a second widening. Tensors of
                packed rows always are.
        """
        super().__init__()
        self.reader = dataset if isinstance(dataset, Reader) else curriculum.open(dataset)
        self.rank = rank
        self.world_size = world_size
        self.micro_batches = micro_batches
        self.reuse_buffer = reuse_buffer
        self.contiguous = contiguous
        self._start = self._cursor = Cursor(self.reader.id, 0)

    def __iter__(self) -> Iterator[Example]:
        """The micro-batches that remain.

        Raises:
            CursorError: at once, if world_size x micro_batches does not divide every remaining step.
            ConfigError: a DataLoader worker asks.
        """
        worker = get_worker_info()
        if worker is not None:
            raise ConfigError(
                f"This dataset is read in a DataLoader worker (num_workers={worker.num_workers}); use num_workers=0. "
                f"A batch is a view of a mapped file: sending it between processes takes 25 to 35 times as long as "
                f"reading it, and the state would run ahead of training by what the workers prefetch."
            )
        batches = self._batches(self._start)
        self._cursor = self._start
        return self._widened(batches)

    def __len__(self) -> int:
        """Micro-batches of one whole pass over the dataset, whatever was loaded.

        Trainers compare it with a count that includes the batches before a restart (Lightning), or compute epochs from
        it (Hugging Face); a number that shrank after a restart would end training early.
        """
        return len(self.reader) * self.micro_batches

    @property
    def cursor(self) -> Cursor:
        """The state after the last batch that was handed out."""
        return self._cursor

    def state_dict(self) -> dict[str, Any]:
        """The cursor as plain values: save it on any one rank, load it on all, on any number of them."""
        return self._cursor.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken; takes effect at the next `iter`.

        Raises:
            CursorError: at once: the state is of another dataset, or rank, world_size and micro_batches do not fit it.
        """
        cursor = Cursor.from_state_dict(state)
        self._batches(cursor)
        self._start = self._cursor = cursor

    def _batches(self, start: Cursor) -> Iterator[Batch]:
        return self.reader.steps(start, self.rank, self.world_size, self.micro_batches)

    def _widened(self, batches: Iterator[Batch]) -> Iterator[Example]:
        memory: _Memory | None = None
        for batch in batches:
            if memory is None or not self.reuse_buffer or memory.shape != batch.tokens.shape:
                memory = _Memory(batch, contiguous=self.contiguous)
            else:
                memory.refill(batch)
            self._cursor = batch.cursor
            yield {"input_ids": memory.input_ids, "labels": memory.labels}
        self._start = Cursor(self.reader.id, 0)

    def __repr__(self) -> str:
        return (
            f"CurriculumDataset({self.reader!r}, rank={self.rank}, world_size={self.world_size}, "
            f"micro_batches={self.micro_batches}, step={self._cursor.step})"
        )


class _Memory:
    """A batch widened to int64 in memory of its own, and the two tensors that lie in it.

    numpy does the widening: `torch.from_numpy` warns about a read-only map, and numpy takes huge pages from 4 MiB on.
    """

    __slots__ = ("_arrays", "input_ids", "labels", "shape")

    def __init__(self, batch: Batch, *, contiguous: bool) -> None:
        tokens = batch.tokens
        self.shape = tokens.shape
        self._arrays: tuple[TokenArray, ...]
        if contiguous or batch.num_tokens is not None:
            inputs, labels = tokens[:, :-1].astype(np.int64), batch.labels
            self._arrays = (inputs, labels)
        else:
            whole = tokens.astype(np.int64)
            inputs, labels = whole[:, :-1], whole[:, 1:]
            self._arrays = (whole,)
        self.input_ids = torch.from_numpy(inputs)
        self.labels = torch.from_numpy(labels)

    def refill(self, batch: Batch) -> None:
        """The same memory with another batch of the same shape."""
        if len(self._arrays) == 1:
            np.copyto(self._arrays[0], batch.tokens)
        else:
            np.copyto(self._arrays[0], batch.inputs)
            batch.write_labels(self._arrays[1])
