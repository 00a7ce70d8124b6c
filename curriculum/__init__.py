"""Read and define compiled sequence-length curricula.

This package runs where the GPU is and needs only numpy and pyarrow. It never imports `pipeline`, which builds datasets.

    import curriculum

    reader = curriculum.open("curriculum-data")
    for batch in reader.steps(rank=0, world_size=1):
        train_on(batch.inputs, batch.targets)
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from curriculum import functional as functional
from curriculum.cursor import Cursor
from curriculum.errors import (
    BadRecordError,
    BuildError,
    ConfigError,
    CurriculumError,
    CursorError,
    DataError,
    PlanError,
)

if TYPE_CHECKING:
    from curriculum.reader import Reader

__all__ = [
    "BadRecordError",
    "BuildError",
    "ConfigError",
    "CurriculumError",
    "Cursor",
    "CursorError",
    "DataError",
    "PlanError",
    "open",
]


def open(path: str | PathLike[str], *, check: bool = False) -> Reader:
    """Open a finished dataset.

    Args:
        path: folder that `curriculum build` wrote.
        check: check size and footer of every shard now instead of at first touch.

    Raises:
        DataError: there is no finished dataset at `path`, or it is damaged.
    """
    from curriculum.reader import Reader  # numpy and pyarrow load only here

    return Reader(Path(path), check=check)
