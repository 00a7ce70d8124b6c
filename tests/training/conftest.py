"""A dataset and the settings of a tiny run; all runs but one are in this process, on one thread.

Nothing of torch is imported before a test asks for it: where it is missing, the tests say so themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from curriculum.training import Settings


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def dataset(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 steps of 8 rows."""
    from tiny_run import built

    return built(tmp_path_factory.mktemp("trained") / "data", corpus)


@pytest.fixture
def settings(dataset: Path, tmp_path: Path) -> Settings:
    """A model of one layer, validated every 10 steps and saved every 7."""
    from curriculum.training import Settings

    sizes = {"layers": 1, "width": 16, "heads": 2, "validate_every": 10, "save_every": 7, "validation_rows": 4}
    return Settings(dataset=str(dataset), out=str(tmp_path / "run"), lr=1e-2, lr_warmup_steps=3, **sizes)  # type: ignore[arg-type]
