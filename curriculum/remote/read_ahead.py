"""Fetching what will be read next, while what was fetched is read.

In:  the places of one rank, in order.   Out: each place with its shard, once its rows are there and checked.
Guarantee: what was asked for and not handed out yet stays below a limit, so memory and disk do. Ending the iteration,
or leaving it, gives up what was not begun. The reading thread waits without holding the interpreter.

    places of rank 0 of 2, rows of 2 KiB      [0, 8) [16, 24) [32, 40)
    spans asked for, gaps of 16 KiB joined    one request for [0, 40)
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

from curriculum.errors import DataError
from curriculum.remote.byte_ranges import RANGE_BYTES, Span, join
from curriculum.remote.cached_shard import CachedShard, Fetch
from curriculum.remote.fetcher import Fetcher
from curriculum.remote.shard_cache import Key, ShardCache
from curriculum.storage import Place

AHEAD_BYTES = 256 << 20
"""One shard of the usual size: while it is read, the next one is fetched whole."""
AHEAD_PLACES = 4096
"""Rows of 8 tokens are so small that a limit of bytes alone would hold a million places."""
AHEAD_SHARDS = 32
"""Different shards among them."""
GROUP_PLACES = 256
"""Places that are looked at together, so that neighbours share a request: about 1 ms of the reading thread."""


@dataclass(slots=True)
class Ticket:
    """A place whose rows were asked for."""

    place: Place
    key: Key
    shard: CachedShard
    span: Span | None
    """the bytes of its rows; None where the shard comes whole"""
    fetches: list[Fetch]
    cost_bytes: int


class ReadAhead:
    """The places of one iteration, and the window of them that was asked for."""

    def __init__(
        self,
        places: Iterator[Place],
        *,
        cache: ShardCache,
        fetcher: Fetcher,
        reads_whole: Callable[[Place, Place | None], bool],
    ) -> None:
        """Ask for nothing yet.

        Args:
            reads_whole: whether the shard of a place is to be fetched whole; its second argument is the place after it.
        """
        self._places, self._cache, self._fetcher, self._reads_whole = places, cache, fetcher, reads_whole
        self._limit_bytes = min(AHEAD_BYTES, cache.cache_bytes // 2)
        self._group_bytes = min(RANGE_BYTES, self._limit_bytes)
        self._next = next(places, None)
        self._window: deque[Ticket] = deque()
        self._ahead_bytes = 0
        self._shards: dict[Key, CachedShard] = {}
        self._counts: Counter[Key] = Counter()

    def tickets(self) -> Generator[Ticket, None, None]:
        """Every place in turn, when its rows are there."""
        try:
            while True:
                while self._has_room():
                    self._ask_for_more()
                if not self._window:
                    return
                ticket = self._window.popleft()
                try:
                    for fetch in ticket.fetches:
                        self._fetcher.wait(fetch)
                except DataError:
                    self._cache.drop(ticket.shard)
                    raise
                finally:
                    self._leave(ticket)
                yield ticket
        finally:
            for ticket in self._window:
                ticket.shard.release(ticket.fetches)
                self._leave(ticket)
            self._window.clear()

    def _has_room(self) -> bool:
        if self._next is None:
            return False
        if not self._window:
            return True
        return (
            self._ahead_bytes + self._group_bytes <= self._limit_bytes
            and len(self._window) + GROUP_PLACES <= AHEAD_PLACES
            and len(self._shards) < AHEAD_SHARDS
        )

    def _ask_for_more(self) -> None:
        """Add one group of places to the window."""
        group: list[Ticket] = []
        rows: dict[CachedShard, list[Span]] = {}
        group_bytes = next_bytes = 0
        while self._next is not None and len(group) < GROUP_PLACES and group_bytes + next_bytes <= self._group_bytes:
            ticket = self._ticket(self._next)
            group.append(ticket)
            group_bytes += ticket.cost_bytes
            next_bytes = ticket.span.stop - ticket.span.start if ticket.span else 1
            if ticket.span is not None:
                rows.setdefault(ticket.shard, []).append(ticket.span)
        joined = [(shard, shard.want(span)) for shard, spans in rows.items() for span in join(spans)]
        for ticket in group:
            if ticket.span is not None:
                ticket.fetches += ticket.shard.want(ticket.span)
        for shard, fetches in joined:
            shard.release(fetches)  # each place holds what it needs now
        self._ahead_bytes += group_bytes
        self._window.extend(group)
        self._cache.make_room()

    def _ticket(self, place: Place) -> Ticket:
        """A place, with what its shard needs before any row is of use."""
        self._next = next(self._places, None)
        key = (place.phase, place.shard)
        shard, fetches, cost_bytes = self._shards.get(key), [], 0
        if shard is None:
            whole = self._reads_whole(place, self._next)  # before it is pinned: this may refuse
            shard = self._shards[key] = self._cache.pin(key)
            before = shard.reserved_bytes
            fetches = shard.want_whole() if whole else shard.want_structure()
            cost_bytes = shard.reserved_bytes - before
        self._counts[key] += 1
        span = None if shard.is_whole else shard.about.rows(place.start, place.stop)
        if span is not None:
            cost_bytes += span.stop - span.start
        return Ticket(place, key, shard, span, fetches, cost_bytes)

    def _leave(self, ticket: Ticket) -> None:
        """The place is in the window no more."""
        self._ahead_bytes -= ticket.cost_bytes
        self._counts[ticket.key] -= 1
        if not self._counts[ticket.key]:
            del self._counts[ticket.key], self._shards[ticket.key]
            self._cache.unpin(ticket.shard)
