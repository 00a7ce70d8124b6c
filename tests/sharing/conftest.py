"""Datasets small enough to be moved hundreds of times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.build import BuildResult

TINY: dict[str, Any] = {
    "start_length": 8,
    "max_length": 16,
    "batch_rows": 2,
    "steps": 16,
    "shard_bytes": 300,
    "validation_tokens": 40,
}


@pytest.fixture(scope="session")
def tiny(build_small: Callable[..., BuildResult], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 steps in two phases, a dozen shards, held-out rows; treat it as read-only."""
    out = tmp_path_factory.mktemp("tiny") / "dataset"
    build_small(out, **TINY)
    return out


@pytest.fixture(scope="session")
def other(build_small: Callable[..., BuildResult], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another order of the same: names and sizes of all training shards are those of `tiny`."""
    out = tmp_path_factory.mktemp("other") / "dataset"
    build_small(out, **TINY, seed=1)
    return out
