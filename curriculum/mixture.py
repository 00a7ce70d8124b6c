"""A mixture: what share of its rows every phase takes from which source, in whole rows.

In:  weights, integers per phase and source; for one phase the number of rows of each of its shards, in order.
Out: for each shard the number of rows of each source.
Guarantee: integers and the standard library only, so a builder and a reader agree. The rows of every shard add up; none
is negative; after every shard, the rows that a source has had of the phase so far are its exact share rounded down or
up: never a row or more away from it. A weight of 0 gives no row.

A shard is apportioned by largest remainder: each source is owed its exact share of the rows up to the end of this
shard less the rows it has had, gets the whole part, and the rows that are left go to the largest fractions, ties to the
first.

    weights 7 and 3, shards of 5 rows      exact 3.5 and 1.5: 4 and 1; then owed 3.0 and 2.0: 3 and 2; and so on
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import gcd, lcm

LOOK_AHEAD_SHARDS = 64
"""A choice that is not shown within so many shards to leave everybody's share possible is not made."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixture:
    """Relative weights: `weights[phase][source]`, at least one of each phase above 0."""

    weights: tuple[tuple[int, ...], ...]

    @property
    def num_sources(self) -> int:
        """Sources of every phase."""
        return len(self.weights[0])

    @property
    def varies(self) -> bool:
        """Whether phases differ in their shares."""
        return any(of_phase != self.weights[0] for of_phase in self.weights)

    def share(self, phase: int, source: int) -> float:
        """Share of the rows of a phase, for people; nothing is decided by it."""
        return self.weights[phase][source] / sum(self.weights[phase])

    def share_of_all(self, num_rows: Sequence[int], source: int) -> float:
        """Share of the rows of all phases, of which there are `num_rows` [num_phases]: the weight in a manifest."""
        common = self.common_total
        owed = sum(rows * of[source] * (common // sum(of)) for rows, of in zip(num_rows, self.weights, strict=True))
        return owed / (common * sum(num_rows))  # the nearest float, as division of integers is

    @property
    def common_total(self) -> int:
        """The smallest number that the sum of every phase's weights divides."""
        return lcm(*{sum(of_phase) for of_phase in self.weights})


def reduced(weights: Sequence[int]) -> tuple[int, ...]:
    """The smallest integers in the same proportion, so that equal mixtures are written alike."""
    divisor = gcd(*weights)
    return tuple(weight // divisor for weight in weights)


def apportion(weights: Sequence[int], shard_rows: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Rows of each source in every shard of a phase.

    Args:
        weights: of each source, in this phase.
        shard_rows: rows of each shard of the phase, in order.
    """
    total = sum(weights)
    # The end of every shard, and the rows of it if each source had its share rounded down.
    ends = [(end, sum(weight * end // total for weight in weights)) for end in accumulate(shard_rows)]
    had = [0] * len(weights)
    for shard, rows in enumerate(shard_rows):
        upcoming = ends[shard : shard + LOOK_AHEAD_SHARDS + 1]
        given = _give(weights, had, rows, upcoming)
        had = [before + more for before, more in zip(had, given, strict=True)]
        yield tuple(given)


def _give(weights: Sequence[int], had: Sequence[int], rows: int, ends: Sequence[tuple[int, int]]) -> list[int]:
    """Rows of one shard, which ends after `ends[0][0]` rows of the phase; the next ones end at `ends[1:]`."""
    total = sum(weights)
    owed = [weight * ends[0][0] - total * before for weight, before in zip(weights, had, strict=True)]
    given = [max(0, share // total) for share in owed]
    left = rows - sum(given)
    sources = range(len(weights))
    fractions = [share - total * whole for share, whole in zip(owed, given, strict=True)]
    chosen = set(sorted(sources, key=lambda source: -fractions[source])[:left])
    if left > 0 and not _leaves_shares_possible(weights, [had[k] + given[k] + (k in chosen) for k in sources], ends):
        # A source that is ahead waits; where two or more are, the others may come to want more rows than a shard has.
        # Who must have a row first gets it first: with that order nobody is ever too late if anybody can be in time.
        urgent = [k for k in sources if fractions[k] > 0]
        due = {k: -(-(had[k] + given[k] + 1) * total // weights[k]) for k in urgent}
        chosen = set(sorted(urgent, key=due.__getitem__)[:left])
    for source in chosen:
        given[source] += 1
    return given


def _leaves_shares_possible(weights: Sequence[int], had: Sequence[int], ends: Sequence[tuple[int, int]]) -> bool:
    """Whether at the end of every later shard all sources can have their share, rounded down, at least.

    What all must have by then is at most what there are rows. Nothing can go wrong any more once the sources that are
    ahead are so by one row or less in all: the sum of what must be had exceeds the rows by less than that, hence by 0.
    Who is not ahead any more will not be again: hundreds of sources and shards to come are not looked at one by one.
    """
    total = sum(weights)
    early = list(zip(weights, had, strict=True))
    for end, shares in ends[1:]:
        early = [(weight, rows) for weight, rows in early if total * rows > weight * end]
        needed = shares + sum(rows - weight * end // total for weight, rows in early)
        if needed > end:
            return False
        if sum(total * rows - weight * end for weight, rows in early) <= total:
            return True
    return len(ends) <= LOOK_AHEAD_SHARDS
