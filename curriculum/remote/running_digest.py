"""The sha256 of a file that arrives in pieces, in any order.

In:  spans of a file as they are written.   Out: a future, set when all of it was hashed and compared.
Guarantee: each byte is hashed once, in order, by one of the threads that bring pieces, while the others fetch on. A
piece is hashed in one go, so that the thread gives the interpreter up once for all of it.

    arrived [8, 16)   nothing to hash yet      arrived [0, 8)   hashes [0, 16)
"""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import Future
from mmap import ACCESS_READ, mmap
from pathlib import Path

from curriculum.errors import DataError
from curriculum.remote.byte_ranges import Span


class RunningDigest:
    """Compares a file in the cache with the sha256 of the manifest."""

    def __init__(self, path: Path, where: str, *, num_bytes: int, sha256: str) -> None:
        self.checked: Future[None] = Future()
        """set when the digest was right; with a DataError when it was not"""
        self._path, self._where, self._num_bytes, self._expected = path, where, num_bytes, sha256
        self._lock = threading.Lock()
        self._waiting: dict[int, int] = {}
        self._hash = hashlib.sha256()
        self._hashed = 0
        self._busy = False

    def arrived(self, span: Span) -> None:
        """These bytes are in the file now."""
        with self._lock:
            self._waiting[span.start] = span.stop
            if self._busy:
                return  # the thread at work will find them
            self._busy = True
        while (stop := self._next_stop()) is not None:
            try:
                self._advance(stop)
            except OSError as error:  # the file is gone: the shard was dropped, or the cache removed
                self.checked.set_exception(DataError(f"{self._path}: cannot be read back ({error.strerror})."))
                return

    def _next_stop(self) -> int | None:
        with self._lock:
            stop = self._hashed
            while stop in self._waiting:
                stop = self._waiting.pop(stop)
            if stop > self._hashed:
                return stop
            self._busy = False
            return None

    def _advance(self, stop: int) -> None:
        file = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            if os.fstat(file).st_size != self._num_bytes:
                raise OSError(0, "its size changed")
            with (
                mmap(file, self._num_bytes, access=ACCESS_READ) as mapped,
                memoryview(mapped) as whole,
                whole[self._hashed : stop] as piece,
            ):
                self._hash.update(piece)
        finally:
            os.close(file)
        self._hashed = stop
        if self._hashed == self._num_bytes:
            self._compare()

    def _compare(self) -> None:
        found = self._hash.hexdigest()
        if found == self._expected.removeprefix("sha256:"):
            self.checked.set_result(None)
            return
        self.checked.set_exception(
            DataError(
                f"{self._where}: its sha256 is {found}, the manifest says {self._expected}. The shard is damaged in "
                f"the store or on the way: if reading it again gives the same, copy it again."
            )
        )
