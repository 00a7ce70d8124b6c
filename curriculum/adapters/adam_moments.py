"""Adam's second moment in four numbers, and whatever else a log wants, in one copy to the host.

In:  an optimizer of torch whose states have `exp_avg_sq` (Adam, AdamW, NAdam ...), after its step.
Out: `variance_l1`, `variance_max`, `variance_sqrt_l1`, `variance_sqrt_max` over all parameters, as floats.
Guarantee: no copy of the moments is made and the host waits once, however many parameters there are.

    exp_avg_sq 0.25 0.04 and 0.01     variance_l1 0.3    variance_max 0.25    variance_sqrt_l1 0.8    _sqrt_max 0.5

Elements are never negative, so that the L1 norm is their sum, and the sum of their roots the root of the norm of order
1/2 ("norm" by its formula: (sum of x ** p) ** (1 / p)).
"""

from __future__ import annotations

import torch


def measure(optimizer: torch.optim.Optimizer, **scalars: torch.Tensor | float) -> dict[str, float]:
    """The four numbers; and `scalars`, tensors of one element on any device or floats, as floats beside them.

    Before the optimizer's first step there are no moments: the four are left out.
    """
    moments = [state["exp_avg_sq"] for state in optimizer.state.values() if "exp_avg_sq" in state]
    found = {name: torch.as_tensor(value) for name, value in scalars.items()}
    if moments:
        largest = torch.stack(torch._foreach_norm(moments, float("inf"))).max()
        found |= {
            "variance_l1": torch.stack(torch._foreach_norm(moments, 1)).sum(),
            "variance_max": largest,
            "variance_sqrt_l1": torch.stack(torch._foreach_norm(moments, 0.5)).sqrt().sum(),
            "variance_sqrt_max": largest.sqrt(),
        }
    device = moments[0].device if moments else torch.device("cpu")
    on_host = torch.stack([value.detach().to(device, torch.float64).reshape(()) for value in found.values()]).tolist()
    return dict(zip(found, on_host, strict=True))
