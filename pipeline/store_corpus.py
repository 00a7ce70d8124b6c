"""CORPUS arguments that are addresses of a store: objects, prefixes and globs to input files.

In:  an address such as s3://bucket/books/*.jsonl.   Out: `InputFile`s with size and version, and what was passed over.
Guarantee: the same files with the same relative paths as from a copy of that prefix on a disk: hidden names do not
count, endings decide, a glob is relative to its fixed part and a folder that it matches is read whole. One listing
gives everything. On the Hub a branch is pinned to the commit it stands at, for the whole build.

    s3://b/books/a.txt   s3://b/books/old/b.jsonl   s3://b/books/.git/x.txt
    find_in_store("s3://b/books", ...)              ->  "a.txt", "old/b.jsonl"
    find_in_store("s3://b/books/*/*.jsonl", ...)    ->  "old/b.jsonl"
"""

from __future__ import annotations

import fnmatch
import glob
from collections.abc import Sequence
from dataclasses import dataclass

from curriculum.errors import ConfigError
from curriculum.remote.store import Identity
from pipeline.endings import Endings
from pipeline.files.bucket import Bucket
from pipeline.files.connection import ATTEMPT_SECONDS, Connection
from pipeline.files.retries import FIRST_CONTACT
from pipeline.files.storage_options import StorageOptions
from pipeline.folders import InputFile
from pipeline.input_bytes import connect, pinned_commit

SAVED_BY_DATASETS = ("dataset_info.json", "state.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What an argument holds."""

    what: str
    """"file", "folder" or "glob", for messages"""
    files: tuple[InputFile, ...]
    ignored: tuple[str, ...]
    """addresses of objects with other endings"""


def find_in_store(argument: str, read: Endings, options: StorageOptions) -> Found | None:
    """The input files of an argument; None if nothing is there.

    Args:
        argument: the address of an object, a folder or a glob.
        read: which files are read, by their endings.
        options: of the client of the store.

    Raises:
        ConfigError: the argument is an object that is not read, or a folder of `datasets`.
        BuildError: the store cannot be read.
    """
    url = _pinned(argument.rstrip("/"), options)
    connection, name = connect(url, options)
    root = connection.url

    def make(path: str, relative: str, kind: str, found: Identity) -> InputFile:
        return InputFile(
            path=f"{root}/{path}",
            relative=relative,
            size=found.size,
            mtime_ns=0,
            stamp=",".join(found.version) or pinned_commit(url) or "",
            kind=kind,
            options=options,
        )

    single = _identity(connection, name, argument) if name else None
    if single is not None:
        kind = read.kind_of(name.rpartition("/")[2])
        if kind is None:
            raise ConfigError(f"{argument} is not a file that can be read; read are {read.what_is_read}.")
        return Found(what="file", files=(make(name, name.rpartition("/")[2], kind, single),), ignored=())
    what, folder, pattern = "folder", name, ["**"]
    listing = _listing(connection, folder, argument)
    if not listing and glob.has_magic(name):
        parts = name.split("/")
        fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
        what, folder, pattern = "glob", "/".join(parts[:fixed]), parts[fixed:]
        listing = _listing(connection, folder, argument)
    start = len(folder) + 1 if folder else 0
    chosen = {path: found for path, found in listing.items() if is_chosen(path[start:].split("/"), pattern)}
    if read.datasets:
        _refuse_datasets(root, chosen)
    kinds = {path: read.kind_of(path.rpartition("/")[2]) for path in chosen}
    files = [make(path, path[start:], kind, chosen[path]) for path, kind in kinds.items() if kind is not None]
    ignored = tuple(f"{root}/{path}" for path, kind in kinds.items() if kind is None and not read.is_companion(path))
    return Found(what=what, files=tuple(files), ignored=ignored) if listing else None


def is_chosen(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a pattern, split at its slashes, matches a file by its names, or a folder above it.

    A hidden name is matched only by a part of the pattern that begins with a dot; `**` stands for folders of any depth.
    """
    if not pattern or list(pattern) == ["**"]:
        return bool(names) and not any(name.startswith(".") for name in names)
    if not names:
        return False
    part, rest = pattern[0], pattern[1:]
    hidden = names[0].startswith(".") and not part.startswith(".")
    if part == "**":
        return is_chosen(names, rest) or (not hidden and len(names) > 1 and is_chosen(names[1:], pattern))
    if not fnmatch.fnmatchcase(names[0], part) or (hidden and glob.has_magic(part)):
        return False
    return not rest if len(names) == 1 else is_chosen(names[1:], rest)


def _pinned(url: str, options: StorageOptions) -> str:
    """On the Hub the address with the commit that a branch stands at; else the address itself."""
    if not url.startswith("hf://") or url.startswith("hf://buckets/"):
        return url
    protocol, _, rest = url.partition("://")
    parts = rest.split("/")
    fixed = next((index for index, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    at = "/".join(parts[:fixed])
    address = Connection(url=f"{protocol}://{at}", options=options).ask(_pin, url, "read", FIRST_CONTACT)
    return "/".join((f"{protocol}://{address}", *parts[fixed:]))


def _pin(bucket: Bucket) -> str:
    bucket.pin(ATTEMPT_SECONDS)
    return bucket.root


def _identity(connection: Connection, name: str, argument: str) -> Identity | None:
    def attempt(bucket: Bucket) -> Identity | None:
        try:
            return bucket.identify(name, ATTEMPT_SECONDS)
        except (FileNotFoundError, IsADirectoryError):
            return None

    return connection.ask(attempt, argument, "read", FIRST_CONTACT)


def _listing(connection: Connection, folder: str, argument: str) -> dict[str, Identity]:
    return connection.ask(lambda bucket: bucket.listing(folder, ATTEMPT_SECONDS), argument, "listed")


def _refuse_datasets(root: str, chosen: dict[str, Identity]) -> None:
    for path in chosen:
        folder = path.removesuffix(SAVED_BY_DATASETS[0])
        if folder != path and f"{folder}{SAVED_BY_DATASETS[1]}" in chosen:
            raise ConfigError(
                f"{root}/{folder} was written by datasets.save_to_disk, and such folders are read from disks only: "
                f"copy it to one, or save it as Parquet (to_parquet)."
            )
