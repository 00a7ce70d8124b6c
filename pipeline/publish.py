"""Files appear whole or not at all: write aside, flush to the disk, rename.

In:  a folder for unfinished files and a final path on the same file system.
Out: the final file, or no file.
Guarantee: after a crash at any moment a final path holds either nothing, the old file or the complete new one. Every
write, fsync, rename and removal of a build goes through this module, so that a test can stop the build at each of them.

    with Aside(aside_folder, final_path) as file:
        file.write(b"...")
    # here final_path exists, is on the disk, and holds file.num_bytes bytes
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from curriculum.errors import BuildError

MAX_PENDING_BYTES = 1 << 20
"""Smaller writes are joined."""


class Aside:
    """A file that is written under another name and renamed to `final` when the block ends without an error."""

    def __init__(
        self,
        aside_folder: Path,
        final: Path,
        *,
        hashed: bool = False,
        flush_names: Callable[[Path], object] | None = None,
    ) -> None:
        """
        Args:
            aside_folder: for the unfinished file.
            final: where it is to appear.
            hashed: take a digest of what is written.
            flush_names: called with each folder that got a new name, instead of flushing it: who writes many files
                flushes each folder once.
        """
        self.final = final
        self._flush_names = flush_names or sync_folder
        self.num_bytes = 0
        self.closed = False
        self._digest = hashlib.sha256() if hashed else None
        self._pending = bytearray()
        make_folder(aside_folder)
        # All phases have a shard-000000, and a worker may outlive its killed parent for an instant.
        self.path = aside_folder / f"{final.name}.{secrets.token_hex(6)}"

    def __enter__(self) -> Aside:
        try:
            self._file = open(self.path, "wb", buffering=0)
        except OSError as error:
            raise _cannot_write(self.final, error) from error
        return self

    def write(self, data: Any) -> int:
        """Append a bytes-like object and take it into the digest; returns its size in bytes."""
        view = memoryview(data).cast("B")
        if self._digest is not None:
            self._digest.update(view)
        self.num_bytes += len(view)
        if len(view) < MAX_PENDING_BYTES:  # pyarrow writes a dozen paddings and headers per file
            self._pending += view
        if max(len(view), len(self._pending)) >= MAX_PENDING_BYTES:
            self.flush()
        if len(view) >= MAX_PENDING_BYTES:
            self._write_through(view)
        return len(view)

    def flush(self) -> None:
        """Hand everything written so far to the operating system."""
        if self._pending:
            pending, self._pending = self._pending, bytearray()
            self._write_through(memoryview(pending))

    def _write_through(self, view: memoryview) -> None:
        try:
            while len(view):  # one write(2) moves at most 2 GiB, and less on a nearly full disk
                view = view[self._file.write(view) :]
        except OSError as error:
            raise _cannot_write(self.final, error) from error

    def sha256(self) -> str:
        """Hex digest of everything written so far; only of a file opened with `hashed`."""
        assert self._digest is not None
        return self._digest.hexdigest()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._drop()
            return
        try:
            self.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            make_folder(self.final.parent, self._flush_names)
            os.replace(self.path, self.final)  # noqa: PTH105 - a name that tests can stop the build at
            self._flush_names(self.final.parent)
        except BaseException as failure:
            self._drop()
            if isinstance(failure, OSError):
                raise _cannot_write(self.final, failure) from failure
            raise

    def _drop(self) -> None:
        with suppress(OSError):  # what goes wrong here hides what went wrong before; the next run removes the file
            self._file.close()
            self.path.unlink(missing_ok=True)


def move_into_place(path: Path, final: Path, flush_names: Callable[[Path], object] | None = None) -> None:
    """Publish a file that is complete, aside on the same file system: flush it, rename it.

    Args:
        path: where it is.
        final: where it is to appear.
        flush_names: as of `Aside`.

    Raises:
        BuildError: that is not possible.
    """
    flush = flush_names or sync_folder
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        make_folder(final.parent, flush)
        os.replace(path, final)  # noqa: PTH105 - a name that tests can stop the build at
        flush(final.parent)
    except OSError as error:
        raise _cannot_write(final, error) from error


def sync_folder(folder: Path) -> None:
    """Flush the names of a folder, so that a rename survives a power cut."""
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise _cannot_write(folder, error) from error


def make_folder(folder: Path, flush_names: Callable[[Path], object] = sync_folder) -> None:
    """Create a folder and its parents; each new name is flushed to the disk with its parent, or as `Aside` says."""
    if folder.is_dir():
        return
    make_folder(folder.parent, flush_names)
    try:
        folder.mkdir(exist_ok=True)
        flush_names(folder.parent)
    except OSError as error:
        raise _cannot_write(folder, error) from error


def allocate(path: Path, num_bytes: int, head: bytes = b"") -> None:
    """A file of that size that begins so, to be filled by `write_at`; what was written into one of that size stays.

    Raises:
        BuildError: that is not possible.
    """
    make_folder(path.parent)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            os.ftruncate(handle, num_bytes)
            view = memoryview(head)
            while len(view):
                view = view[os.pwrite(handle, view, len(head) - len(view)) :]
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise _cannot_write(path, error) from error
    sync_folder(path.parent)


def write_at(path: Path, start: int, blocks: Iterable[Any]) -> None:
    """Overwrite bytes of an allocated file, from `start` on; they are on the disk when this returns.

    Args:
        blocks: bytes-like objects, written one behind the other.

    Raises:
        BuildError: that is not possible.
    """
    try:
        handle = os.open(path, os.O_WRONLY)
        try:
            for block in blocks:
                view = memoryview(block).cast("B")
                while len(view):
                    count = os.pwrite(handle, view, start)
                    view, start = view[count:], start + count
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise _cannot_write(path, error) from error


def move(path: Path, final: Path) -> None:
    """Give a finished file or folder its final name, on the same file system.

    Raises:
        BuildError: that is not possible.
    """
    try:
        os.replace(path, final)  # noqa: PTH105 - a name that tests can stop the build at
    except OSError as error:
        raise _cannot_write(final, error) from error
    sync_folder(final.parent)


def remove(path: Path) -> None:
    """Remove a file or a whole folder if it is there.

    Raises:
        BuildError: that is not possible.
    """
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot_write(path, error) from error


def remove_empty(folder: Path) -> None:
    """Remove a folder that holds nothing.

    Raises:
        BuildError: that is not possible, or it does.
    """
    try:
        folder.rmdir()
    except OSError as error:
        raise _cannot_write(folder, error) from error


def _cannot_write(path: Path, error: OSError) -> BuildError:
    return BuildError(
        f"{path}: cannot be written: {error.strerror or error}. Free space, fix the permissions or give another place; "
        f"the same command run again continues where it stopped."
    )
