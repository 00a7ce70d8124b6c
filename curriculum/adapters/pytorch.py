"""PyTorch: an iterable of int64 tensors whose state is one cursor.

In:  a dataset (a path, an address or a `Reader`), and which share of every step this process trains on.
Out: {"input_ids", "labels"} per micro-batch, int64 [rows, seq_len]; `labels` are shifted already: labels[i, j] is the
token after input_ids[i, j], or -100 where packed rows have no target (`Batch.labels`). What else there can be is
asked for: `attention=`, `shift_labels=`.
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
from dataclasses import replace
from itertools import islice
from os import PathLike

import curriculum
from curriculum.batch import IGNORED, Batch
from curriculum.cursor import Cursor
from curriculum.errors import ConfigError
from curriculum.learning_rate import LearningRate
from curriculum.plan import Plan
from curriculum.reader import Reader
from curriculum.resumable import Resumable
from curriculum.share import Share

try:
    import torch
    from torch.utils.data import IterableDataset, get_worker_info

    from curriculum.adapters.device import moved, on_device
    from curriculum.adapters.widened import Attention, Example, Wanted, Widened, widened
except ImportError as error:
    raise ImportError(
        f"curriculum.adapters.pytorch needs torch ({error}); install it with: pip install 'seqlen-curriculum[torch]'"
    ) from error

__all__ = ["CurriculumDataset", "LrLambda", "lr_lambda"]


class CurriculumDataset(Resumable[Example], IterableDataset[Example]):
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
        micro_batches: int | None = None,
        micro_tokens: int | None = None,
        attention: Attention | None = None,
        shift_labels: bool = False,
        reuse_buffer: bool = False,
        contiguous: bool = False,
        device: str | torch.device = "cpu",
    ) -> None:
        """Open the dataset.

        Args:
            dataset: folder or address of a finished dataset, or a reader of it.
            rank: this process, 0 <= rank < world_size.
            world_size: number of processes that share each global batch.
            micro_batches: micro-batches per step and rank; default 1.
            micro_tokens: instead, at most so many inputs in a micro-batch: many short rows, few long ones.
            attention: add what keeps attention inside documents: "position_ids", which models of transformers
                understand; "varlen" adds cu_seqlens (int32 tensor) and max_seqlen (int) for a loop that calls a varlen
                kernel on the rows laid end to end. None: tokens attend to the documents before theirs in the row.
            shift_labels: add labels under this name too: models of transformers shift `labels` themselves, these not.
                Both are contiguous then.
            reuse_buffer: widen into the same memory again and again: a batch is valid only until the next one is asked
                for. Several times faster than fresh memory once a batch exceeds the processor's cache.
            contiguous: give each of the two tensors memory of its own, at the price of a second widening. Tensors of
                packed rows always are, and those on other devices.
            device: where the tensors shall be. "cuda" moves the stored integers through pinned memory, one batch ahead
                of the one that is handed out, and widens them there; `reuse_buffer` has no meaning then.

        Raises:
            CursorError: the rank is none of the world, or a count is below 1.
            ConfigError: there is no such attention.
        """
        reader = dataset if isinstance(dataset, Reader) else curriculum.open(dataset)
        share = Share(
            plan=reader.plan, rank=rank, world_size=world_size, micro_batches=micro_batches, micro_tokens=micro_tokens
        )
        super().__init__(reader, share)
        self.reuse_buffer = reuse_buffer
        self.device = torch.device(device)
        self._wanted = Wanted(attention=attention, shift_labels=shift_labels, contiguous=contiguous)

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
        return super().__iter__()

    def _examples(self, batches: Iterator[Batch]) -> Iterator[tuple[Cursor, Example]]:
        return self._widened(batches) if self.device.type == "cpu" else self._moved(batches)

    def _moved(self, batches: Iterator[Batch]) -> Iterator[tuple[Cursor, Example]]:
        return on_device(batches, self.device, self._wanted)

    def _widened(self, batches: Iterator[Batch]) -> Iterator[tuple[Cursor, Example]]:
        memory: Widened | None = None
        for batch in batches:
            if memory is None or not self.reuse_buffer or memory.shape != batch.tokens.shape:
                memory = Widened(batch, self._wanted)
            else:
                memory.refill(batch)
            yield batch.cursor, memory.example(batch)

    def example(self, step: int, micro: int = 0) -> Example:
        """One micro-batch of this rank by its place, on the device, for a look aside; the state stays as it is.

        Raises:
            CursorError: there is none.
        """
        return self._aside(self.reader.micro_batch(step, micro, self.share), self._wanted)

    def _aside(self, batch: Batch, wanted: Wanted) -> Example:
        return widened(batch, wanted) if self.device.type == "cpu" else moved(batch, self.device, wanted)

    def validation(self, rows: int) -> Iterator[Example]:
        """This rank's part of the held-out rows, in batches of `rows` at the maximum length; the state stays as it is.

        Ranks take batches in turn. A rank that would come away empty in the last round gets that round's first batch
        with labels of -100 only: all ranks call the model equally often, so that collective calls in it find each
        other. Hence: sum losses and count labels that are not -100, over all ranks; no mean of means.

        Raises:
            ConfigError: the dataset was built without held-out documents.
        """
        held_out = self.reader.validation
        if held_out is None:
            raise ConfigError(
                f"{self.reader.where}: there are no held-out rows; build the dataset with --validation-tokens N."
            )
        return self._held_out(held_out.batches(rows))

    def _held_out(self, batches: Iterator[Batch]) -> Iterator[Example]:
        own_memory = replace(self._wanted, contiguous=True)  # labels can be masked without masking inputs
        while of_round := list(islice(batches, self.share.world_size)):
            mine = self.share.rank if self.share.rank < len(of_round) else 0
            example = self._aside(of_round[mine], own_memory)
            if mine != self.share.rank:
                example["labels"].fill_(IGNORED)
            yield example

    def __repr__(self) -> str:
        share = self.share
        size = (
            f"micro_tokens={share.micro_tokens}" if share.micro_tokens else f"micro_batches={share.micro_batches or 1}"
        )
        return (
            f"CurriculumDataset({self.reader!r}, rank={share.rank}, world_size={share.world_size}, {size}, "
            f"step={self._cursor.step})"
        )


class LrLambda(LearningRate):
    """A `LearningRate` for torch's `LambdaLR`; what `lr_lambda` gives.

    LambdaLR copies the `__dict__` of a callable into checkpoints and back. That of the parent class would not exist and
    that of most objects hold a plan, which `torch.load` refuses; this one is empty, as there is no state.
    """


def lr_lambda(
    plan: Plan,
    *,
    schedule: str = "cosine",
    warmup_steps: int = 0,
    final: float = 0.1,
    decay_tokens: int | None = None,
    decay_frac: float = 0.1,
) -> LrLambda:
    """What `torch.optim.lr_scheduler.LambdaLR` multiplies the optimizer's learning rate, the peak, with.

        scheduler = LambdaLR(optimizer, lr_lambda(dataset.reader.plan, warmup_steps=2000))      # one step() a step

    Args:
        plan: of the dataset.
        schedule: "cosine", "linear" or "wsd"; see `curriculum.learning_rate` for the formulas.
        warmup_steps: steps from 1 / warmup_steps of the peak to all of it.
        final: fraction of the peak at which the decay ends.
        decay_tokens: trained tokens at which it ends; None for the plan's total.
        decay_frac: of "wsd": the part of decay_tokens that decays.

    Raises:
        ConfigError: a value has no meaning, or the decay ends before the warm-up.
    """
    return LrLambda(
        plan=plan,
        schedule=schedule,
        warmup_steps=warmup_steps,
        final=final,
        decay_tokens=decay_tokens,
        decay_frac=decay_frac,
    )
