"""What stands in a folder of the corpus: files, and the folders that `datasets.save_to_disk` writes.

In: a folder. Out: the files below it with their relative paths, by name. Guaranteed: hidden names never
count, a link back to a directory above it is not followed (so every walk ends), and a `datasets` folder is
one thing, never a heap of .arrow files.

    books/a.txt   books/old/b.jsonl   books/up -> ..   books/.git/x.txt
    walk(Path("books"))  ->  (books/a.txt, "a.txt"), (books/old/b.jsonl, "old/b.jsonl")
"""

from __future__ import annotations

import fnmatch
import glob
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curriculum.errors import ConfigError
from curriculum.manifest import FILE_NAME, FORMAT
from pipeline.files.address import is_url
from pipeline.files.storage_options import NO_OPTIONS, StorageOptions


def printable(path: str | Path) -> str:
    """The path with undecodable bytes written as \\xff: a message must survive every terminal and log."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


HUB = "hub"
"""Kind of an input that is a split of a dataset on the Hub; its path is no path, and no address of a store."""
COMPANIONS = {"megatron": (".bin", ".idx"), "datatrove": (".ds", ".ds.index")}
"""Kinds of inputs that are pairs of files: the ending of the named one, and that of the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """One file (or one folder written by `datasets`) as it was when the build looked at it.

    Names that are not UTF-8 hold surrogate escapes, as everywhere in Python: `os.fsencode` gives their bytes.
    """

    path: str
    relative: str
    size: int
    mtime_ns: int
    stamp: str = ""
    """inodes and change times: two files of one name, size and modification time are still told apart; of an object in
    a store its ETag or version"""
    kind: str
    options: StorageOptions = NO_OPTIONS
    """of the client of the store, where `path` is an address"""

    @property
    def on_disk(self) -> bool:
        """Whether `path` is a path: known by times and inodes, not by a version."""
        return self.kind != HUB and not is_url(self.path)


def input_file(path: Path, relative: str, kind: str) -> InputFile:
    """Measures one file and makes its path absolute; refuses what is not there."""
    absolute = str(path.absolute())
    try:
        size, mtime_ns = measure(absolute, kind)
        now = stamp(absolute, kind)
    except OSError as error:
        raise ConfigError(
            f"{printable(os.fsdecode(error.filename or absolute))} cannot be read ({error.strerror}); "
            f"it belongs to the corpus, so repair it or take it out."
        ) from error
    return InputFile(path=absolute, relative=relative, size=size, mtime_ns=mtime_ns, kind=kind, stamp=now)


def walk(folder: Path, skip_names: frozenset[str] = frozenset()) -> Iterator[tuple[Path, str]]:
    """(path, relative) of all files and `datasets` folders below, but for hidden and skipped names."""
    return _walk(folder, "", skip_names, (_identity(folder),))


def _walk(
    folder: Path, prefix: str, skip_names: frozenset[str], ancestors: tuple[tuple[int, int], ...]
) -> Iterator[tuple[Path, str]]:
    for child in _children(folder):
        if child.name.startswith(".") or child.name in skip_names:
            continue
        if not child.is_dir() or is_dataset(child):
            yield child, prefix + child.name
        elif (identity := _identity(child)) not in ancestors:
            yield from _walk(child, f"{prefix}{child.name}/", skip_names, (*ancestors, identity))


def expand_glob(folder: Path, parts: list[str]) -> Iterator[Path]:
    """What a pattern, split at its slashes, matches below a folder; `**` stands for folders of any depth.

    The standard library's glob follows a link to a directory above it 40 times, and two of them 2 ** 40 times.
    """
    return _expand(folder, [part for part in parts if part], (_identity(folder),)) if folder.is_dir() else iter(())


def _expand(folder: Path, parts: list[str], ancestors: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    if not parts or parts == ["**"]:  # a folder that matches is read whole: `**` at the end adds nothing
        yield folder
        return
    if not folder.is_dir():
        return
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _expand(folder, rest, ancestors)
        for child in _children(folder):
            if not child.is_dir() or child.name.startswith(".") or is_dataset(child):
                continue
            if _identity(child) not in ancestors:
                yield from _expand(child, parts, (*ancestors, _identity(child)))
    elif glob.has_magic(part):
        for child in _children(folder):
            is_hidden = child.name.startswith(".") and not part.startswith(".")
            if fnmatch.fnmatchcase(child.name, part) and not is_hidden:
                yield from _expand(child, rest, ancestors)
    elif os.path.lexists(folder / part):
        yield from _expand(folder / part, rest, ancestors)


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise ConfigError(
            f"The folder {printable(folder)} cannot be listed ({error.strerror}); make it readable or take it out."
        ) from error


def _identity(folder: Path) -> tuple[int, int]:
    state = folder.stat()
    return state.st_dev, state.st_ino


def is_dataset(folder: Path) -> bool:
    """Whether `datasets.save_to_disk` wrote this folder; one with several splits is refused."""
    if (folder / "dataset_dict.json").is_file():
        splits = _read_json(folder / "dataset_dict.json").get("splits") or ["train"]
        choices = ", ".join(printable(folder / str(split)) for split in splits)
        raise ConfigError(
            f"{printable(folder)} is a DatasetDict, and its splits are separate data sets; "
            f"pass the splits to train on instead, out of: {choices}."
        )
    return (folder / "dataset_info.json").is_file() and (folder / "state.json").is_file()


def is_compiled(folder: Path) -> bool:
    """Whether `curriculum build` wrote this folder."""
    try:
        with open(folder / FILE_NAME, "rb") as file:
            return FORMAT.encode() in file.read(len(FORMAT) + 32)  # the first entry
    except OSError:
        return False


def measure(path: str, kind: str) -> tuple[int, int]:
    """(size, mtime_ns) of a file, or the sum and the latest of those that an input consists of; OSError if gone."""
    states = [each.stat() for each in _paths(path, kind)]
    return sum(state.st_size for state in states), max(state.st_mtime_ns for state in states)


def stamp(path: str, kind: str) -> str:
    """Devices, inodes and change times of the files that `measure` measures; OSError if gone."""
    states = [each.stat() for each in _paths(path, kind)]
    return ",".join(f"{state.st_dev}:{state.st_ino}:{state.st_ctime_ns}" for state in states)


def change_times(stamped: str) -> list[str]:
    """Change times in nanoseconds, of what `stamp` gave."""
    return [each.rsplit(":", 1)[-1] for each in stamped.split(",")]


def _paths(path: str, kind: str) -> list[Path]:
    """The files that an input consists of."""
    if kind == "datasets":
        return _dataset_files(Path(path))
    return [Path(path), Path(companion_path(path, kind))] if kind in COMPANIONS else [Path(path)]


def companion_path(path: str, kind: str) -> str:
    """The file that says where documents end in the ids of another: a.bin has a.idx, a.ds has a.ds.index."""
    ending, companion = COMPANIONS[kind]
    return path[: -len(ending)] + companion


def _dataset_files(folder: Path) -> list[Path]:
    """The files that hold the rows, as state.json lists them: caches that `map` leaves there do not count."""
    data_files = _read_json(folder / "state.json").get("_data_files") or []
    names = ["dataset_info.json", "state.json", *(str(file["filename"]) for file in data_files)]
    return [folder / name for name in names]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{printable(path)} is not valid JSON ({error}); save the folder again.") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{printable(path)} is not a JSON object; save the folder again.")
    return value
