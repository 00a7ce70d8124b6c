"""Adam's second moment in four numbers, and whatever else a log wants, in one copy to the host.

In:  an optimizer of torch whose states have `exp_avg_sq` (Adam, AdamW, NAdam ...), after its step, maybe in a wrapper.
Out: `variance_l1`, `variance_max`, `variance_sqrt_l1`, `variance_sqrt_max` over all parameters, as floats.
Guarantees: the same numbers however the moments are sharded (see `sharded_moments`); where only a part of the
parameters has such moments in floating point (Adafactor, 8-bit optimizers, Muon) the four are left out, as numbers of a
part would pass for those of the model; no copy of all moments; the host waits once, however many parameters there are
(once more for a process group that exchanges on the host).

    exp_avg_sq 0.25 0.04 and 0.01     variance_l1 0.3    variance_max 0.25    variance_sqrt_l1 0.8    _sqrt_max 0.5

Elements are never negative, so that the L1 norm is their sum. On a CPU sums are taken a piece at a time, in cache:
`torch._foreach_norm` adds float32 one after the other there. On the 124 million parameters of GPT-2 that is 3 % off
and 1.1 s, this 1e-9 and 0.10 s, an AdamW step 0.08 s (`benchmarks/adam_moments_cost.py`, one thread). On a GPU sums
are taken as a tree, and that of all elements and the largest of them in one launch for many tensors; the sum of roots,
a launch for each tensor, is the root of the norm of order 1/2, by its formula (sum of x ** p) ** (1 / p).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import pad

from curriculum.adapters.sharded_moments import REPEATED, parts_of, total

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_log = logging.getLogger(__name__)
_PIECE = 1 << 18
"""Elements: a megabyte, which stays in the cache between the passes over it."""
_NUMBERS = ("_is_repeated", "_lacking", "_count", "variance_l1", "variance_sqrt_l1", "variance_max")
"""Of all processes: whether shards are none, processes without the moments of a parameter, tensors of moments, and what
is measured."""
_unmeasured: set[str] = set()
"""Optimizers that were spoken of."""


def measure(
    optimizer: torch.optim.Optimizer, *, group: ProcessGroup | None = None, **scalars: torch.Tensor | float | None
) -> dict[str, float]:
    """The four numbers; and `scalars`, tensors of one element on any device or floats, as floats beside them.

    Before the optimizer's first step there are no moments: the four are left out. Where moments or `scalars` are
    sharded, all processes must call it, as often as each other: the numbers of the shards are exchanged.

    Args:
        optimizer: of torch, or a wrapper of DeepSpeed, Accelerate or Lightning around one.
        group: the processes over which plain tensors are sharded, each element on one of them, where the optimizer does
            not say so itself. Of FSDP version 1: that hold one copy of the parameters, which are all processes for
            FULL_SHARD, the shard group for HYBRID_SHARD, each process alone for NO_SHARD; what FSDP ignores is not
            added. None: as the optimizer says; else each process has all of them.
        **scalars: taken to the host in the same copy; of a DTensor, as `clip_grad_norm_` returns it for FSDP 2 and
            tensor parallelism, the whole; None, as DeepSpeed has for a norm that it did not take, is left out.

    Raises:
        ConfigError: this process is not in the group.
    """
    known = {name: value for name, value in scalars.items() if value is not None}
    found = {name: _whole(value.detach()) for name, value in known.items() if isinstance(value, torch.Tensor)}
    parts, lacking = parts_of(optimizer, group)
    if lacking:
        _say_once(lacking)
    if parts:  # exchanged also by a process whose moments are lacking: the others wait for it
        rows = {groups: torch.zeros(4) if lacking else _numbers(moments) for groups, moments in parts.items()}
        numbers = total({groups: pad(row, (1, 0), value=float(bool(lacking))) for groups, row in rows.items()}, group)
        found |= dict(zip(_NUMBERS, numbers, strict=True))
    values = _on_host(found)
    of_adam = {name: values.pop(name) for name in _NUMBERS if name in values}
    given = {name: values[name] if name in values else float(value) for name, value in known.items()}
    if of_adam.pop("_is_repeated", 0.0):
        _say_once(REPEATED)
        return given
    if of_adam.pop("_lacking", 0.0) or not of_adam.pop("_count", 0.0):
        return given
    # The root is taken here: a root of float32 on the device would be another number than the largest root.
    return {**given, **of_adam, "variance_sqrt_max": of_adam["variance_max"] ** 0.5}


def _whole(value: Any) -> torch.Tensor:
    """A norm of shards may be a part on each process, that is to be reduced, not read."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value  # type: ignore[no-any-return]


def _numbers(moments: list[torch.Tensor]) -> torch.Tensor:
    """[4]: number of tensors, sum, sum of roots, largest."""
    moments = [moment for moment in moments if moment.numel()]
    if not moments:
        return torch.zeros(4)
    on_cpu = [moment for moment in moments if moment.device.type == "cpu"]
    of_device: dict[torch.device, list[torch.Tensor]] = {}
    for moment in moments:
        if moment.device.type != "cpu":
            of_device.setdefault(moment.device, []).append(moment)
    rows = [_by_pieces(on_cpu)] if on_cpu else []
    rows += [_by_tensors(of_one) for of_one in of_device.values()]
    device = rows[-1].device
    stacked = torch.stack([row.to(device) for row in rows])
    return torch.cat([stacked[:, :3].sum(0), stacked[:, 3:].amax(0)])


def _by_pieces(moments: list[torch.Tensor]) -> torch.Tensor:
    """For a CPU."""
    sums, roots, largest = [], [], []
    for moment in moments:
        for piece in torch.split(moment.detach().reshape(-1), _PIECE):
            exact = piece.float() if piece.dtype.itemsize < 4 else piece
            sums.append(exact.sum())
            roots.append(exact.sqrt().sum())
            largest.append(exact.max())
    summed = [torch.stack(of_pieces).double().sum() for of_pieces in (sums, roots)]
    count = torch.tensor(float(len(moments)), dtype=torch.float64)
    return torch.stack([count, *summed, torch.stack(largest).double().max()])


def _by_tensors(moments: list[torch.Tensor]) -> torch.Tensor:
    """For a GPU."""
    exact = None if moments[0].dtype.itemsize >= 4 else torch.float32
    wide = torch.float32 if moments[0].device.type == "mps" else torch.float64
    norms = [torch.stack(torch._foreach_norm(moments, order, dtype=exact)) for order in (1.0, 0.5, float("inf"))]
    count = torch.full((), len(moments), dtype=wide, device=moments[0].device)
    return torch.stack([count, norms[0].to(wide).sum(), norms[1].to(wide).sqrt().sum(), norms[2].to(wide).max()])


def _on_host(values: dict[str, torch.Tensor]) -> dict[str, float]:
    """One copy, and one wait, from the device of the first that is on one."""
    if not values:
        return {}
    device = next((value.device for value in values.values() if value.device.type != "cpu"), torch.device("cpu"))
    wide = torch.float32 if device.type == "mps" else torch.float64
    numbers = torch.stack([value.to(device, wide).reshape(()) for value in values.values()]).tolist()
    return dict(zip(values, numbers, strict=True))


def _say_once(lacking: str) -> None:
    if lacking not in _unmeasured:
        _unmeasured.add(lacking)
        _log.warning("%s The log goes without Adam's variance.", lacking)
