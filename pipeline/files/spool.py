"""A file on its way to a store: written here, uploaded whole when the block ends without an error.

In:  where it goes.   Out: the object, or nothing.
Guarantee: nobody sees half of an object: stores publish an upload at its end. Trying an upload again sends the same
bytes again. The local file is gone after the block, however it ends.

    with Spooled(lambda path, num_bytes: ...) as file:
        file.write(b"{}")
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline.files.local_copies import cannot_keep, new_local_file

BUFFER_BYTES = 1 << 20


class Spooled:
    """See `pipeline.files.contract.Writing`."""

    def __init__(self, upload: Callable[[Path, int], None], *, hashed: bool = False) -> None:
        """Open nothing yet.

        Args:
            upload: called with the complete local file and its size in bytes.
            hashed: take what is written into a digest.
        """
        self.num_bytes = 0
        self.closed = False
        self.path = new_local_file()
        self._upload = upload
        self._digest = hashlib.sha256() if hashed else None

    def __enter__(self) -> Spooled:
        try:
            self._file = open(self.path, "xb", buffering=BUFFER_BYTES)
        except OSError as error:
            raise cannot_keep(self.path, error) from error
        return self

    def write(self, data: Any) -> int:
        """Append a bytes-like object and take it into the digest; returns its size in bytes."""
        view = memoryview(data).cast("B")
        if self._digest is not None:
            self._digest.update(view)
        self.num_bytes += len(view)
        try:
            self._file.write(view)
        except OSError as error:
            raise cannot_keep(self.path, error) from error
        return len(view)

    def flush(self) -> None:
        """After this, `path` holds everything written so far."""
        try:
            self._file.flush()
        except OSError as error:
            raise cannot_keep(self.path, error) from error

    def sha256(self) -> str:
        """Hex digest of everything written so far; only of a file opened with `hashed`."""
        assert self._digest is not None
        return self._digest.hexdigest()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.flush()
                self._upload(self.path, self.num_bytes)
        finally:
            self.path.unlink(missing_ok=True)
            with suppress(OSError):  # of a full disk, which was said already
                self._file.close()
