"""Which part of Adam's second moments a process holds, and the numbers of all parts together.

In:  an optimizer, maybe inside wrappers.   Out: local tensors, by the process groups over which they are sharded.
Guarantee: what several processes hold alike is counted once, what they hold in parts is added.

    DDP, plain tensors                      sharded over no group: nothing is exchanged
    FSDP 2, tensor parallelism: DTensors    over the groups of the mesh dimensions along which they are not replicated
    ZeRO of torch or DeepSpeed              over the group of the optimizer
    FSDP 1                                  over the group that the caller names; what it ignores, over none
    other plain shards                      over the group that the caller names

Shards of one group are exchanged at once, whatever they belong to: one small collective call for FSDP, with replicas
beside it (HSDP) or not, and for ZeRO; two for FSDP with tensor parallelism.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from curriculum.errors import ConfigError

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    Groups = tuple[ProcessGroup, ...]
    """A tensor's shards are spread over all of them: each is one dimension of a mesh."""

_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_WHICH_GROUP = (
    "measure(..., group=...) or StabilityCallback(..., group=...) takes the processes that hold one copy of the "
    "parameters between them: with FULL_SHARD torch.distributed.group.WORLD, with HYBRID_SHARD the shard group, with "
    "NO_SHARD this process alone, torch.distributed.new_subgroups(1)[0]."
)
REPEATED = f"Processes of the group that was given hold the same second moments, so it is too large: {_WHICH_GROUP}"


def parts_of(optimizer: Any, group: ProcessGroup | None) -> tuple[dict[Groups, list[torch.Tensor]], str | None]:
    """Local tensors of the second moments, and why they are not all there are; a sentence, or None if they are.

    The keys are the same, in one order, on all processes of a group, also where one has no tensor of a kind yet: an
    expert that got no token there has no state. So they come from the parameters.

    Raises:
        ConfigError: this process is not in the group.
    """
    if isinstance(group, int):
        raise ConfigError(
            "group is one that this process is not in, as torch.distributed.new_group returns it there. Give every "
            "process the group in which its shards are."
        )
    inside, of_optimizer = _unwrapped(optimizer)
    group = group or of_optimizer
    # DeepSpeed 3 has parameters in its groups only while it steps.
    of_groups = (parameter for held in inside.param_groups for parameter in held["params"])
    parameters = dict.fromkeys([*of_groups, *inside.state])
    is_fsdp_1 = any(map(_is_flattened, parameters))

    def groups_of(parameter: torch.Tensor) -> Groups:
        laid_out = _sharded_over(parameter)
        if laid_out is None:
            return () if group is None or (is_fsdp_1 and not _is_flattened(parameter)) else (group,)
        return laid_out

    parts: dict[Groups, list[torch.Tensor]] = {(group,): []} if group is not None else {}
    for parameter in parameters:
        parts.setdefault(groups_of(parameter), [])
    lacking = None
    if is_fsdp_1 and group is None:
        lacking = f"Parameters are held by FSDP version 1, whose shards look like whole tensors: {_WHICH_GROUP}"
    elif not inside.state and not any("betas" in held for held in inside.param_groups):
        lacking = _without_moment(inside, {})  # SGD never has any
    for parameter, state in inside.state.items():
        if not state:
            continue
        moment = state.get("exp_avg_sq")
        groups = _sharded_over(moment)
        if groups is not None:
            moment = moment.to_local()
        if type(moment) not in (torch.Tensor, torch.nn.Parameter) or moment.dtype not in _FLOATS:
            lacking = lacking or _without_moment(inside, state)
        else:
            parts.setdefault(groups_of(parameter) if groups is None else groups, []).append(moment)
    return parts, lacking


def total(of_parts: dict[Groups, torch.Tensor], given: ProcessGroup | None) -> torch.Tensor:
    """The numbers of all parts on all processes together, and before them whether that counts something twice.

    Args:
        of_parts: of each part a row of numbers, of which the last is a maximum and the others are added.
        given: a group that the caller named: where two of its processes have one row, they are no shards.
    """
    numbers = dict(of_parts)
    is_repeated = torch.zeros(1)
    for group in dict.fromkeys(group for groups in numbers for group in groups):
        shared = [groups for groups in numbers if group in groups]
        mine = torch.stack([numbers[groups].double() for groups in shared]).to(_device_of(group))
        of_all = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
        dist.all_gather(of_all, mine, group=group)
        for number, groups in enumerate(shared):
            rows = [of_one[number] for of_one in of_all]
            numbers[groups] = combined(rows)
            if groups == (given,):
                is_repeated = _is_repeated(torch.stack(rows))
    found = combined(list(numbers.values()))
    return torch.cat([is_repeated.to(found), found])


def _is_repeated(rows: torch.Tensor) -> torch.Tensor:
    """[1]: whether two are the same to the bit. Those of zeros, or of what is not finite, add up to the same anyway."""
    rows = rows[rows.sum(1).argsort()]
    is_same = (rows[1:] == rows[:-1]).all(1) & (rows[1:, -1] > 0) & rows[1:].isfinite().all(1)
    return is_same.any().reshape(1)


def combined(rows: list[torch.Tensor]) -> torch.Tensor:
    """Sums of all columns but the last, the largest of the last; NaN wherever there is one."""
    device = next((row.device for row in rows if row.device.type != "cpu"), torch.device("cpu"))
    stacked = torch.stack([row.to(device) for row in rows])
    return torch.cat([stacked[:, :-1].sum(0), stacked[:, -1:].amax(0)])


def _is_flattened(parameter: torch.Tensor) -> bool:
    """Whether FSDP version 1 shards it, or would with another strategy."""
    return bool(getattr(parameter, "_fsdp_flattened", False))


def _sharded_over(held: Any) -> Groups | None:
    """Of a DTensor; None of anything else."""
    mesh = getattr(held, "device_mesh", None)
    if mesh is None:
        return None
    return tuple(mesh.get_group(dim) for dim, placed in enumerate(held.placements) if not placed.is_replicate())


def _without_moment(optimizer: Any, state: dict[str, Any]) -> str:
    return (
        f"{type(optimizer).__name__} does not keep exp_avg_sq in floating point for every parameter (one has "
        f"{', '.join(sorted(map(str, state))) or 'no state'})."
    )


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
