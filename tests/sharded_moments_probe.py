"""A program for two processes: Adam's variance of one model, held in every way in which processes can hold it.

In:  started by torchrun.   Out: on process 0 one JSON object: way -> the four numbers on process 0 and on process 1.
Guarantee: all ways train the same model on the same rows of both processes, without a GPU.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy, fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from curriculum.adapters.adam_moments import measure
from curriculum.errors import ConfigError

STEPS = 2
WAIT = timedelta(seconds=60)
"""One process that waits for another ends then."""


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
    optimizer = fsdp_1(mine)
    found["fsdp 1"] = measure(optimizer, group=dist.group.WORLD)
    found["fsdp 1, no group"] = measure(optimizer)
    # What it ignores gets gradients of this process alone.
    optimizer = fsdp_1(rows, ignores_last=True)
    found["fsdp 1, the last layer ignored"] = measure(optimizer, group=dist.group.WORLD)
    optimizer = fsdp_1(mine, sharding_strategy=ShardingStrategy.NO_SHARD)
    found["fsdp 1, no shards"] = measure(optimizer, group=dist.new_subgroups(1)[0])
    found["fsdp 1, no shards, too large a group"] = measure(optimizer, group=dist.group.WORLD)
    found["an expert without a token"] = experts(rank)
    group = dist.new_group([0])
    try:
        found["group of the first"] = measure(optimizer, group=group)
    except ConfigError as error:
        found["group of the first"] = {str(error): 0.0}
    return found


def fsdp_1(rows: torch.Tensor, *, ignores_last: bool = False, **options: Any) -> torch.optim.Optimizer:
    inside = model()
    options["ignored_modules"] = [inside[2]] if ignores_last else []
    sharded = FullyShardedDataParallel(inside, device_id=torch.device("cpu"), use_orig_params=True, **options)
    return trained(sharded, torch.optim.AdamW(sharded.parameters()), rows)


def experts(rank: int) -> dict[str, float]:
    """Two parameters over groups of their own; in the first step only one process has a gradient of the first one."""
    parameters = []
    for name in ("experts", "others"):
        mesh = DeviceMesh.from_group(dist.new_group([0, 1], timeout=WAIT), "cpu", mesh_dim_names=(name,))
        parameters.append(nn.Parameter(distribute_tensor(torch.zeros(4, 2), mesh, [Shard(0)])))
    optimizer = torch.optim.AdamW(parameters, foreach=False, betas=(0.9, 0.75))
    for step in range(2):
        for parameter in parameters if rank == 0 or step == 1 else parameters[1:]:
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        numbers = measure(optimizer)
    return numbers


if __name__ == "__main__":
    dist.init_process_group("gloo", timeout=WAIT)
    rank = dist.get_rank()
    mine = ways(rank)
    both: list[Any] = [None, None]
    dist.all_gather_object(both, mine)
    if rank == 0:
        print(json.dumps({name: [of_one[name] for of_one in both] for name in mine}))  # noqa: T201 - its result
    dist.destroy_process_group()
