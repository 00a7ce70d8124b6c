"""Windows and shards of a plan: which steps are cut together, and which files they become.

In:  a plan, the window size in tokens, the shard size in bytes.
Out: windows (runs of whole steps with their interval of the stream) and the shards each of them writes.
Guarantee: arithmetic alone, so that every worker, a resumed build and `verify` agree without talking.

    1,000 tokens consumed, size 300: n = round(1000 / 300) = 3 windows, borders at the first step
    whose cumulative consumption reaches 1000/3 and 2000/3: no tiny last window.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise

from curriculum.budget import filled
from curriculum.phase import Phase
from curriculum.plan import Plan
from curriculum.shard_format import phase_folder, shard_path

MIN_WINDOW_TOKENS = 32 << 20
MAX_WINDOW_TOKENS = 128 << 20
MIN_WINDOW_STEPS = 32
"""A window holds at least 32 of the largest steps, or the shuffle inside it would hardly mix."""
MAX_SHARD_TOKENS = 2**31 - 1
"""Arrow list offsets are int32."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """Steps `first_step <= step < stop_step`, cut from `num_tokens` consumed tokens at `offset` of the stream."""

    index: int
    first_step: int
    stop_step: int
    offset: int
    num_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardSlot:
    """A shard that a window writes: rows `first_row <= row < stop_row` of the window's rows of one phase."""

    phase: int
    path: str
    first_row: int
    stop_row: int


def window_size(plan: Plan, asked: int | None) -> int:
    """Window size in consumed tokens: asked, or 1/1024 of the total within 32 Mi and 128 Mi; at least 32 steps."""
    size = asked or min(max(plan.consumed_tokens // 1024, MIN_WINDOW_TOKENS), MAX_WINDOW_TOKENS)
    largest_step = max(plan.consumed_per_row(i) * phase.rows_per_step for i, phase in enumerate(plan.phases))
    return max(size, MIN_WINDOW_STEPS * largest_step)


def split_windows(plan: Plan, size: int, fill: Sequence[int] = ()) -> tuple[Window, ...]:
    """Windows in step order; border k is the first step whose cumulative consumption reaches k * total / n.

    The steps of each extension have windows of their own: those of the steps before stay what they were.

    Args:
        plan: the plan.
        size: window size in consumed tokens.
        fill: best-fit mode: parts per million of the slots of each phase that the stream is to fill; () for all.
    """
    of_phase = [tokens_per_step(plan, phase, fill) for phase in range(len(plan.phases))]
    first_runs = [0, *range(len(plan.order) - plan.num_extensions, len(plan.order) + 1)]
    borders = [(0, 0)]
    for first, stop in pairwise(first_runs):
        runs = [(of_phase[phase], num_steps) for phase, num_steps in plan.order[first:stop]]
        step, offset = borders[-1]
        borders += [(step + steps, offset + tokens) for steps, tokens in _borders(runs, size)]
    return tuple(
        Window(index=i, first_step=first, stop_step=stop, offset=offset, num_tokens=end - offset)
        for i, ((first, offset), (stop, end)) in enumerate(pairwise(borders))
    )


def _borders(runs: Sequence[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """(steps, tokens) at the end of each window of some runs, given as (tokens of a step, number of steps)."""
    run_steps = [0, *accumulate(steps for _, steps in runs)]
    run_tokens = [0, *accumulate(each * steps for each, steps in runs)]
    total = run_tokens[-1]
    count = max(1, round(Fraction(total, size)))

    def border(k: int) -> tuple[int, int]:
        wanted = -(-k * total // count)
        run = max(bisect_left(run_tokens, wanted), 1) - 1
        steps = -(-(wanted - run_tokens[run]) // runs[run][0])
        return run_steps[run] + steps, run_tokens[run] + steps * runs[run][0]

    return [*(border(k) for k in range(1, count)), (run_steps[-1], total)]


def tokens_per_step(plan: Plan, phase: int, fill: Sequence[int]) -> int:
    """Stream tokens that one step of a phase uses up."""
    slots = plan.consumed_per_row(phase) * plan.phases[phase].rows_per_step
    return filled(slots, fill[phase]) if fill else slots


def consumed_tokens(plan: Plan, fill: Sequence[int]) -> int:
    """Stream tokens that all steps use up."""
    return sum(tokens_per_step(plan, i, fill) * phase.num_steps for i, phase in enumerate(plan.phases))


def window_runs(plan: Plan, window: Window) -> tuple[tuple[int, int], ...]:
    """`(phase index, number of steps)` runs of a window, in step order."""
    return plan.runs_between(window.first_step, window.stop_step)


def rows_by_phase(plan: Plan, window: Window) -> dict[int, int]:
    """Number of rows that a window gives to each phase, phases in ascending order."""
    rows: dict[int, int] = {}
    for phase, steps in window_runs(plan, window):
        rows[phase] = rows.get(phase, 0) + steps * plan.phases[phase].rows_per_step
    return dict(sorted(rows.items()))


def count_shards(plan: Plan, windows: Sequence[Window], *, shard_bytes: int, itemsize: int) -> int:
    """How many shards `lay_out_shards` would list: of somebody else's dataset, that may be more than memory holds."""
    return sum(
        -(-num_rows // rows)
        for window in windows
        for phase, num_rows in rows_by_phase(plan, window).items()
        for rows in (_most_rows(plan.phases[phase], shard_bytes, itemsize),)
    )


def lay_out_shards(
    plan: Plan, windows: tuple[Window, ...], *, shard_bytes: int, itemsize: int
) -> tuple[tuple[ShardSlot, ...], ...]:
    """The shards of each window. A shard holds whole steps: as many as `shard_bytes` allows, at least one."""
    pieces = [list(_split_rows(plan, window, shard_bytes, itemsize)) for window in windows]
    totals = [0] * len(plan.phases)
    for phase, _, _ in (piece for of_window in pieces for piece in of_window):
        totals[phase] += 1
    numbers = [0] * len(plan.phases)
    layout = []
    for of_window in pieces:
        slots = []
        for phase, first, stop in of_window:
            folder = phase_folder(phase, plan.phases[phase].seq_len)
            path = shard_path(folder, numbers[phase], totals[phase])
            slots.append(ShardSlot(phase=phase, path=path, first_row=first, stop_row=stop))
            numbers[phase] += 1
        layout.append(tuple(slots))
    return tuple(layout)


def _split_rows(plan: Plan, window: Window, shard_bytes: int, itemsize: int) -> Iterator[tuple[int, int, int]]:
    """`(phase, first row, stop row)` of each shard of a window; shards of one phase differ by at most one step."""
    for phase_index, num_rows in rows_by_phase(plan, window).items():
        phase = plan.phases[phase_index]
        limit_steps = _most_rows(phase, shard_bytes, itemsize) // phase.rows_per_step
        num_steps = num_rows // phase.rows_per_step
        count = -(-num_steps // limit_steps)
        edges = [i * num_steps // count * phase.rows_per_step for i in range(count + 1)]
        for first, stop in pairwise(edges):
            yield phase_index, first, stop


def _most_rows(phase: Phase, shard_bytes: int, itemsize: int) -> int:
    """Rows of the largest shard of a phase: whole steps, at least one."""
    limit_tokens = min(shard_bytes // itemsize, MAX_SHARD_TOKENS)
    return max(1, limit_tokens // ((phase.seq_len + 1) * phase.rows_per_step)) * phase.rows_per_step
