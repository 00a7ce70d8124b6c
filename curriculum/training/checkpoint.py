"""The one file from which a run continues.

In:  weights, Adam's state, the cursor of the data, and the settings they came from.   Out: the same, later.
Guarantees: written aside and renamed, so that a job killed while it saves leaves the checkpoint before; it holds
tensors and plain values, and is read as such (`weights_only`). Refused are a file whose values have changed, by the
checksums in it (where nothing depends on a byte there is none), another dataset, and other settings of the model than
those it was trained with. No random state: nothing is drawn after the first weights. One cursor fits any number of
processes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch

from curriculum.adapters.pytorch import CurriculumDataset
from curriculum.errors import ConfigError, CurriculumError, CursorError, DataError
from curriculum.printable import shown
from curriculum.training.settings import Settings

FOLDER = 0x10
"""A bit in a zip that no checksum covers; all others were flipped in a small file, one by one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """What is in the file; each is a `state_dict`, but for the settings, which are `Settings.of_model`."""

    settings: dict[str, Any]
    model: dict[str, Any]
    optimizer: dict[str, Any]
    data: dict[str, Any]

    def save(self, path: Path) -> None:
        """Replace the file at `path`.

        Raises:
            CurriculumError: it cannot be written; the one before is still there.
        """
        content = BytesIO()  # torch's own writer turns a full disk into something else
        torch.save({field.name: getattr(self, field.name) for field in fields(self)}, content)
        aside = path.with_suffix(".new")
        try:
            with open(aside, "wb") as file:
                file.write(content.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        except OSError as error:
            aside.unlink(missing_ok=True)
            raise CurriculumError(
                f"{path}: cannot be written ({error.strerror}), the checkpoint before it is as it was. Make room, and "
                f"run the same command again: it continues from there."
            ) from None

    def require(self, settings: Settings, path: Path) -> None:
        """Refuse settings that these weights were not trained with.

        Raises:
            ConfigError: names the first that differs.
        """
        for name, value in settings.of_model().items():
            if self.settings.get(name) != value:
                raise ConfigError(
                    f"{path}: was trained with {name} {shown(self.settings.get(name))}, and {value} is asked for; give "
                    f"the same, or another --out to begin anew."
                )

    def restore_place(self, dataset: CurriculumDataset, path: Path) -> None:
        """Put the dataset where it was; before all else, as what fits one dataset often does not fit another.

        Raises:
            CursorError: the checkpoint belongs to another dataset, or the processes cannot share its steps.
        """
        try:
            CurriculumDataset(dataset.reader).load_state_dict(self.data)  # alone: how steps are shared is not in it
        except CursorError as error:
            raise CursorError(f"{path}: {error} Or give another --out to begin anew.") from None
        dataset.load_state_dict(self.data)

    def restore_weights(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, path: Path) -> None:
        """Put weights and Adam's state where they were.

        Raises:
            DataError: the checkpoint is damaged.
        """
        try:
            model.load_state_dict(self.model)
            optimizer.load_state_dict(self.optimizer)
        except Exception as error:  # whatever torch meets in states that are not its own
            raise _damaged(path, error) from None


def load(path: Path) -> Checkpoint | None:
    """The checkpoint, on the CPU; None if there is none.

    Raises:
        DataError: the file is no checkpoint of this trainer, or cannot be read.
    """
    if not path.exists():
        return None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); make it readable.") from None
    try:
        with ZipFile(BytesIO(content)) as whole:  # torch looks at no checksum, and reads nothing of what is a folder
            if whole.testzip() or any(entry.external_attr & FOLDER for entry in whole.infolist()):
                raise BadZipFile
        saved = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
        states = {field.name: saved[field.name] for field in fields(Checkpoint)}
        if not all(isinstance(state, dict) for state in states.values()):
            raise TypeError
    except Exception as error:  # torch raises whatever its reader, zip and pickle do
        raise _damaged(path, error) from None
    return Checkpoint(**states)


def of(
    settings: Settings, model: torch.nn.Module, optimizer: torch.optim.Optimizer, dataset: CurriculumDataset
) -> Checkpoint:
    """What there is now."""
    return Checkpoint(
        settings=settings.of_model(),
        model=model.state_dict(),
        optimizer=optimizer.state_dict(),
        data=dataset.state_dict(),
    )


def _damaged(path: Path, error: Exception) -> DataError:
    # What torch says here may advise to load the file as code.
    return DataError(
        f"{path}: not a checkpoint of `curriculum train`, or damaged ({type(error).__name__}); move it away to begin "
        f"anew, and model/ too if it is there, or give another --out."
    )
