"""Cut many windows: those that an earlier run did not finish, by all workers.

In:  what all windows share, and their tasks.   Out: the shards of each phase in row order, and what packing counted.
Guarantee: a window whose record and shards are there is not cut again. Nothing begins that the disk has no room for.
"""

from __future__ import annotations

from curriculum.errors import BuildError
from curriculum.manifest import PACKED, ShardEntry, required_features
from curriculum.shard_format import row_bytes, token_itemsize
from pipeline.cut import CutJob, WindowTask, cut_window, finished_windows
from pipeline.engines.workers import Workers
from pipeline.progress import Progress
from pipeline.window_counts import WindowCounts


def cut_windows(
    job: CutJob, tasks: list[WindowTask], workers: Workers, progress: Progress
) -> tuple[list[tuple[ShardEntry, ...]], WindowCounts]:
    """Cut the windows of these tasks; their shards, one tuple for each phase of the plan.

    Raises:
        BuildError: there is no room, a window cannot be cut, or its record vanished.
    """
    plan, itemsize = job.plan, token_itemsize(job.stream.dtype)
    done = finished_windows(job, tasks)
    left = [task for task in tasks if task.window.index not in done]
    _check_space(job, left)
    total, to_do = (sum(task.window.num_tokens for task in some) for some in (tasks, left))
    with progress.stage("cut", total=total * itemsize, unit="B") as advance:
        advance((total - to_do) * itemsize)
        for number, _ in workers.run(cut_window, (job,), [(task,) for task in left]):
            done |= finished_windows(job, [left[number]])  # now: a record of a store takes 20 ms, a job has 75,000
            advance(left[number].window.num_tokens * itemsize)
    shards: list[list[ShardEntry]] = [[] for _ in plan.phases]
    counts = WindowCounts()
    for task in tasks:
        finished = done.get(task.window.index)
        if finished is None:
            raise BuildError(
                f"{job.dataset.where}: the record of window {task.window.index} vanished. Run the same command again."
            )
        counts += finished.counts
        for slot, entry in zip(task.slots, finished.shards, strict=True):
            shards[slot.phase].append(entry)
    return [tuple(of_phase) for of_phase in shards], counts


def _check_space(job: CutJob, tasks: list[WindowTask]) -> None:
    slots = [slot for task in tasks for slot in task.slots]
    packed = PACKED in required_features(job.plan)
    needed = sum(
        (slot.stop_row - slot.first_row) * row_bytes(job.plan.phases[slot.phase].seq_len, job.stream.dtype, packed)
        for slot in slots
    )
    free = job.dataset.free_bytes()
    if free is not None and needed > free:
        raise BuildError(
            f"{job.dataset.where}: the shards need {needed / 1e6:,.1f} MB, the disk has {free / 1e6:,.1f} MB left. "
            f"Free space or give --out on another disk, then run again: the token store is used again."
        )
