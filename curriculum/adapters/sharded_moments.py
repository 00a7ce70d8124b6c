"""Which part of Adam's second moments a process holds, and the numbers of all parts together.

In:  an optimizer, maybe inside wrappers.   Out: local tensors, by the process groups over which they are sharded.
Guarantee: what several processes hold alike is counted once, what they hold in parts is added.

    DDP, plain tensors                      sharded over no group: nothing is exchanged
    FSDP 2, tensor parallelism: DTensors    over the groups of the mesh dimensions along which they are not replicated
    ZeRO of torch or DeepSpeed              over the group of the optimizer
    other plain shards (FSDP 1)             over the group that the caller names; FSDP 1 without one is refused

Shards of one group are exchanged at once, whatever they belong to: one small collective call for FSDP, with replicas
beside it (HSDP) or not, and for ZeRO; two for FSDP with tensor parallelism.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    Groups = tuple[ProcessGroup, ...]
    """A tensor's shards are spread over all of them: each is one dimension of a mesh."""

_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def parts_of(optimizer: Any, group: ProcessGroup | None) -> tuple[dict[Groups, list[torch.Tensor]], str | None]:
    """Local tensors of the second moments, and why they are not all there are; a sentence, or None if they are.

    The keys are the same on all processes of a group, also where one has no tensor of a kind.
    """
    inside, of_optimizer = _unwrapped(optimizer)
    group = group or of_optimizer
    parts: dict[Groups, list[torch.Tensor]] = {(group,): []} if group is not None else {}
    lacking = None
    for parameter, state in inside.state.items():
        if not state:
            continue
        moment = state.get("exp_avg_sq")
        groups: Groups = () if group is None else (group,)
        laid_out = next((held for held in (moment, parameter) if hasattr(held, "device_mesh")), None)
        if laid_out is not None and (laid_out is moment or moment is None):
            mesh = laid_out.device_mesh
            groups = tuple(
                mesh.get_group(dim) for dim, placed in enumerate(laid_out.placements) if not placed.is_replicate()
            )
        if laid_out is moment and moment is not None:
            moment = moment.to_local()
        parts.setdefault(groups, [])  # also where it is lacking: the others of the group exchange
        if group is None and getattr(parameter, "_fsdp_flattened", False):
            lacking = (
                "Parameters are held by FSDP version 1, whose shards look like whole tensors: name its processes, "
                "measure(..., group=...) or StabilityCallback(..., group=...), such as torch.distributed.group.WORLD."
            )
            continue
        if type(moment) not in (torch.Tensor, torch.nn.Parameter) or moment.dtype not in _FLOATS:
            kept = ", ".join(sorted(map(str, state)))
            lacking = (
                f"{type(inside).__name__} does not keep exp_avg_sq in floating point for every parameter (one has "
                f"{kept})."
            )
            continue
        parts[groups].append(moment)
    return parts, lacking


def total(of_parts: dict[Groups, torch.Tensor]) -> torch.Tensor:
    """The numbers of all parts on all processes together.

    Args:
        of_parts: of each part a row of numbers, of which the last is a maximum and the others are added.
    """
    numbers = dict(of_parts)
    for group in dict.fromkeys(group for groups in numbers for group in groups):
        shared = [groups for groups in numbers if group in groups]
        mine = torch.stack([numbers[groups].double() for groups in shared]).to(_device_of(group))
        of_all = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
        dist.all_gather(of_all, mine, group=group)
        for number, groups in enumerate(shared):
            numbers[groups] = combined([of_one[number] for of_one in of_all])
    return combined(list(numbers.values()))


def combined(rows: list[torch.Tensor]) -> torch.Tensor:
    """Sums of all columns but the last, the largest of the last; NaN wherever there is one."""
    device = next((row.device for row in rows if row.device.type != "cpu"), torch.device("cpu"))
    stacked = torch.stack([row.to(device) for row in rows])
    return torch.cat([stacked[:, :-1].sum(0), stacked[:, -1:].amax(0)])


def _unwrapped(optimizer: Any) -> tuple[Any, ProcessGroup | None]:
    """The optimizer of torch, and the group over which a wrapper of it (ZeRO) shards plain tensors."""
    group = None
    while True:
        if hasattr(optimizer, "optim") and hasattr(optimizer, "process_group"):  # torch's ZeroRedundancyOptimizer
            group, optimizer = optimizer.process_group, optimizer.optim
        elif hasattr(getattr(optimizer, "optimizer", None), "param_groups"):
            group = getattr(optimizer, "dp_process_group", group)  # DeepSpeed, stages 1 to 3
            optimizer = optimizer.optimizer
        else:
            return optimizer, group


def _device_of(group: ProcessGroup) -> torch.device:
    """Where all its processes can exchange, also one that has no tensor of its own to go by: the host where it can."""
    kinds = {device.type for device in group._device_types}
    if "cuda" in kinds and "cpu" not in kinds:
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu") if "cpu" in kinds else next(iter(group._device_types))
