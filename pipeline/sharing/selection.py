"""Which shards a part of a dataset needs.

In:  the manifest, and phases or steps.   Out: its shards, all of them or those, in the order of the manifest.
Guarantee: pure. A shard is taken whole if a row of a wanted step lies in it, so a wanted step can be read; held-out
rows are always taken.

    two phases of 100 steps each, 4 shards each:  select(manifest, steps="0-30")   shards 0 and 1 of phase 0
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from curriculum.errors import ConfigError
from curriculum.manifest import Manifest, ShardEntry
from curriculum.storage import HELD_OUT
from pipeline.sharing.ranges import Ranges, parse_ranges


@dataclass(frozen=True, kw_only=True, slots=True)
class Selected:
    """One shard that is wanted."""

    phase: int
    """index into manifest.phases, or HELD_OUT"""
    entry: ShardEntry


def all_shards(manifest: Manifest) -> tuple[Selected, ...]:
    """Every shard, held-out rows last."""
    return select(manifest)


def select(manifest: Manifest, *, phases: str | None = None, steps: str | None = None) -> tuple[Selected, ...]:
    """The shards of some phases, or of some steps, or all.

    Args:
        phases, steps: as `parse_ranges` reads them; at most one of both.

    Raises:
        ConfigError: both are given, or one names what there is not.
    """
    if phases is not None and steps is not None:
        raise ConfigError("--phases and --steps are both given: say what is wanted by one of them.")
    wanted: set[tuple[int, int]] | None = None
    if phases is not None:
        ranges = parse_ranges(phases, len(manifest.phases), "phases")
        chosen = {phase for start, stop in ranges for phase in range(start, stop)}
        wanted = {(phase, index) for phase in chosen for index in range(len(manifest.phases[phase].shards))}
    elif steps is not None:
        wanted = set(_shards_of_steps(manifest, parse_ranges(steps, manifest.plan.total_steps, "steps")))
    found = [
        Selected(phase=phase, entry=shard)
        for phase, entry in enumerate(manifest.phases)
        for index, shard in enumerate(entry.shards)
        if wanted is None or (phase, index) in wanted
    ]
    if manifest.validation:
        found += [Selected(phase=HELD_OUT, entry=shard) for shard in manifest.validation.shards]
    return tuple(found)


def _shards_of_steps(manifest: Manifest, ranges: Ranges) -> Iterator[tuple[int, int]]:
    """(phase, index of the shard) of every row of those steps; some more than once."""
    plan = manifest.plan
    ends = [list(accumulate(shard.num_rows for shard in entry.shards)) for entry in manifest.phases]
    stops = [stop for _, stop in ranges]
    first_step, next_row = 0, [0] * len(plan.phases)
    for phase, num_steps in plan.order:
        rows_per_step, first_row = plan.phases[phase].rows_per_step, next_row[phase]
        last_step = first_step + num_steps
        for start, stop in ranges[bisect_right(stops, first_step) :]:
            if start >= last_step:
                break
            first = first_row + (max(start, first_step) - first_step) * rows_per_step
            last = first_row + (min(stop, last_step) - first_step) * rows_per_step
            for index in range(bisect_right(ends[phase], first), bisect_left(ends[phase], last) + 1):
                yield phase, index
        first_step = last_step
        next_row[phase] += num_steps * rows_per_step
