"""The one file from which a run continues.

In:  weights, Adam's state, the cursor of the data, and the settings they came from.   Out: the same, later.
Guarantees: written aside and renamed, so that a job killed while it saves leaves the checkpoint before; it holds
tensors and plain values, and is read as such (`weights_only`); other settings of the model than those it was trained
with are refused. No random state: nothing is drawn after the first weights. One cursor fits any number of processes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from curriculum.errors import ConfigError, DataError
from curriculum.printable import one_line
from curriculum.training.settings import Settings


def save(path: Path, settings: Settings, **states: dict[str, Any]) -> None:
    """Replace the checkpoint at `path`; `states` by name, each the `state_dict` of something."""
    aside = path.with_suffix(".new")
    with open(aside, "wb") as file:
        torch.save({"settings": settings.of_model(), **states}, file)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def load(path: Path, settings: Settings) -> dict[str, Any] | None:
    """The states by name, on the CPU; None if there is no checkpoint.

    Raises:
        DataError: the file is no checkpoint of this trainer.
        ConfigError: it was trained with other settings.
    """
    if not path.exists():
        return None
    try:
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        before = saved.pop("settings")
    except Exception as error:  # torch raises whatever its reader, zip and pickle do
        raise DataError(
            f"{path}: not a checkpoint of `curriculum train` ({one_line(error)}); move it away to begin anew."
        ) from None
    for name, value in settings.of_model().items():
        if before.get(name) != value:
            raise ConfigError(
                f"{path}: was trained with {name} {before.get(name)}, and {value} is asked for; give the same, or "
                f"another --out to begin anew."
            )
    return saved
