"""Which rows of which shard come from which source, and which interval of its stream each window takes.

In:  a plan, the weights of the sources, the shards of every window.
Out: for each window the interval of every source's own stream, and for each of its shards the rows of every source.
Guarantee: arithmetic alone, so that every worker, a resumed build and `verify` agree without talking. The rows of a
shard add up; the intervals of a source follow one another without a gap, from 0 on.

    rows of 8 tokens, weights 7 and 3, two windows of one shard of 10 rows each
    window 0: 7 rows at 0 of the first stream, 3 at 0 of the second; window 1: 7 rows at 56, 3 at 24
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from curriculum.mixture import Mixture, apportion
from curriculum.plan import Plan
from pipeline.windows import ShardSlot, lay_out_shards, split_windows, tokens_per_step


@dataclass(frozen=True, kw_only=True, slots=True)
class MixedWindow:
    """What one window takes of every source."""

    offsets: tuple[int, ...]
    """[num_sources] where the window begins in each source's own stream"""
    num_tokens: tuple[int, ...]
    """[num_sources] tokens of each stream that its rows use up"""
    rows: tuple[tuple[int, ...], ...]
    """[num_shards][num_sources] rows of each shard, in the order of the window's shards"""


def split_sources(plan: Plan, mixture: Mixture, layout: Sequence[Sequence[ShardSlot]]) -> list[MixedWindow]:
    """The part of each source in every window.

    Args:
        plan: the plan.
        mixture: weights of each phase.
        layout: the shards of each window, as `lay_out_shards` gives them.
    """
    shard_rows: list[list[int]] = [[] for _ in plan.phases]
    for slots in layout:
        for slot in slots:
            shard_rows[slot.phase].append(slot.stop_row - slot.first_row)
    given = [apportion(weights, rows) for weights, rows in zip(mixture.weights, shard_rows, strict=True)]
    at = [0] * mixture.num_sources
    windows = []
    for slots in layout:
        rows = tuple(next(given[slot.phase]) for slot in slots)
        taken = [0] * mixture.num_sources
        for slot, of_shard in zip(slots, rows, strict=True):
            per_row = plan.consumed_per_row(slot.phase)
            taken = [tokens + per_row * count for tokens, count in zip(taken, of_shard, strict=True)]
        windows.append(MixedWindow(offsets=tuple(at), num_tokens=tuple(taken), rows=rows))
        at = [offset + tokens for offset, tokens in zip(at, taken, strict=True)]
    return windows


def rows_by_source(
    plan: Plan, mixture: Mixture, *, window_tokens: int, shard_bytes: int, itemsize: int
) -> tuple[tuple[int, ...], ...]:
    """[num_phases][num_sources] rows that the whole plan takes of every source."""
    windows = split_windows(plan, window_tokens)
    layout = lay_out_shards(plan, windows, shard_bytes=shard_bytes, itemsize=itemsize)
    rows = [[0] * mixture.num_sources for _ in plan.phases]
    for slots, window in zip(layout, split_sources(plan, mixture, layout), strict=True):
        for slot, of_shard in zip(slots, window.rows, strict=True):
            of_phase = rows[slot.phase]
            for source, count in enumerate(of_shard):
                of_phase[source] += count
    return tuple(map(tuple, rows))


def consumed_by_source(plan: Plan, rows: Iterable[Sequence[int]], fill: Sequence[int] = ()) -> tuple[int, ...]:
    """[num_sources] tokens of its stream that every source gives, from `rows_by_source`.

    Args:
        plan: the plan.
        rows: [num_phases][num_sources].
        fill: best-fit mode, where a phase is of one source: how full its rows are to get; () in other modes.
    """
    weighed = [[consumed_in_phase(plan, phase, count, fill) for count in of] for phase, of in enumerate(rows)]
    return tuple(map(sum, zip(*weighed, strict=True)))


def consumed_in_phase(plan: Plan, phase: int, num_rows: int, fill: Sequence[int] = ()) -> int:
    """Stream tokens of so many rows of a phase; in best-fit mode of all or of none."""
    of_all = tokens_per_step(plan, phase, fill) * plan.phases[phase].num_steps
    return of_all * num_rows // plan.phases[phase].num_rows


def epochs_begun(consumed: int, tokens_per_epoch: int) -> int:
    """Whole epochs of a stream that hold the consumed tokens and the one after them; 0 if nothing is consumed."""
    return -(-(consumed + 1) // tokens_per_epoch) if consumed else 0


def number_streams(
    consumed: Sequence[int], tokens_per_epoch: Sequence[int], documents_per_epoch: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """(offset, first document) of every source: streams lie end to end, each as long as the epochs it has begun."""
    places = []
    offset = document = 0
    for used, tokens, documents in zip(consumed, tokens_per_epoch, documents_per_epoch, strict=True):
        places.append((offset, document))
        epochs = epochs_begun(used, tokens)
        offset, document = offset + epochs * tokens, document + epochs * documents
    return tuple(places)
