"""A program for two processes: Adam's variance of one model, held in every way in which processes can hold it.

In:  started by torchrun.   Out: on process 0 one JSON object: way -> the four numbers on process 0 and on process 1.
Guarantee: all ways train the same model on the same rows of both processes, without a GPU.
"""

from __future__ import annotations

import json
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from curriculum.adapters.adam_moments import measure

STEPS = 2


def model() -> nn.Module:
    """Sizes that two processes cannot share evenly, one smaller than the number of processes."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(13, 5), nn.Linear(5, 7), nn.Linear(7, 1))


def trained(module: nn.Module, optimizer: torch.optim.Optimizer, rows: torch.Tensor) -> torch.optim.Optimizer:
    for step in range(STEPS):
        (module(rows).square().mean() * (1 + step)).backward()
        optimizer.step()
        optimizer.zero_grad()
    return optimizer


def sharded_moments(optimizer: torch.optim.Optimizer, spread: Any) -> torch.optim.Optimizer:
    """Moments of a finished run, laid out anew: `spread(number, tensor)` gives what this process holds."""
    for number, state in enumerate(optimizer.state.values()):
        state["exp_avg_sq"] = spread(number, state["exp_avg_sq"])
    return optimizer


def ways(rank: int) -> dict[str, dict[str, float]]:
    rows = torch.arange(8)
    mine = rows[4 * rank : 4 * rank + 4]
    found = {}
    one = model()
    found["alone"] = measure(trained(one, torch.optim.AdamW(one.parameters()), rows))
    ddp = DistributedDataParallel(model())
    found["ddp"] = measure(trained(ddp, torch.optim.AdamW(ddp.parameters()), mine))
    zero = DistributedDataParallel(model())
    optimizer = ZeroRedundancyOptimizer(zero.parameters(), optimizer_class=torch.optim.AdamW)
    assert measure(optimizer, loss=1.0) == {"loss": 1.0}
    found["zero"] = measure(trained(zero, optimizer, mine))

    fsdp = model()
    fully_shard(fsdp[1])
    fully_shard(fsdp)
    found["fsdp 2"] = measure(trained(fsdp, torch.optim.AdamW(fsdp.parameters()), mine))
    # Two processes make replicas or shards, so that a mesh of both has a dimension of one process.
    for name, shape in (("hsdp, two replicas", (2, 1)), ("hsdp, two shards", (1, 2))):
        hybrid = model()
        fully_shard(hybrid, mesh=init_device_mesh("cpu", shape, mesh_dim_names=("replicate", "shard")))
        found[name] = measure(trained(hybrid, torch.optim.AdamW(hybrid.parameters()), mine))

    mesh, square = init_device_mesh("cpu", (2,)), init_device_mesh("cpu", (2, 1))

    def mixture(number: int, moment: torch.Tensor) -> torch.Tensor:
        """Plain, replicated, sharded, sharded along both dimensions of a mesh, in turn."""
        if number % 4 == 0:
            return moment
        if number % 4 == 1:
            return distribute_tensor(moment, mesh, [Replicate()])
        return distribute_tensor(moment, *((mesh, [Shard(0)]) if number % 4 == 2 else (square, [Shard(0), Shard(0)])))

    again = model()
    optimizer = sharded_moments(trained(again, torch.optim.AdamW(again.parameters()), rows), mixture)
    assert any(isinstance(state["exp_avg_sq"], DTensor) for state in optimizer.state.values())
    found["mixture"] = measure(optimizer)
    plain = model()
    optimizer = sharded_moments(
        trained(plain, torch.optim.AdamW(plain.parameters()), rows),
        lambda number, moment: moment.flatten().tensor_split(2)[rank],
    )
    assert dist.group.WORLD is not None
    found["plain shards"] = measure(optimizer, group=dist.group.WORLD)
    if rank == 1:
        next(iter(optimizer.state.values())).pop("exp_avg_sq")
    found["one process lacks a moment"] = measure(optimizer, group=dist.group.WORLD)
    old = FullyShardedDataParallel(model(), device_id=torch.device("cpu"), use_orig_params=True)
    optimizer = trained(old, torch.optim.AdamW(old.parameters()), mine)
    found["fsdp 1"] = measure(optimizer, group=dist.group.WORLD)
    found["fsdp 1, no group"] = measure(optimizer)
    return found


if __name__ == "__main__":
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    mine = ways(rank)
    both: list[Any] = [None, None]
    dist.all_gather_object(both, mine)
    if rank == 0:
        print(json.dumps({name: [of_one[name] for of_one in both] for name in mine}))  # noqa: T201 - its result
    dist.destroy_process_group()
