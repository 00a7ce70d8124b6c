"""Where the files of a dataset lie while it is built: names that several stages share.

In:  nothing.   Out: names relative to the folder of a dataset, and the JSON objects there.
Guarantee: everything unfinished lies under `.build`, which is gone when the dataset is finished.

    DATASET/.build/request.json           what this build was asked for
    DATASET/.build/aside/...              files that are not complete yet
    DATASET/.build/windows/000003.json    the shards of a finished window
    DATASET/.build/parent-log.json        the build log of what is there, while it is extended
    DATASET/build-log.json                everything that may differ between two equal builds
"""

from __future__ import annotations

from typing import Any

import orjson

from curriculum.regular_file import MAX_JSON_BYTES
from pipeline.files.contract import Files

WORK_FOLDER = ".build"
ASIDE = ".build/aside"
REQUEST_NAME = ".build/request.json"
WINDOWS_FOLDER = ".build/windows"
PARENT_LOG = ".build/parent-log.json"
"""The build log of a finished dataset while it is extended: it names the parts of the store."""
OWN_FOLDERS = (WORK_FOLDER, "phases", "validation")
"""Where builds and extensions write, and remove what is not of the dataset."""
LOG_NAME = "build-log.json"
SIGNATURE_NAME = "manifest.json.sig"
"""A signature of the manifest, of a dataset that was pulled with one."""
EXTENSIONS = "extensions"
"""Key of the request in a build log: what each extension was asked for, the first one first."""


def write_bytes(files: Files, name: str, data: bytes) -> None:
    """Write a small file atomically."""
    with files.write(name) as file:
        file.write(data)


def write_object(files: Files, name: str, value: Any) -> None:
    """Write a value as indented JSON with sorted keys, atomically."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
    write_bytes(files, name, orjson.dumps(value, option=options))


def read_object(files: Files, name: str) -> dict[str, Any] | None:
    """A JSON object, or None if the file is missing or is none."""
    data = files.read(name)
    try:
        value = None if data is None else orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def read_build_log(files: Files, dataset_id: str) -> dict[str, Any] | None:
    """The build log of a dataset; None if it is missing, damaged, no file, absurdly large or tells of another one.

    An extension writes its own before it is finished; if it was killed then, the log of what is there is kept beside.
    """
    for name in (LOG_NAME, PARENT_LOG):
        facts = files.facts(name)
        if facts is None or facts.num_bytes > MAX_JSON_BYTES:
            continue
        log = read_object(files, name)
        if log is not None and log.get("id") == dataset_id:
            return log
    return None


def extension_begun(files: Files, dataset_id: str) -> bool:
    """Whether an extension of just this dataset was begun and is not finished: its windows are hours of work."""
    facts = files.facts(REQUEST_NAME)
    if facts is None or facts.num_bytes > MAX_JSON_BYTES:
        return False
    return (read_object(files, REQUEST_NAME) or {}).get("extends") == dataset_id
