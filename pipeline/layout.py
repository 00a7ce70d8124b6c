"""Where the files of a dataset lie while it is built: names that several stages share.

In:  the folder of a dataset.   Out: paths in it.
Guarantee: everything unfinished lies under `.build`, which is gone when the dataset is finished.

    DATASET/.build/request.json           what this build was asked for
    DATASET/.build/aside/...              files that are not complete yet
    DATASET/.build/windows/000003.json    the shards of a finished window
    DATASET/build-log.json                everything that may differ between two equal builds
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

WORK_FOLDER = ".build"
LOG_NAME = "build-log.json"


def aside_folder(root: Path) -> Path:
    """Folder for unfinished files of a dataset."""
    return root / WORK_FOLDER / "aside"


def request_path(root: Path) -> Path:
    """Where an unfinished build keeps what it was asked for."""
    return root / WORK_FOLDER / "request.json"


def windows_folder(root: Path) -> Path:
    """Folder of the records of finished windows."""
    return root / WORK_FOLDER / "windows"


def read_object(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None if the file is missing or is none."""
    try:
        value = orjson.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, orjson.JSONDecodeError):
        return None
    return value if isinstance(value, dict) else None


def read_build_log(root: Path, dataset_id: str) -> dict[str, Any] | None:
    """The object of build-log.json; None if it is missing, damaged or tells of another dataset."""
    log = read_object(root / LOG_NAME)
    return log if log is not None and log.get("id") == dataset_id else None
