"""What a build asks of the place where it keeps files.

In:  names relative to the place, with forward slashes.   Out: bytes, sizes, names.
Guarantee: a file appears whole or not at all, and is durable when its block ends. `Files` are small values that can be
sent to another process or machine; they hold no open file and no connection.

    with files.write("parts/3f/3f9c.tokens") as file:
        file.write(b"...")
    files.facts("parts/3f/3f9c.tokens").num_bytes     3
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from pipeline.files.storage_options import StorageOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class FileFacts:
    """What is known of a file without reading it."""

    num_bytes: int
    stamp: str
    """differs if the content may: inode and times on a disk, ETag or version in an object store"""


class Writing(Protocol):
    """A file that is being written and that nobody sees yet."""

    num_bytes: int
    """written so far"""
    path: Path
    """where the unfinished bytes are on this machine"""

    def write(self, data: Any) -> int:
        """Append a bytes-like object; returns its size in bytes."""

    def flush(self) -> None:
        """After this, `path` holds everything written so far."""

    def sha256(self) -> str:
        """Hex digest of everything written so far; only of a file opened with `hashed`."""


class OpenFile(Protocol):
    """A way to write a file of a place: `Files.write`, or what `Files.together` gives."""

    def __call__(self, name: str, *, hashed: bool = False) -> AbstractContextManager[Writing]:
        """The file, to be written in a `with` block."""


class Files(Protocol):
    """A folder of a disk, or a prefix of an object store."""

    @property
    def where(self) -> str:
        """The address, as people know it; never with a secret."""

    @property
    def options(self) -> StorageOptions:
        """What its client was told; nothing on a disk."""

    def address(self, name: str) -> str:
        """The address of a file, for messages."""

    def facts(self, name: str) -> FileFacts | None:
        """Size and stamp of a file; None if there is none of that name."""

    def facts_of(self, names: Sequence[str]) -> list[FileFacts | None]:
        """The same of many files, in their order; a store is asked for several at once."""

    def children(self, under: str = "") -> list[str]:
        """Names of the files and folders directly below a folder, sorted; empty if it is missing."""

    def names(self, under: str) -> list[str]:
        """Names of all files below a folder, relative to this place, sorted; empty if it is missing.

        Raises:
            BuildError: the folder is a link, so what it holds may not be ours.
        """

    def read(self, name: str) -> bytes | None:
        """All bytes of a file; None if there is none of that name."""

    def read_into(self, name: str, start: int, out: memoryview) -> int:
        """Fill `out` with the bytes from `start` on; returns how many there were.

        Raises:
            BuildError: the file is missing or cannot be read.
        """

    def buffer(self, name: str) -> pa.Buffer:
        """All bytes of a file that will not change, mapped from a disk of this machine.

        Raises:
            BuildError: the file is missing or cannot be read.
        """

    def local(self, name: str) -> Path:
        """A file of this machine with the bytes of a file that will not change.

        Raises:
            BuildError: the file is missing or cannot be read.
        """

    def write(self, name: str, *, hashed: bool = False) -> AbstractContextManager[Writing]:
        """Write a file: it appears, complete and durable, when the block ends without an error.

        Raises:
            BuildError: it cannot be written.
        """

    def together(self) -> AbstractContextManager[OpenFile]:
        """Write many files: the block gets a function like `write`, which does not wait until a file is durable.

        All of them appear, complete and durable, when the block ends without an error.

        Raises:
            BuildError: one cannot be written.
        """

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with everything in it, if it is there."""

    def forget_unfinished(self) -> None:
        """Remove what writers that were killed have left; the caller holds the place."""

    def remove_empty_folders(self, under: str) -> None:
        """Remove the folders below and including `under` that hold nothing."""

    def flush(self) -> None:
        """Make removals directly below durable before what follows."""

    def held(self) -> AbstractContextManager[None]:
        """Hold the place, so that no other build writes there.

        Raises:
            BuildError: another process holds it, or it cannot be held.
        """

    def require_own_folders(self, names: Sequence[str]) -> None:
        """Make sure that what is written below these folders, or removed there, lies in this place.

        Raises:
            BuildError: one of them, or of those below, is a link.
        """

    def free_bytes(self) -> int | None:
        """Bytes that can still be written; None where nobody can tell."""
