"""The processes that share a run: those of torchrun, or this one alone.

In:  the environment that torchrun sets, and the device that was asked for.   Out: rank, number, device, and sums.
Guarantees: without torchrun nothing of torch.distributed is touched; what one process refuses, all refuse, so that none
waits for it or ends in an error of the network; a process may train one run after another.

    torchrun --standalone --nproc-per-node 2 --no-python curriculum train DATASET --out run
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from curriculum.errors import ConfigError, CurriculumError

Value = TypeVar("Value")
_JOINED = count()
"""One for each run of this process."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Processes:
    """This process among all of them."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files and speaks."""
        return self.rank == 0

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, in place."""
        if self.world_size > 1:
            dist.all_reduce(values)
        return values

    def wrap(self, model: torch.nn.Module) -> torch.nn.Module:
        """The model, with gradients averaged over the processes where there are several."""
        return DistributedDataParallel(model) if self.world_size > 1 else model

    def without_exchange(self, model: torch.nn.Module) -> AbstractContextManager[None]:
        """Gradients of a backward pass in this block stay here until the next pass outside it."""
        return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()

    def gather(self, value: Value) -> list[Value]:
        """That of each process, in the order of their ranks, once all are here."""
        values = [value] * self.world_size
        if self.world_size > 1:
            dist.all_gather_object(values, value)
        return values

    @contextmanager
    def together(self) -> Iterator[None]:
        """A block that raises on all processes what it raises on one; nothing in it may wait for another process."""
        problem: CurriculumError | OSError | None = None
        try:
            yield
        except (CurriculumError, OSError) as error:
            problem = error
        for found in self.gather(problem):
            if found is not None:
                raise found


def rank_of_torchrun() -> int | None:
    """This process's among those of torchrun; None without torchrun: clusters set a RANK of their own."""
    is_launched = {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys()
    return int(os.environ["RANK"]) if is_launched else None


@contextmanager
def processes(device: str) -> Iterator[Processes]:
    """Join the others, and leave them at the end.

    Raises:
        ConfigError: CUDA was asked for, and there is none.
    """
    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise ConfigError("device is cuda, and torch finds no such device here; give --device cpu, or auto.")
    on_gpu = has_cuda and device != "cpu"
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    chosen = torch.device("cuda", local_rank) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(chosen)
    if rank_of_torchrun() is None:
        yield Processes(rank=0, world_size=1, device=chosen)
        return
    store, rank, world_size = next(rendezvous("env://"))  # type: ignore[no-untyped-call, unused-ignore]
    restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    of_run = PrefixStore(f"curriculum-{restarts}-{next(_JOINED)}", store)  # torchrun's keeps addresses of earlier runs
    backend, bound = ("nccl", chosen) if on_gpu else ("gloo", None)
    dist.init_process_group(backend, store=of_run, rank=rank, world_size=world_size, device_id=bound)
    try:
        yield Processes(rank=rank, world_size=world_size, device=chosen)
        dist.barrier()  # a thread of gloo frees its last tensor meanwhile; in an interpreter that ends, that aborts
    finally:
        dist.destroy_process_group()
