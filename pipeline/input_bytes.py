"""The bytes of an input file, wherever it lies.

In:  an `InputFile`, whose path may be the address of an object in a store.   Out: a readable, seekable binary stream.
Guarantee: in a store a read is one range of an object, tried again by itself while that may help: a dropped connection
costs one block, and nothing is kept open between two reads. Whether the file changed is `require_unchanged`'s to say.

    with open_input(file) as stream:
        stream.seek(1 << 30)
        stream.readline()           s3://...: one request for bytes 1 GiB to 1 GiB + 8 MiB
"""

from __future__ import annotations

import io
import re
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

from curriculum.errors import BuildError
from pipeline.files.address import is_url
from pipeline.files.bucket import Bucket
from pipeline.files.connection import ATTEMPT_SECONDS, Connection
from pipeline.files.storage_options import StorageOptions
from pipeline.folders import InputFile, change_times, measure, printable, stamp

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_COMMIT = re.compile(r"hf:(?://)?[^@]*@([0-9a-f]{40})(?:[/:]|$)")
DISK_BYTES = 1 << 20
STORE_BYTES = 8 << 20
"""One request of a sequential reader: at 50 ms a request and 100 MB/s a connection, 60 % of the time is transfer."""
SMALL_STORE_BYTES = 1 << 20
"""The same for a reader that jumps, such as that of Parquet."""


def open_input(file: InputFile, *, jumps: bool = False) -> BinaryIO:
    """Open a file.

    Args:
        file: what to read.
        jumps: small parts far from each other will be read.

    Raises:
        OSError: a file of a disk cannot be opened.
        BuildError: later, by reads: an object of a store cannot be read.
    """
    if not is_url(file.path):
        return open(file.path, "rb", buffering=DISK_BYTES)
    return io.BufferedReader(_Ranges(file), SMALL_STORE_BYTES if jumps else STORE_BYTES)


def require_unchanged(file: InputFile) -> None:
    """The file is what it was when the build looked at it.

    Raises:
        BuildError: it is gone, or has another size, modification time or version.
    """
    if not file.on_disk:
        _require_same_version(file)
        return
    try:
        found = measure(file.path, file.kind)
        # Inodes and devices may have other numbers on another machine; a change time is the file system's.
        replaced = bool(file.stamp) and change_times(stamp(file.path, file.kind)) != change_times(file.stamp)
    except OSError as error:
        raise BuildError(
            f"{printable(file.path)} was there when the build began and cannot be found now "
            f"({error.strerror}); put it back, or run the command again without it."
        ) from error
    if found != (file.size, file.mtime_ns) or replaced:
        raise BuildError(
            f"{printable(file.path)} changed while being read: it had {file.size} bytes when the build began "
            f"and has {found[0]} now, or only new times; leave the corpus alone and run the "
            f"same command again."
        )


def connect(url: str, options: StorageOptions) -> tuple[Connection, str]:
    """A client for the bucket of an address, and the name of the object in it."""
    protocol, _, rest = url.partition("://")
    bucket, _, name = rest.partition("/")
    return Connection(url=f"{protocol}://{bucket}", options=options), name


def pinned_commit(url: str) -> str | None:
    """The commit that an address on the Hub names: nothing changes under it; None for all others."""
    found = _COMMIT.match(url)
    return found[1] if found else None


def _require_same_version(file: InputFile) -> None:
    if pinned_commit(file.path) is not None:
        return
    connection, name = connect(file.path, file.options)
    found = connection.ask(lambda bucket: bucket.identify(name, ATTEMPT_SECONDS), file.path, "read")
    if (found.size, ",".join(found.version)) != (file.size, file.stamp):
        raise BuildError(
            f"{file.path} changed while being read: it had {file.size} bytes and {file.stamp} when the build began, "
            f"and has {found.size} and {','.join(found.version)} now; leave the corpus alone and run the same command "
            f"again."
        )


class _Ranges(io.RawIOBase):
    """An object, read by ranges."""

    def __init__(self, file: InputFile) -> None:
        super().__init__()
        self._connection, self._name = connect(file.path, file.options)
        self._path, self._size = file.path, file.size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        stop = min(self._position + len(view), self._size)
        if stop <= self._position:
            return 0
        attempt = partial(_read_range, name=self._name, start=self._position, stop=stop)
        data = self._connection.ask(attempt, self._path, "read")
        if len(data) < stop - self._position:
            raise BuildError(
                f"{self._path} changed while being read: it ends at byte {self._position + len(data)} and had "
                f"{self._size} bytes when the build began; leave the corpus alone and run the same command again."
            )
        view[: len(data)] = data
        self._position += len(data)
        return len(data)


def _read_range(bucket: Bucket, name: str, start: int, stop: int) -> bytes:
    return bucket.read_range(name, start, stop, ATTEMPT_SECONDS)
