"""A program for two processes: Adam's variance of one model, held in every way in which processes can hold it.

In:  started by torchrun.   Out: on process 0 one JSON object: way -> the four numbers and the norm of the
gradients on process 0 and on process 1.
Guarantee: all ways train the same model on the same rows of both processes, without a GPU.
"""

from __future__ import annotations

import json
import math
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy, fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
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


def trained(module: nn.Module, rows: torch.Tensor, optimizer: torch.optim.Optimizer | None = None) -> dict[str, Any]:
    """What `measure` takes: the optimizer, by default AdamW, and of the last step the norm as it came."""
    optimizer = optimizer or torch.optim.AdamW(module.parameters())
    for step in range(STEPS):
        (module(rows).square().mean() * (1 + step)).backward()
        if isinstance(module, FullyShardedDataParallel):
            norm = module.clip_grad_norm_(math.inf)
        else:
            norm = torch.nn.utils.clip_grad_norm_(module.parameters(), math.inf)
        optimizer.step()
        optimizer.zero_grad()
    return {"optimizer": optimizer, "grad_norm": norm}


def sharded_moments(run: dict[str, Any], spread: Any) -> dict[str, Any]:
    """Moments of a finished run, laid out anew: `spread(number, tensor)` gives what this process holds."""
    for number, state in enumerate(run["optimizer"].state.values()):
        state["exp_avg_sq"] = spread(number, state["exp_avg_sq"])
    return run


def ways(rank: int) -> dict[str, dict[str, float]]:
    rows = torch.arange(8)
    mine = rows[4 * rank : 4 * rank + 4]
    found = {}
    found["alone"] = measure(**trained(model(), rows))
    found["ddp"] = measure(**trained(DistributedDataParallel(model()), mine))
    zero = DistributedDataParallel(model())
    optimizer = ZeroRedundancyOptimizer(zero.parameters(), optimizer_class=torch.optim.AdamW)
    assert measure(optimizer, loss=1.0) == {"loss": 1.0}
    found["zero"] = measure(**trained(zero, mine, optimizer))

    fsdp = model()
    fully_shard(fsdp[1])
    fully_shard(fsdp)
    run = trained(fsdp, mine)
    assert isinstance(run["grad_norm"], DTensor)
    found["fsdp 2"] = measure(**run)
    # Two processes make replicas or shards, so that a mesh of both has a dimension of one process.
    for name, shape in (("hsdp, two replicas", (2, 1)), ("hsdp, two shards", (1, 2))):
        hybrid = model()
        fully_shard(hybrid, mesh=init_device_mesh("cpu", shape, mesh_dim_names=("replicate", "shard")))
        found[name] = measure(**trained(hybrid, mine))

    mesh, square = init_device_mesh("cpu", (2,)), init_device_mesh("cpu", (2, 1))

    def mixture(number: int, moment: torch.Tensor) -> torch.Tensor:
        """Plain, replicated, sharded, sharded along both dimensions of a mesh and of the tensor, in turn."""
        if number % 4 == 0:
            return moment
        if number % 4 == 1:
            return distribute_tensor(moment, mesh, [Replicate()])
        return distribute_tensor(moment, *((mesh, [Shard(0)]) if number % 4 == 2 else (square, [Shard(1), Shard(0)])))

    run = sharded_moments(trained(model(), rows), mixture)
    assert any(isinstance(state["exp_avg_sq"], DTensor) for state in run["optimizer"].state.values())
    run["grad_norm"] = DTensor.from_local(run["grad_norm"] / 2, mesh, [Partial()])  # to be added, not read
    found["mixture"] = measure(**run)
    run = sharded_moments(trained(model(), rows), lambda number, moment: moment.flatten().tensor_split(2)[rank].clone())
    assert dist.group.WORLD is not None
    found["plain shards"] = measure(**run, group=dist.group.WORLD)
    if rank == 1:
        next(iter(run["optimizer"].state.values())).pop("exp_avg_sq")
    found["one process lacks a moment"] = measure(**run, group=dist.group.WORLD)
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(4))])
    optimizer.param_groups[0]["params"][0].grad = torch.zeros(4)
    optimizer.step()
    found["plain shards of zeros"] = measure(optimizer, group=dist.group.WORLD)
    run = fsdp_1(mine)
    found["fsdp 1"] = measure(**run, group=dist.group.WORLD)
    found["fsdp 1, no group"] = measure(**run)
    # What it ignores gets gradients of this process alone.
    found["fsdp 1, the last layer ignored"] = measure(**fsdp_1(rows, ignores_last=True), group=dist.group.WORLD)
    run = fsdp_1(mine, sharding_strategy=ShardingStrategy.NO_SHARD)
    found["fsdp 1, no shards"] = measure(**run, group=dist.new_subgroups(1)[0])
    found["fsdp 1, no shards, too large a group"] = measure(**run, group=dist.group.WORLD)
    found["an expert without a token"] = experts(rank)
    group = dist.new_group([0])
    try:
        found["group of the first"] = measure(**run, group=group)
    except ConfigError as error:
        found["group of the first"] = {str(error): 0.0}
    return found


def fsdp_1(rows: torch.Tensor, *, ignores_last: bool = False, **options: Any) -> dict[str, Any]:
    inside = model()
    options["ignored_modules"] = [inside[2]] if ignores_last else []
    return trained(
        FullyShardedDataParallel(inside, device_id=torch.device("cpu"), use_orig_params=True, **options), rows
    )


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
