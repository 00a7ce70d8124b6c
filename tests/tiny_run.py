"""Runs of the reference trainer that take a second: a model of one layer, 24 steps of 8 rows of bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from curriculum.stability_log import read_log
from curriculum.training import Settings
from pipeline.build import build
from pipeline.option_sources import load_options
from pipeline.progress import Silent

STEPS = 24
LENGTHS = [8] * 3 + [16] * 4 + [24] * 4 + [32] * 13
"""8 to 32 in multiples of 8, over half of the steps."""


def built(out: Path, corpus: Path, **options: Any) -> Path:
    """A dataset of bytes with some held-out documents."""
    values = {
        "out": str(out),
        "corpus": (str(corpus),),
        "tokenizer": "bytes",
        "keep_store": False,
        "workers": 1,
        "max_length": 32,
        "batch_rows": 8,
        "steps": STEPS,
        "frac": "0.5",
        "validation_tokens": 3_000,
        **options,
    }
    build(load_options(None, values), Silent())
    return out


def weights(settings: Settings) -> dict[str, torch.Tensor]:
    """Of the checkpoint."""
    saved: dict[str, dict[str, torch.Tensor]] = torch.load(settings.checkpoint_path, weights_only=True)
    return saved["model"]


def log_of(settings: Settings) -> list[dict[str, Any]]:
    """Its lines, without the time."""
    return [{key: value for key, value in line.items() if key != "seconds"} for line in read_log(settings.log_path)]
