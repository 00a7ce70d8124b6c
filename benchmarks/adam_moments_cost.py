"""What `curriculum.adapters.adam_moments.measure` costs and how exact it is, beside an optimizer step.

python benchmarks/adam_moments_cost.py            # 2.6 and 124 million parameters, one thread of the CPU, 2.5 GB

Prints a line of JSON per model: least processor time of several calls, and the L1 norm's relative error against
float64; the same of three calls of `torch._foreach_norm`, which is the obvious way.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import torch

from curriculum.adapters.adam_moments import measure
from curriculum.training.gpt2 import adamw, gpt2
from curriculum.training.settings import Settings

MODELS: tuple[dict[str, Any], ...] = (
    {"layers": 4, "width": 192, "heads": 4, "vocab_size": 4096, "max_seq_len": 256},
    {"layers": 12, "width": 768, "heads": 12, "vocab_size": 50257, "max_seq_len": 1024},
)
ROUNDS = 7


def least_ms(call: Callable[[], Any]) -> float:
    """Processor time, which other programs disturb less."""
    times = []
    for _ in range(ROUNDS):
        began = time.process_time()
        call()
        times.append(time.process_time() - began)
    return round(1e3 * min(times), 1)


def main() -> None:
    torch.set_num_threads(1)
    for sizes in MODELS:
        shape = {name: sizes[name] for name in ("layers", "width", "heads")}
        settings = Settings(dataset="", out="", **shape)
        model = gpt2(settings, vocab_size=sizes["vocab_size"], max_seq_len=sizes["max_seq_len"])
        optimizer = adamw(model, settings)
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter) * 1e-3
        optimizer.step()
        moments = [state["exp_avg_sq"] for state in optimizer.state.values()]
        exact = sum(moment.sum(dtype=torch.float64).item() for moment in moments)
        error = abs(measure(optimizer)["variance_l1"] / exact - 1)
        norms = torch.stack(torch._foreach_norm(moments, 1)).double().sum().item()
        result = {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "tensors": len(moments),
            "AdamW step ms": least_ms(optimizer.step),
            "measure ms": least_ms(lambda optimizer=optimizer: measure(optimizer)),
            "error": f"{error:.0e}",
            "foreach_norm ms": least_ms(
                lambda moments=moments: [torch._foreach_norm(moments, order) for order in (1, 0.5, float("inf"))]
            ),
            "foreach_norm error": f"{abs(norms / exact - 1):.0e}",
        }
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
