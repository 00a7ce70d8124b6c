"""Cut one window of the stream into published shards.

In:  what all windows share (`CutJob`), one window, its shards and its pieces of the stream.
Out: files on the disk: its shards, and a record of their manifest entries beside the unfinished dataset.
Guarantee: a pure task. Run twice, or on another worker, it writes the same bytes to the same paths.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import PurePosixPath
from typing import Any

import orjson

from curriculum.manifest import ShardEntry
from curriculum.mixture import Mixture
from curriculum.plan import Plan
from pipeline.cut_packed import BucketRows, lay_window, pack_interval
from pipeline.files.contract import Files
from pipeline.layout import WINDOWS_FOLDER, read_object, write_object
from pipeline.mixed_dealing import deal_mixed
from pipeline.mixed_text import cut_mixed, read_mixed
from pipeline.mixed_windows import MixedWindow
from pipeline.segment import Rows, cut_rows, deal_rows
from pipeline.shard import write_shard
from pipeline.store import ALGORITHM
from pipeline.stream import NumberedStream, StreamPiece, StreamSpec, read_interval
from pipeline.window_counts import WindowCounts
from pipeline.windows import ShardSlot, Window, rows_by_phase

WHERE = ("store", "merged")
"""Fields of a stream that say where it is read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CutJob:
    """What all windows of a build have in common."""

    dataset: Files
    plan: Plan
    stream: StreamSpec
    window_tokens: int
    eos_id: int
    fill: tuple[int, ...]
    """best-fit mode: how full the rows of each phase are to get, in parts per million; else ()"""
    mixture: Mixture | None = None
    """of several sources: the weights, and below the stream of each; `stream` then is for the held-out documents"""
    streams: tuple[NumberedStream, ...] = ()

    @property
    def identity(self) -> str:
        """Of everything that decides the bytes of a window: records of another build are not believed."""
        stream = _identity(self.stream)
        mixed = [[_identity(one.spec), one.offset, one.first_document] for one in self.streams]
        weights = self.mixture.weights if self.mixture else ()
        what = [ALGORITHM, self.plan.digest(), stream, self.window_tokens, self.fill, weights, mixed]
        return hashlib.sha256(orjson.dumps(what, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _identity(stream: StreamSpec) -> dict[str, Any]:
    """What decides a stream, wherever its store lies."""
    return {f.name: getattr(stream, f.name) for f in fields(stream) if f.name not in WHERE}


@dataclass(frozen=True, kw_only=True, slots=True)
class MixedPart:
    """What a window takes of every source, and the pieces of each stream that it reads."""

    window: MixedWindow
    pieces: tuple[tuple[StreamPiece, ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowTask:
    """One window, the shards it writes and the partitions it reads."""

    build: str
    """identity of the job, noted beside the finished shards"""
    window: Window
    slots: tuple[ShardSlot, ...]
    pieces: tuple[StreamPiece, ...]
    owned: BucketRows | None = None
    """document mode only"""
    mixed: MixedPart | None = None
    """of several sources: instead of `pieces`"""


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishedWindow:
    """What a window that was cut has left behind."""

    shards: tuple[ShardEntry, ...]
    counts: WindowCounts


def cut_window(job: CutJob, task: WindowTask) -> None:
    """Cut a window and publish its shards, in the order of `task.slots`, and the record that lists them."""
    rows, counts = _rows_of_window(job, task)
    with job.dataset.together() as write:
        entries = [write_shard(write, slot.path, rows(slot)) for slot in task.slots]
    record = {"build": task.build, "shards": [asdict(entry) for entry in entries], "counts": counts.to_json()}
    write_object(job.dataset, record_name(task.window.index), record)


def _rows_of_window(job: CutJob, task: WindowTask) -> tuple[Callable[[ShardSlot], Rows], WindowCounts]:
    """The rows of any shard of the window, by the mode of the plan."""
    if job.plan.mode == "best-fit":
        packed = pack_interval(job.plan, job.stream, task.window, task.pieces, job.eos_id)
        return packed.rows, packed.counts
    if task.owned is not None:
        packed = lay_window(job.plan, job.stream, task.window, task.pieces, task.owned, job.eos_id)
        return packed.rows, packed.counts
    if task.mixed is not None:
        return _cut_mixed(job, task, task.mixed), WindowCounts()
    return _cut_interval(job, task), WindowCounts()


def _cut_mixed(job: CutJob, task: WindowTask, part: MixedPart) -> Callable[[ShardSlot], Rows]:
    """Several sources: the rows of each tile an interval of its own stream."""
    mixed = read_mixed(job.streams, part.window, part.pieces)
    names = [stream.spec.source for stream in job.streams]
    dealt = deal_mixed(
        job.plan, task.window, task.slots, part.window, begins=mixed.begins, names=names, seed=job.stream.seed
    )
    offsets = dict(zip((slot.path for slot in task.slots), dealt, strict=True))
    return lambda slot: cut_mixed(mixed, offsets[slot.path], job.plan.phases[slot.phase].seq_len)


def _cut_interval(job: CutJob, task: WindowTask) -> Callable[[ShardSlot], Rows]:
    """Segment and truncate mode: rows tile the window's interval of the stream."""
    window, plan = task.window, job.plan
    text = read_interval(job.stream, task.pieces, window.offset, window.num_tokens)
    rows = rows_by_phase(plan, window)
    dealt = deal_rows(
        rows,
        {phase: plan.consumed_per_row(phase) for phase in rows},
        offset=window.offset,
        seed=job.stream.seed,
        window=window.index,
    )

    def of_slot(slot: ShardSlot) -> Rows:
        offsets = dealt[slot.phase][slot.first_row : slot.stop_row]
        return cut_rows(text, offsets, plan.phases[slot.phase].seq_len)

    return of_slot


def finished_windows(job: CutJob, tasks: Sequence[WindowTask]) -> dict[int, FinishedWindow]:
    """What windows left that were cut, in this run or an interrupted one, by their index; the others have to be cut.

    A folder is listed once, so that windows that were never cut cost nothing.
    """
    records = set(job.dataset.children(WINDOWS_FOLDER)) if len(tasks) > 1 else None
    found = {}
    for task in tasks:
        if records is None or PurePosixPath(record_name(task.window.index)).name in records:
            finished = _finished_window(job, task)
            if finished is not None:
                found[task.window.index] = finished
    return found


def _finished_window(job: CutJob, task: WindowTask) -> FinishedWindow | None:
    record = read_object(job.dataset, record_name(task.window.index))
    if record is None or record.get("build") != task.build or "counts" not in record:
        return None
    entries = tuple(ShardEntry(**entry) for entry in record["shards"])
    found = job.dataset.facts_of([entry.path for entry in entries])
    complete = all(
        file is not None and file.num_bytes == entry.num_bytes for file, entry in zip(found, entries, strict=True)
    )
    if not complete or [entry.path for entry in entries] != [slot.path for slot in task.slots]:
        return None
    return FinishedWindow(shards=entries, counts=WindowCounts.from_json(record["counts"]))


def record_name(window: int) -> str:
    """Where the record of a finished window lies until the dataset is finished."""
    return f"{WINDOWS_FOLDER}/{window:06d}.json"
