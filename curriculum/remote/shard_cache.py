"""Which shards stay in the cache.

In:  shards that are asked for.   Out: their `CachedShard`, new or known.
Guarantee: what was fetched stays below `cache_bytes`; beyond, the least recently used shards go first, by unlink: views
of their rows stay valid, and the disk gets the space back when the last of them is gone. A shard with places that were
asked for and not handed out yet is never evicted, nor is anything that this process did not make.

    cache of 2 shards: 0, 1, 0, 2   ->   1 is evicted
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

from curriculum.remote.cached_shard import CachedShard

MAX_CACHED_SHARDS = 4096
"""Each is a file, and mapped once it was read; systems allow 65,530 maps."""
Key = tuple[int, int]


class ShardCache:
    """Shards by (phase, index), least recently used first."""

    def __init__(self, make: Callable[[Key], CachedShard], cache_bytes: int) -> None:
        self.cache_bytes = cache_bytes
        self._make = make
        self._lock = threading.Lock()
        self._shards: OrderedDict[Key, CachedShard] = OrderedDict()

    @property
    def reserved_bytes(self) -> int:
        """Fetched, or on its way, into files that are linked."""
        with self._lock:
            return sum(shard.reserved_bytes for shard in self._shards.values())

    def pin(self, key: Key) -> CachedShard:
        """The shard, now in use; give it back with `unpin`."""
        with self._lock:
            shard = self._shards.get(key)
            if shard is None:
                shard = self._shards[key] = self._make(key)
            self._shards.move_to_end(key)
            shard.pins += 1
            return shard

    def unpin(self, shard: CachedShard) -> None:
        """One place less that needs it."""
        with self._lock:
            shard.pins -= 1

    def make_room(self) -> None:
        """Evict until what was asked for fits."""
        with self._lock:
            total = sum(shard.reserved_bytes for shard in self._shards.values())
            for key, shard in list(self._shards.items()):
                if total <= self.cache_bytes and len(self._shards) <= MAX_CACHED_SHARDS:
                    return
                if shard.pins == 0:
                    total -= shard.reserved_bytes
                    self._drop(key)

    def drop(self, shard: CachedShard) -> None:
        """Forget a shard that failed: asked for again, it is fetched anew."""
        with self._lock:
            for key in [key for key, other in self._shards.items() if other is shard]:
                self._drop(key)

    def _drop(self, key: Key) -> None:
        shard = self._shards.pop(key)
        shard.dropped = True
        with suppress(FileNotFoundError):
            shard.path.unlink()
