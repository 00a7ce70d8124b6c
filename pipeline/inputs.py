"""CORPUS arguments to input files.

In: paths of files, folders and globs. Out: `Inputs`, the files that can be read, sorted by `relative`.
Guaranteed: the result depends on names only, never on the order in which a disk lists them; every file has a
`relative` path of its own; what cannot be found or read is an error here, before any work starts. The next
step, `split_units`, lives in `pipeline/units.py` and is offered here too.

    books/a.txt   books/old/b.jsonl   books/cover.png   books/.git/x.txt
    find_inputs(["books"])  ->  "a.txt" (text), "old/b.jsonl" (jsonl); num_ignored is 1, hidden names are not
    find_inputs(["books/a.txt"])      ->  "a.txt"
    find_inputs(["books/*/*.jsonl"])  ->  "old/b.jsonl": relative to the fixed part of the glob
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from curriculum.errors import ConfigError
from pipeline.files.address import is_url
from pipeline.files.storage_options import NO_OPTIONS, StorageOptions
from pipeline.folders import InputFile, expand_glob, input_file, is_dataset, printable, walk
from pipeline.units import Unit, split_units

__all__ = ["InputFile", "Inputs", "Unit", "find_inputs", "sorted_inputs", "split_units"]

KIND_BY_ENDING = {
    ".txt": "text",
    ".md": "text",
    ".py": "text",
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl.gz",
    ".jsonl.zst": "jsonl.zst",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
WHAT_IS_READ = f"{' '.join(KIND_BY_ENDING)} and folders written by datasets.save_to_disk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """`num_ignored` counts the files that were passed over because of their ending."""

    files: tuple[InputFile, ...]
    num_ignored: int

    @property
    def total_bytes(self) -> int:
        return sum(file.size for file in self.files)


def find_inputs(corpus: Sequence[str], *, options: StorageOptions = NO_OPTIONS) -> Inputs:
    """All readable files of the CORPUS arguments, sorted by relative path; `options` are for those in a store."""
    if not corpus:
        raise ConfigError(f"no corpus was given; name a file, a folder or a quoted glob of {WHAT_IS_READ}")
    files: list[InputFile] = []
    ignored: set[Path | str] = set()
    for argument in corpus:
        if is_url(argument):
            files += _find_remote(argument, options, ignored)
        else:
            files += _find_argument(argument, ignored)
    return sorted_inputs(files, len(ignored))


def sorted_inputs(files: Iterable[InputFile], num_ignored: int) -> Inputs:
    """Sorts by relative path and refuses two files that would have the same one."""
    ordered = sorted(files, key=lambda file: (file.relative, file.path))
    for one, other in pairwise(ordered):
        if one.relative == other.relative:
            raise ConfigError(
                f"two inputs have the same relative path {printable(one.relative)}: {printable(one.path)} "
                f"and {printable(other.path)}; documents are told apart by it, so pass a folder above both, "
                f"or rename one"
            )
    return Inputs(files=tuple(ordered), num_ignored=num_ignored)


def _kind_of(path: Path) -> str | None:
    """The kind that a file's ending stands for, whatever its case; None when it is not read."""
    lower = path.name.lower()
    return next((kind for ending, kind in KIND_BY_ENDING.items() if lower.endswith(ending)), None)


def _find_argument(argument: str, ignored: set[Path | str]) -> list[InputFile]:
    path = Path(argument)
    num_before = len(ignored)
    if argument and path.is_dir():
        what = "folder"
        found = _find_below(path, "", ignored)
    elif argument and path.exists():
        kind = _kind_of(path)
        if kind is None or not path.is_file():
            raise ConfigError(f"{printable(path)} is not a file that can be read; read are {WHAT_IS_READ}")
        return [input_file(path, path.name, kind)]
    elif glob.has_magic(argument):
        what = "glob"
        found = _find_glob(argument, ignored)
    else:
        raise ConfigError(
            f"there is no file or folder '{printable(argument)}'; a corpus is made of files, folders or "
            f"quoted globs of {WHAT_IS_READ}"
        )
    if not found:
        raise ConfigError(
            f"the {what} '{printable(argument)}' holds no file that can be read "
            f"({len(ignored) - num_before} with other endings); read are {WHAT_IS_READ}"
        )
    return found


def _find_remote(argument: str, options: StorageOptions, ignored: set[Path | str]) -> list[InputFile]:
    from pipeline.store_corpus import find_in_store  # its libraries load only where there is a store

    found = find_in_store(argument, lambda name: _kind_of(Path(name)), options)
    if found is None:
        raise ConfigError(
            f"there is no object or folder '{printable(argument)}'; a corpus is made of files, folders or "
            f"quoted globs of {WHAT_IS_READ}"
        )
    if not found.files:
        raise ConfigError(
            f"the {found.what} '{printable(argument)}' holds no file that can be read "
            f"({len(found.ignored)} with other endings); read are {WHAT_IS_READ}"
        )
    ignored.update(found.ignored)
    return list(found.files)


def _find_below(folder: Path, prefix: str, ignored: set[Path | str]) -> list[InputFile]:
    """Everything readable in a folder; a folder that is itself a `datasets` folder is one input."""
    if is_dataset(folder):
        return [input_file(folder, prefix.rstrip("/") or folder.resolve().name, "datasets")]
    found: list[InputFile] = []
    for path, relative in walk(folder):
        kind = "datasets" if path.is_dir() else _kind_of(path)
        # A pipe or a socket is passed over. A link to nothing goes on to input_file, which says so.
        if kind is None or not (path.is_dir() or path.is_file() or path.is_symlink()):
            ignored.add(path.absolute())
        else:
            found.append(input_file(path, prefix + relative, kind))
    return found


def _find_glob(pattern: str, ignored: set[Path | str]) -> list[InputFile]:
    """What a glob matches, relative to its fixed part; matching folders are read whole."""
    parts = pattern.split("/")
    num_fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    root = Path("/".join(parts[:num_fixed]) or ("/" if pattern.startswith("/") else "."))
    by_path: dict[str, InputFile] = {}
    for path in expand_glob(root, parts[num_fixed:]):
        relative = str(path.relative_to(root))
        kind = _kind_of(path)
        if path.is_dir():
            below = _find_below(path, "" if path == root else relative + "/", ignored)
            by_path.update((file.path, file) for file in below)
        elif kind is None or not (path.is_file() or path.is_symlink()):
            ignored.add(path.absolute())
        else:
            file = input_file(path, relative, kind)
            by_path[file.path] = file
    return list(by_path.values())
