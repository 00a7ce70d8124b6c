"""Which rows are exported, and in which order a trainer visits them.

In:  the manifest, and phases or steps, or neither.   Out: `Selection`: runs of steps, and for each phase its rows.
Guarantee: pure. Exactly the rows of the wanted steps, shards cut where a step ends inside them; rows keep their order.

    8 steps of 4 rows, order (0, 3) (1, 2) (0, 3), shards of 8 rows;  select_rows(manifest, steps="2-5")
    runs     step 2: phase 0, 1 step     step 3: phase 1, 2 steps     step 5: phase 0, 1 step
    phase 0  rows 8 to 15 of it: shard 1, rows 0 to 7          phase 1  rows 0 to 7: shard 0, rows 0 to 7
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from curriculum.errors import ConfigError
from curriculum.manifest import Manifest, PhaseEntry
from curriculum.plan import Plan
from curriculum.storage import HELD_OUT
from pipeline.sharing.ranges import Ranges, parse_ranges


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Steps of one phase that follow each other."""

    phase: int
    """index into manifest.phases"""
    first_step: int
    """in the numbering of the dataset"""
    num_steps: int
    first_row: int
    """in the phase of the dataset"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Rows of one shard that are exported."""

    phase: int
    """index into manifest.phases, or HELD_OUT"""
    index: int
    """number of the part in its phase"""
    shard: int
    """index into the phase's shards"""
    start: int
    """first row in the shard"""
    stop: int
    first_row: int
    """among the exported rows of the phase"""

    @property
    def num_rows(self) -> int:
        """Rows of the part."""
        return self.stop - self.start


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """What is exported."""

    runs: tuple[Run, ...]
    """in the order of the steps"""
    parts: dict[int, tuple[Part, ...]]
    """by phase, in the order of its rows; held-out rows last"""

    @property
    def num_steps(self) -> int:
        """Exported steps."""
        return sum(run.num_steps for run in self.runs)


def select_rows(
    manifest: Manifest, *, phases: str | None = None, steps: str | None = None, validation: bool = True
) -> Selection:
    """The rows of some phases, or of some steps, or all.

    Args:
        phases, steps: as `parse_ranges` reads them; at most one of both.
        validation: held-out rows too, if there are any.

    Raises:
        ConfigError: both are given, or one names what there is not.
    """
    if phases is not None and steps is not None:
        raise ConfigError("--phases and --steps are both given: say what is wanted by one of them.")
    plan = manifest.plan
    if phases is not None:
        ranges = parse_ranges(phases, len(plan.phases), "phases")
        chosen = {phase for start, stop in ranges for phase in range(start, stop)}
        runs = tuple(run for run in _all_runs(plan) if run.phase in chosen)
    elif steps is not None:
        runs = tuple(_runs_of_steps(plan, parse_ranges(steps, plan.total_steps, "steps")))
    else:
        runs = tuple(_all_runs(plan))
    rows: dict[int, list[tuple[int, int]]] = {}
    for run in runs:
        first, count = run.first_row, run.num_steps * plan.phases[run.phase].rows_per_step
        of_phase = rows.setdefault(run.phase, [])
        if of_phase and of_phase[-1][1] == first:  # the phase was left and visited again
            of_phase[-1] = (of_phase[-1][0], first + count)
        else:
            of_phase.append((first, first + count))
    parts = {phase: _parts(phase, manifest.phases[phase], rows[phase]) for phase in sorted(rows)}
    if validation and manifest.validation:
        parts[HELD_OUT] = _parts(HELD_OUT, manifest.validation, [(0, manifest.validation.num_rows)])
    return Selection(runs=runs, parts=parts)


def same_ranges(text: str, total: int, what: str) -> str:
    """The one way to write these numbers: `2,0-1,5` is `0-2,5`."""
    ranges = parse_ranges(text, total, what)
    return ",".join(f"{start}" if stop == start + 1 else f"{start}-{stop - 1}" for start, stop in ranges)


def _all_runs(plan: Plan) -> Iterator[Run]:
    first_step, next_row = 0, [0] * len(plan.phases)
    for phase, num_steps in plan.order:
        yield Run(phase=phase, first_step=first_step, num_steps=num_steps, first_row=next_row[phase])
        first_step += num_steps
        next_row[phase] += num_steps * plan.phases[phase].rows_per_step


def _runs_of_steps(plan: Plan, ranges: Ranges) -> Iterator[Run]:
    for start, stop in ranges:
        step = start
        for phase, num_steps in plan.runs_between(start, stop):
            yield Run(phase=phase, first_step=step, num_steps=num_steps, first_row=plan.locate(step)[1])
            step += num_steps


def _parts(phase: int, entry: PhaseEntry, rows: list[tuple[int, int]]) -> tuple[Part, ...]:
    """Stretches of rows, cut at the borders of shards."""
    borders = [0, *accumulate(shard.num_rows for shard in entry.shards)]
    parts: list[Part] = []
    exported = 0
    for start, stop in rows:
        shard = bisect_right(borders, start) - 1
        while start < stop:
            end = min(stop, borders[shard + 1])
            parts.append(
                Part(
                    phase=phase,
                    index=len(parts),
                    shard=shard,
                    start=start - borders[shard],
                    stop=end - borders[shard],
                    first_row=exported,
                )
            )
            exported += end - start
            start, shard = end, shard + 1
    return tuple(parts)
