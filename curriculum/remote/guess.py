"""What a loop that asks for one micro-batch at a time will ask for next.

In:  places as they are asked for, one by one.   Out: the places that continue them, once they follow a pattern.
Guarantee: pure arithmetic. A rank asks for rows at equal distances: as many as a micro-batch has, times the ranks.

    asked for rows 4-8, 12-16, 20-24 of a shard of 32     ->     20-24, 28-32, then 4-8 of the next shard, 12-16 ...
"""

from __future__ import annotations

from collections.abc import Iterator

from curriculum.manifest import Manifest
from curriculum.storage import HELD_OUT, Place


class Pattern:
    """Watches what is asked for. Three places at equal distances are a pattern: two at random never are one."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._last: Place | None = None
        self._stride_rows = 0

    def stride(self, place: Place) -> int:
        """Rows from each place to the next, if this one continues a pattern; else 0."""
        last, self._last = self._last, place
        before, self._stride_rows = self._stride_rows, self._distance(last, place) if last is not None else 0
        return before if before == self._stride_rows else 0

    def _distance(self, last: Place, place: Place) -> int:
        """Rows from one place to a later one of the same size, in the same shard or the next; else 0."""
        same_size = place.stop - place.start == last.stop - last.start
        if place.phase != last.phase or place.phase == HELD_OUT or not same_size:
            return 0
        if place.shard == last.shard:
            return max(0, place.start - last.start)
        if place.shard == last.shard + 1:
            return self._manifest.phases[last.phase].shards[last.shard].num_rows - last.start + place.start
        return 0


def following(manifest: Manifest, place: Place, stride_rows: int) -> Place | None:
    """The place so many rows later; None at the end of the phase."""
    shards = manifest.phases[place.phase].shards
    shard, start, rows = place.shard, place.start + stride_rows, place.stop - place.start
    while shard < len(shards) and start >= shards[shard].num_rows:
        start -= shards[shard].num_rows
        shard += 1
    return None if shard == len(shards) else Place(place.phase, shard, start, start + rows)


def continuing(manifest: Manifest, place: Place, stride_rows: int) -> Iterator[Place]:
    """The place, and those that follow it in its phase."""
    now: Place | None = place
    while now is not None:
        yield now
        now = following(manifest, now, stride_rows)
