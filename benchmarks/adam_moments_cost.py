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
from curriculum.tokenizer_entry import TokenizerEntry
from curriculum.training.gpt2 import adamw, gpt2
from curriculum.training.settings import Settings

MODELS: tuple[dict[str, int], ...] = (
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


def cost(*, vocab_size: int, max_seq_len: int, **shape: int) -> dict[str, Any]:
    """Of a GPT-2 with `shape`."""
    settings = Settings(dataset="", out="", **shape)
    model = gpt2(
        settings, TokenizerEntry(vocab_size=vocab_size, bos_id=0, eos_id=0, sha256=""), max_seq_len=max_seq_len
    )
    optimizer = adamw(model, settings)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter) * 1e-3
    optimizer.step()
    moments = [state["exp_avg_sq"] for state in optimizer.state.values()]
    exact = sum(moment.sum(dtype=torch.float64).item() for moment in moments)
    error = abs(measure(optimizer)["variance_l1"] / exact - 1)
    norms = torch.stack(torch._foreach_norm(moments, 1)).double().sum().item()
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tensors": len(moments),
        "AdamW step ms": least_ms(optimizer.step),
        "measure ms": least_ms(lambda: measure(optimizer)),
        "error": f"{error:.0e}",
        "foreach_norm ms": least_ms(lambda: [torch._foreach_norm(moments, order) for order in (1, 0.5, float("inf"))]),
        "foreach_norm error": f"{abs(norms / exact - 1):.0e}",
    }


def main() -> None:
    torch.set_num_threads(1)
    for sizes in MODELS:
        print(json.dumps(cost(**sizes)), flush=True)


if __name__ == "__main__":
    main()
