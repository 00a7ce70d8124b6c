"""CORPUS arguments to input files.

In: paths of files, folders and globs. Out: `Inputs`, the files that can be read, sorted by `relative`.
Guaranteed: the result depends on names only, never on the order in which a disk lists them; every file has a
`relative` path of its own; what cannot be found or read is an error here, before any work starts. The next
step, `split_units`, lives in `pipeline/units.py` and is offered here too.

    books/a.txt   books/old/b.jsonl   books/cover.png   books/.git/x.txt
    find_inputs(["books"])  ->  "a.txt" (text), "old/b.jsonl" (jsonl); num_ignored is 1, hidden names are not
    find_inputs(["books/a.txt"])      ->  "a.txt"
    find_inputs(["hf:org/books"])     ->  "hf:org/books:default/train", a split on the Hub
    find_inputs(["books/*/*.jsonl"])  ->  "old/b.jsonl": relative to the fixed part of the glob
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from curriculum.errors import ConfigError
from pipeline.endings import TEXTS, Endings
from pipeline.files.address import is_url
from pipeline.files.storage_options import NO_OPTIONS, StorageOptions
from pipeline.folders import InputFile, expand_glob, input_file, is_compiled, is_dataset, printable, walk
from pipeline.hub.names import is_hub_name
from pipeline.units import Unit, split_units

__all__ = ["InputFile", "Inputs", "Unit", "find_inputs", "sorted_inputs", "split_units"]


ON_DISKS_ONLY = frozenset(("megatron", "raw", "datatrove"))
"""Kinds that are read at places all over the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """`num_ignored` counts the files that were passed over because of their ending."""

    files: tuple[InputFile, ...]
    num_ignored: int

    @property
    def total_bytes(self) -> int:
        return sum(file.size for file in self.files)


def find_inputs(corpus: Sequence[str], read: Endings = TEXTS, *, options: StorageOptions = NO_OPTIONS) -> Inputs:
    """All files of the CORPUS arguments that are to be read, sorted by relative path; `options` are for stores."""
    if not corpus:
        raise ConfigError(f"No corpus was given; name a file, a folder or a quoted glob of {read.what_is_read}.")
    files: list[InputFile] = []
    ignored: set[Path | str] = set()
    for argument in corpus:
        if is_hub_name(argument):
            files.append(_find_on_hub(argument, read))
        elif is_url(argument):
            files += _find_remote(argument, read, options, ignored)
        else:
            files += _find_argument(argument, read, ignored)
    return sorted_inputs(files, len(ignored))


def sorted_inputs(files: Iterable[InputFile], num_ignored: int) -> Inputs:
    """Sorts by relative path and refuses two files that would have the same one."""
    ordered = sorted(files, key=lambda file: (file.relative, file.path))
    for one, other in pairwise(ordered):
        if one.relative == other.relative:
            raise ConfigError(
                f"Two inputs have the same relative path {printable(one.relative)}: {printable(one.path)} "
                f"and {printable(other.path)}; documents are told apart by it, so pass a folder above both, "
                f"or rename one."
            )
    return Inputs(files=tuple(ordered), num_ignored=num_ignored)


def _find_argument(argument: str, read: Endings, ignored: set[Path | str]) -> list[InputFile]:
    path = Path(argument)
    num_before = len(ignored)
    if argument and path.is_dir():
        what = "folder"
        found = _find_below(path, "", read, ignored)
    elif argument and path.exists():
        kind = read.kind_of(path.name)
        if kind is None or not path.is_file():
            raise ConfigError(f"{printable(path)} is not a file that can be read; read are {read.what_is_read}.")
        return [input_file(path, path.name, kind)]
    elif glob.has_magic(argument):
        what = "glob"
        found = _find_glob(argument, read, ignored)
    else:
        raise ConfigError(
            f"There is no file or folder '{printable(argument)}'; a corpus is made of files, folders or "
            f"quoted globs of {read.what_is_read}."
        )
    if not found:
        raise ConfigError(
            f"The {what} '{printable(argument)}' holds no file that can be read "
            f"({len(ignored) - num_before} with other endings); read are {read.what_is_read}."
        )
    return found


def _find_on_hub(argument: str, read: Endings) -> InputFile:
    from pipeline.hub.corpus import find_on_hub  # `datasets` loads only where something is read by it

    if read is not TEXTS:
        raise ConfigError(
            f"'{printable(argument)}' is a dataset of the Hub by name, of which texts are read: give files of ids by "
            f"their addresses (hf://datasets/ORG/NAME/...)."
        )
    return find_on_hub(argument)


def _find_remote(argument: str, read: Endings, options: StorageOptions, ignored: set[Path | str]) -> list[InputFile]:
    from pipeline.store_corpus import find_in_store  # its libraries load only where there is a store

    if ON_DISKS_ONLY.intersection(read.kinds.values()):
        raise ConfigError(
            f"'{printable(argument)}' is in a store, and ids of this format are read from disks only: copy them there, "
            f"or keep them as lists in a column of Parquet (--tokenized input_ids)."
        )
    found = find_in_store(argument, read, options)
    if found is None:
        raise ConfigError(
            f"There is no object or folder '{printable(argument)}'; a corpus is made of files, folders or "
            f"quoted globs of {read.what_is_read}."
        )
    if not found.files:
        raise ConfigError(
            f"The {found.what} '{printable(argument)}' holds no file that can be read "
            f"({len(found.ignored)} with other endings); read are {read.what_is_read}."
        )
    ignored.update(found.ignored)
    return list(found.files)


def _find_below(folder: Path, prefix: str, read: Endings, ignored: set[Path | str]) -> list[InputFile]:
    """Everything readable in a folder; a folder that is itself a `datasets` folder is one input."""
    if is_compiled(folder):
        raise ConfigError(
            f"{printable(folder)} is a dataset that `curriculum build` made, and its rows are in training order "
            f"already; give the corpus it was made from (`curriculum inspect {printable(folder)}` tells which)."
        )
    if read.datasets and is_dataset(folder):
        return [input_file(folder, prefix.rstrip("/") or folder.resolve().name, "datasets")]
    found: list[InputFile] = []
    for path, relative in walk(folder):
        kind = ("datasets" if read.datasets else None) if path.is_dir() else read.kind_of(path.name)
        if read.is_companion(path.name):
            continue
        # A pipe or a socket is passed over. A link to nothing goes on to input_file, which says so.
        if kind is None or not (path.is_dir() or path.is_file() or path.is_symlink()):
            ignored.add(path.absolute())
        else:
            found.append(input_file(path, prefix + relative, kind))
    return found


def _find_glob(pattern: str, read: Endings, ignored: set[Path | str]) -> list[InputFile]:
    """What a glob matches, relative to its fixed part; matching folders are read whole."""
    parts = pattern.split("/")
    num_fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    root = Path("/".join(parts[:num_fixed]) or ("/" if pattern.startswith("/") else "."))
    by_path: dict[str, InputFile] = {}
    for path in expand_glob(root, parts[num_fixed:]):
        relative = str(path.relative_to(root))
        kind = read.kind_of(path.name)
        if path.is_dir():
            below = _find_below(path, "" if path == root else relative + "/", read, ignored)
            by_path.update((file.path, file) for file in below)
        elif kind is None or not (path.is_file() or path.is_symlink()):
            if not read.is_companion(path.name):
                ignored.add(path.absolute())
        else:
            file = input_file(path, relative, kind)
            by_path[file.path] = file
    return list(by_path.values())
