"""A shard in a store: one checked read of some of its bytes.

In:  what the manifest says about a shard, and a span.   Out: the bytes of the span.
Guarantee: as many bytes as were asked for, of an object of the right size. Unless the digest of the whole shard is
checked afterwards: also of the same version of the object before and after each read, and without token ids that the
vocabulary does not have.

    source.read(Span(0, 4096), 20.0, whole=False)
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from math import inf
from time import monotonic

import numpy as np

from curriculum.errors import DataError
from curriculum.manifest import ShardEntry
from curriculum.remote.byte_ranges import Span, rows_span
from curriculum.remote.failures import http_status, may_pass
from curriculum.remote.store import Identity, Store
from curriculum.shard_format import COMPRESSED, missing_shard, token_itemsize


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardDescription:
    """What the manifest says about a shard."""

    entry: ShardEntry
    seq_len: int
    dtype: str
    """of a token: "uint16" or "uint32" """
    vocab_size: int
    packed: bool

    @property
    def row_bytes(self) -> int:
        """Bytes of the tokens of a row."""
        return (self.seq_len + 1) * token_itemsize(self.dtype)

    @property
    def tokens(self) -> Span:
        """The bytes that hold token values."""
        return self.rows(0, self.entry.num_rows)

    def rows(self, start: int, stop: int) -> Span:
        """The bytes that hold the tokens of these rows."""
        return rows_span(self.entry.data_offset, self.row_bytes, start, stop)


class ShardSource:
    """Reads a shard from the store. Used by several threads at once."""

    def __init__(self, about: ShardDescription, store: Store) -> None:
        self.about = about
        self.where = store.address(about.entry.path)
        self._store = store
        self._look = threading.Lock()
        self._first_seen: Identity | None = None
        self._looked_at = -inf
        """when the last look at it began"""

    def read(self, span: Span, seconds: float, *, whole: bool) -> bytes:
        """One attempt.

        Args:
            whole: the digest of the shard will be compared, which finds everything that is only hinted at here.

        Raises:
            DataError: the store holds something else than the manifest says.
            Exception: whatever the file system raises.
        """
        if not whole and self._first_seen is None:
            self._require_same(monotonic(), seconds)
        try:
            data = self._store.read(self.about.entry.path, span, seconds)
        except Exception as error:
            if http_status(error) == 416:  # no such range: the object ends before
                self._require_size(seconds)
            self._require_plain(error, seconds)
            raise
        asked = span.stop - span.start
        if len(data) > asked:
            raise DataError(f"{self.where}: the store ignores byte ranges, which reading in place needs.")
        if len(data) < asked:
            self._require_size(seconds)
            raise ConnectionError(f"{len(data):,} of {asked:,} bytes came")
        if not whole:
            self._require_tokens(span, data)
            if not self._store.immutable:
                self._require_same(monotonic(), seconds)
        return data

    def check(self, seconds: float) -> None:
        """Compare the size in the store with the manifest.

        Raises:
            DataError: they differ.
        """
        self._require_size(seconds)

    def _require_size(self, seconds: float) -> Identity:
        try:
            now = self._store.identify(self.about.entry.path, seconds)
        except Exception as error:
            self._require_plain(error, seconds)
            raise
        if now.size not in (self.about.entry.num_bytes, -1):
            raise DataError(
                f"{self.where}: {now.size:,} bytes in the store, the manifest says {self.about.entry.num_bytes:,}. The "
                f"copy is incomplete or another file: copy the shard again."
            )
        return now

    def _require_plain(self, error: Exception, seconds: float) -> None:
        """Of a shard that is not there: say so if it is there compressed."""
        if may_pass(error) or not (isinstance(error, FileNotFoundError) or http_status(error) == 404):
            return
        try:
            self._store.identify(self.about.entry.path + COMPRESSED, seconds)
        except Exception:  # what went wrong first is what people need to know
            return
        raise DataError(missing_shard(self.where, compressed=True)) from None

    def _require_same(self, since: float, seconds: float) -> None:
        """Compare what the store says about the object after `since` with what it said first.

        One look is enough for all ranges that arrived before it: with small ranges it would cost as much as they do.
        """
        with self._look:
            if self._looked_at >= since:
                return
            began = monotonic()
            now = self._require_size(seconds)
            if self._first_seen is None:
                self._first_seen = now
            if now != self._first_seen:
                raise DataError(
                    f"{self.where}: the shard was replaced while it was read ({', '.join(self._first_seen.version)} "
                    f"became {', '.join(now.version)}). Put the right one back and resume from the last cursor."
                )
            self._looked_at = began

    def _require_tokens(self, span: Span, data: bytes) -> None:
        """No id reaches the vocabulary: what can be seen of a damaged token without a digest."""
        tokens, itemsize = self.about.tokens, token_itemsize(self.about.dtype)
        start, stop = max(span.start, tokens.start), min(span.stop, tokens.stop)
        start += (tokens.start - start) % itemsize
        count = (stop - start) // itemsize
        if count <= 0:
            return
        ids = np.frombuffer(data, np.dtype(self.about.dtype), count, start - span.start)
        at = int(ids.argmax())
        if int(ids[at]) >= self.about.vocab_size:
            row = (start + at * itemsize - tokens.start) // self.about.row_bytes
            raise DataError(
                f"{self.where}: row {row} holds the token {int(ids[at])}, expected less than the vocab_size "
                f"{self.about.vocab_size}. The shard is damaged: copy it again."
            )
