"""One shard in the cache: which of its bytes are there, on their way, or still to be asked for.

In:  spans that readers want.   Out: fetches of what is missing; the shard, once enough of it is there and checked.
Guarantee: no byte is asked for twice while it is there or on its way. A shard that is read whole is compared with its
sha256 before its first row is handed out.

    want [100, 200)   nothing there      ->  a fetch of [100, 200)
    want [150, 300)   [100, 200) queued  ->  that one, and a fetch of [200, 300)
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from curriculum.errors import DataError
from curriculum.remote.byte_ranges import Span, lacking, split
from curriculum.remote.cache_folder import CacheFolder
from curriculum.remote.fetcher import Fetcher, Job
from curriculum.remote.ranged_shard import FOOTER_BYTES, RangedShard, map_tokens
from curriculum.remote.running_digest import RunningDigest
from curriculum.remote.shard_source import ShardSource
from curriculum.shard_format import Shard, open_shard


class Fetch(Job[None]):
    """A span of a shard on its way to the cache."""

    __slots__ = ("span", "wanted")

    def __init__(self, shard: CachedShard, span: Span) -> None:
        super().__init__(
            lambda seconds: shard.fetch(span, seconds),
            f"{shard.source.where}, bytes {span.start:,} to {span.stop:,}",
            lambda: shard.begin(self),
        )
        self.span = span
        self.wanted = 0
        """places that need it"""


class CachedShard:
    """The sparse file of a shard, and what is known about it. Used by several threads at once."""

    def __init__(self, source: ShardSource, path: Path, folder: CacheFolder, fetcher: Fetcher) -> None:
        self.source, self.about, self.path = source, source.about, path
        self.reserved_bytes = 0
        """of all fetches so far"""
        self.pins = 0
        """places that were asked for and not handed out yet"""
        self.dropped = False
        """its file was unlinked; views onto it stay valid"""
        self._folder, self._fetcher = folder, fetcher
        self._lock = threading.Lock()
        self._fetches: list[Fetch] = []
        self._starts: list[int] = []
        self._arrived: list[Span] = []
        self._digest: RunningDigest | None = None
        self._tokens: np.ndarray[Any, Any] | None = None
        self._opened: Shard | None = None

    @property
    def is_whole(self) -> bool:
        """All of it is fetched, and compared with its digest."""
        return self._digest is not None

    def want(self, span: Span) -> list[Fetch]:
        """The fetches that together bring a span, in order; new ones are queued."""
        new: list[Fetch] = []
        with self._lock:
            for fetch in self._touching(span):
                if fetch.future.done() and (fetch.future.cancelled() or fetch.future.exception()):
                    self._forget(fetch)  # the store may have come back since
            for gap in list(lacking(span, (fetch.span for fetch in self._touching(span)))):
                for piece in split(gap):
                    fetch = Fetch(self, piece)
                    at = bisect_right(self._starts, piece.start)
                    self._fetches.insert(at, fetch)
                    self._starts.insert(at, piece.start)
                    self.reserved_bytes += piece.stop - piece.start
                    new.append(fetch)
            wanted = self._touching(span)
            for fetch in wanted:
                fetch.wanted += 1
        for fetch in new:
            self._fetcher.submit(fetch)
        return wanted

    def want_whole(self) -> list[Fetch]:
        """The fetches of all bytes; they are hashed as they come."""
        entry = self.about.entry
        with self._lock:
            there = list(self._arrived) if self._digest is None else []
            if self._digest is None:
                self._digest = RunningDigest(
                    self.path, self.source.where, num_bytes=entry.num_bytes, sha256=entry.sha256
                )
                self._opened = None  # not before the digest was compared
        for span in there:
            self._digest.arrived(span)
        return self.want(Span(0, entry.num_bytes))

    def want_structure(self) -> list[Fetch]:
        """The fetches of what must be there before rows can be: head and footer, and all columns of packed rows."""
        entry, tokens = self.about.entry, self.about.tokens
        if self.is_whole:
            return self.want_whole()
        tail = tokens.stop if self.about.packed else max(tokens.stop, entry.num_bytes - FOOTER_BYTES)
        return [*self.want(Span(0, entry.data_offset)), *self.want(Span(tail, entry.num_bytes))]

    def want_columns(self) -> list[Fetch]:
        """The fetches of everything but the tokens."""
        entry = self.about.entry
        return [*self.want(Span(0, entry.data_offset)), *self.want(Span(self.about.tokens.stop, entry.num_bytes))]

    def release(self, fetches: Iterable[Fetch]) -> None:
        """A place does not need these any more; what did not begin and nobody else wants is not fetched."""
        with self._lock:
            for fetch in fetches:
                fetch.wanted -= 1

    def begin(self, fetch: Fetch) -> bool:
        """Whether a fetch is worth another attempt; if not, it is forgotten."""
        with self._lock:
            if fetch.wanted > 0 and not self.dropped:
                return True
            self._forget(fetch)
            return False

    def _forget(self, fetch: Fetch) -> None:
        at = self._fetches.index(fetch)
        del self._fetches[at], self._starts[at]
        self.reserved_bytes -= fetch.span.stop - fetch.span.start

    def fetch(self, span: Span, seconds: float) -> None:
        """One attempt to bring a span into the file; runs in a thread of the fetcher."""
        data = self.source.read(span, seconds, whole=self.is_whole)
        self._write(span, data)
        with self._lock:
            self._arrived.append(span)
            digest = self._digest
        if digest is not None:
            digest.arrived(span)

    def shard(self, fetch_columns: Callable[[], Shard]) -> Shard:
        """The mapped shard, after the fetches of its structure, or of all of it, have ended.

        Args:
            fetch_columns: as of `RangedShard`.

        Raises:
            DataError: it is damaged.
        """
        if self._opened is not None:
            return self._opened
        if self.is_whole or self.about.packed:
            return self.opened()
        if self._tokens is None:
            if not self.path.exists():
                raise self._folder.removed()
            self._tokens = map_tokens(self.path, self.source.where, self.about)
        return RangedShard(self._tokens, self.about.entry.data_offset, fetch_columns)

    def opened(self) -> Shard:
        """The file as a local shard; everything but the tokens must be there.

        Raises:
            DataError: it is damaged.
        """
        if self._opened is not None:
            return self._opened
        about, entry = self.about, self.about.entry
        if self._digest is not None:
            self._fetcher.wait_for(self._digest.checked, f"{self.source.where}: its digest")
        if not self.path.exists():
            raise self._folder.removed()
        try:
            self._opened = open_shard(
                self.path,
                seq_len=about.seq_len,
                dtype=about.dtype,
                num_rows=entry.num_rows,
                num_bytes=entry.num_bytes,
                data_offset=entry.data_offset,
                packed=about.packed,
            )
        except DataError as error:  # the user knows the shard by its address
            raise DataError(str(error).replace(str(self.path), self.source.where)) from None
        return self._opened

    def _touching(self, span: Span) -> list[Fetch]:
        """The fetches that overlap a span."""
        first = bisect_right(self._starts, span.start)
        if first and self._fetches[first - 1].span.stop > span.start:
            first -= 1
        last = first
        while last < len(self._fetches) and self._starts[last] < span.stop:
            last += 1
        return self._fetches[first:last]

    def _write(self, span: Span, data: bytes) -> None:
        try:
            file = os.open(self.path, os.O_WRONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            if self.dropped:  # given up meanwhile: nobody waits for these bytes
                return
            raise self._folder.removed() from None
        try:
            view = memoryview(data)
            while view:
                view = view[os.pwrite(file, view, span.stop - len(view)) :]
        except OSError as error:
            raise self._folder.full(error) from None
        finally:
            os.close(file)
