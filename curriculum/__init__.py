"""Read and define compiled sequence-length curricula.

This package runs where the GPU is and needs only numpy and pyarrow. It never imports `pipeline`, which builds datasets.

    import curriculum

    reader = curriculum.open("curriculum-data")
    for batch in reader.steps(rank=0, world_size=1):
        train_on(batch.inputs, batch.targets)
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from curriculum import doctor as doctor
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
    from curriculum.remote.storage import Verify

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


def open(
    path: str | PathLike[str],
    *,
    check: bool = False,
    cache_dir: str | PathLike[str] | None = None,
    cache_bytes: int = 8 << 30,
    timeout_seconds: float = 60.0,
    verify: Verify = "auto",
    storage_options: Mapping[str, Any] | None = None,
) -> Reader:
    """Open a finished dataset.

    Args:
        path: folder that `curriculum build` wrote, or the address of a copy: s3://, gs://, hf:// and whatever else
            fsspec reads (`pip install 'seqlen-curriculum[s3]'`, `[gs]`, `[hf]`).
        check: check size and footer of every shard now instead of at first touch.
        cache_dir, cache_bytes, timeout_seconds, verify, storage_options: of an address alone; see
            `curriculum.remote.RemoteStorage`.

    Raises:
        DataError: there is no finished dataset at `path`, or it is damaged.
        ConfigError: an option is wrong, or the package for an address is not installed.
    """
    from curriculum.reader import Reader  # numpy and pyarrow load only here

    place = fspath(path)
    if "://" not in place:
        return Reader(place, check=check)
    from curriculum.remote import RemoteStorage

    storage = RemoteStorage(
        place,
        cache_dir=None if cache_dir is None else fspath(cache_dir),
        cache_bytes=cache_bytes,
        timeout_seconds=timeout_seconds,
        verify=verify,
        storage_options=storage_options,
    )
    return Reader(storage, check=check)
