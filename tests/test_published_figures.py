"""Figures that docs/curricula.md states, worked out exactly: no sampling, no data."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, log
from pathlib import Path
from statistics import NormalDist

import pytest

from curriculum.flops import ModelSize, plan_flops
from curriculum.shape_budget import shape_table
from pipeline.option_sources import load_options
from pipeline.requested_plan import compile_requested

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "curricula.md").read_text("utf-8")

UNIFORM = dict.fromkeys(range(257, 8193), 1 / 7936)
_CDF = NormalDist(log(400), 1.1).cdf
LOGNORMAL = {n: _CDF(log(n + 0.5)) - _CDF(log(n - 0.5)) for n in range(1, 400_000)}
"""Length -> probability; median 400, sigma 1.1, rounded. 400,000 is 6.3 sigma away."""


def kept_by_dataset_decomposition(num_tokens: int) -> int:
    """`make_dd_buckets.py`, longest first: pieces of 2^k + 1 tokens, k from 13 down to 8; the rest is dropped."""
    kept = 0
    while num_tokens - kept > 256:
        kept += (1 << min(13, (num_tokens - kept - 1).bit_length() - 1)) + 1
    return kept


def kept_by_olmo_core(num_tokens: int) -> int:
    """Pieces of 2^k tokens: all but the rest below 256."""
    return num_tokens - num_tokens % 256


@pytest.mark.parametrize(
    ("kept_of", "of_lognormal"),
    [(kept_by_dataset_decomposition, [82.90, 34.3, 0.33]), (kept_by_olmo_core, [82.93, 34.2, 0.33])],
)
def test_what_document_decomposition_loses_elsewhere(kept_of: Callable[[int], int], of_lognormal: list[float]) -> None:
    """Why leftovers are packed here: shares of tokens that stay, of documents that vanish, and of EOS that survive."""
    shares = []
    for lengths in (UNIFORM, LOGNORMAL):
        kept = {n: kept_of(n) for n in lengths}
        tokens = sum(n * p for n, p in lengths.items())
        shares += [
            round(100 * sum(kept[n] * p for n, p in lengths.items()) / tokens, 2),
            round(100 * sum(p for n, p in lengths.items() if not kept[n]), 1),
            round(100 * sum(p for n, p in lengths.items() if kept[n] == n), 2),
        ]
    assert shares == [96.98, 0.0, 0.39, *of_lognormal]
    assert "97.0 % of the\n  tokens stay and 0.39 % of the documents keep their EOS" in PAGE
    assert "82.9 % and 0.33 %,\n  and 34 % of the documents vanish" in PAGE


@pytest.mark.parametrize(
    ("name", "size", "saved"),
    [
        ("gpt3-1.3b.toml", ModelSize(params=1_300_000_000, layers=24, hidden=2048), "0.9 %"),
        ("gpt2-1.5b.toml", ModelSize(params=1_557_600_000, layers=48, hidden=1600), "1.9 %"),
        ("skyladder-linear.toml", ModelSize(params=1_100_000_000, layers=22, hidden=2048), "13 %"),
        ("skyladder-exponential.toml", ModelSize(params=1_100_000_000, layers=22, hidden=2048), "22 %"),
    ],
)
def test_what_short_rows_save(name: str, size: ModelSize, saved: str) -> None:
    """At equal trained tokens, by 6 N + 12 L H s; the page names the model that the share is of."""
    flops = plan_flops(compile_requested(load_options(ROOT / "configs" / name, {}), None), size)
    assert saved in {f"{100 * flops.saved_share:.1f} %", f"{100 * flops.saved_share:.0f} %"}
    line = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |"))
    assert [cell.strip() for cell in line.split("|")[2:6]] == [
        f"{size.params / 1e9:.5g}e9",
        f"{size.layers}",
        f"{size.hidden:,}",
        saved,
    ]


def test_what_a_shape_budget_costs() -> None:
    """The mean deviation counts the constant tail, where nothing deviates: over the warmup alone it is larger."""
    plan = compile_requested(load_options(ROOT / "configs" / "gpt2-1.5b.toml", {}), None)
    runs = tuple((plan.phases[phase].seq_len, steps) for phase, steps in plan.order)
    four, eight = shape_table(runs, lengths=(64, 1024), counts=(4, 8))
    assert [f"{100 * row.mean_deviation:.2g} %, {row.largest_jump:.2g}" for row in (eight, four)] == [
        "6.8 %, 2",
        "17 %, 3.9",
    ]
    of_warmup = [exp(log(1 + row.mean_deviation) * plan.total_steps / 45_000) - 1 for row in (eight, four)]
    assert [f"{100 * deviation:.2g} %" for deviation in of_warmup] == ["8.9 %", "22 %"]
    assert "off the line by 6.8 % on average, with jumps up to 2 times; 4 by 17 %,\nwith jumps up to 3.9" in PAGE
    assert "58,768 steps" in PAGE
    assert "it is 8.9 % and 22 %" in PAGE
