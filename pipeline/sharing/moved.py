"""What a push or a pull moved, or would move.

In:  the shards that were wanted, and those that had to move.   Out: a value, as JSON and as text.

    pushed 12 of 40 shards, 3.1 GB, to s3://bucket/my-dataset; the others were there. sha256:...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from curriculum.shard_format import COMPRESSED
from curriculum.storage import HELD_OUT
from pipeline.counted import counted
from pipeline.sharing.selection import Selected

MOST_LINES = 12
"""Of phases in a text."""
MOST_NAMED = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class FileToMove:
    """One file, as it travels."""

    name: str
    num_bytes: int
    """as far as that is known: of a shard that is yet to be compressed, before it is"""
    phase: int | None = None
    """of a shard: index of its phase, or HELD_OUT"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Moved:
    """The result of a push or a pull."""

    action: Literal["push", "pull"]
    where: str
    """the place"""
    dataset: str
    """the folder"""
    dataset_id: str
    wanted: tuple[Selected, ...]
    num_shards: int
    """of the whole dataset"""
    files: tuple[FileToMove, ...]
    """shards first"""
    removed: tuple[str, ...] = ()
    """names of what was there and goes"""
    kept: tuple[str, ...] = ()
    """names of what is another file there, and stays"""
    replaced: tuple[str, ...] = ()
    """names of what somebody else had written there"""
    dry_run: bool
    complete: bool
    """every shard of the dataset is where it was to go, or would be"""
    signer: str | None = None
    """who signed the manifest, if a pull was to look"""

    @property
    def num_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.num_bytes for file in self.files)

    def to_json(self) -> dict[str, Any]:
        """The object that --json prints."""
        shards = [file for file in self.files if file.phase is not None]
        result: dict[str, Any] = {
            "action": self.action,
            "place": self.where,
            "dataset": self.dataset,
            "id": self.dataset_id,
            "signer": self.signer,
            "dry_run": self.dry_run,
            "complete": self.complete,
            "num_shards": self.num_shards,
            "wanted_shards": len(self.wanted),
            "moved_shards": len(shards),
            "moved_files": len(self.files),
            "moved_bytes": self.num_bytes,
            "removed": list(self.removed),
            "kept": list(self.kept),
            "replaced": list(self.replaced),
            "phases": [
                {"phase": "validation" if phase == HELD_OUT else phase, "shards": count, "bytes": num_bytes}
                for phase, count, num_bytes in per_phase(shards)
            ],
        }
        if self.dry_run:
            result["files"] = [{"name": file.name, "bytes": file.num_bytes} for file in self.files]
        return result


def per_phase(files: Sequence[FileToMove]) -> list[tuple[int, int, int]]:
    """(phase, number of shards, bytes), in the order of the phases, held-out rows last."""
    counts: dict[int, tuple[int, int]] = {}
    for file in files:
        if file.phase is not None:
            count, num_bytes = counts.get(file.phase, (0, 0))
            counts[file.phase] = count + 1, num_bytes + file.num_bytes
    return [(phase, *counts[phase]) for phase in sorted(counts, key=lambda phase: (phase == HELD_OUT, phase))]


def report(moved: Moved) -> str:
    """For people."""
    end = f"{'to' if moved.action == 'push' else 'from'} {moved.where}"
    signed = f"\nsigned by {moved.signer}" if moved.signer else ""
    if moved.kept:
        signed = f"\nkept {' and '.join(moved.kept)} as edited there; --overwrite replaces all, shards too{signed}"
    if not (moved.files or moved.removed):
        what = "Everything that was asked for" if not moved.complete else "Everything"
        those = f"{len(moved.wanted):,} shards of {moved.dataset_id}"
        return f"{what} is there already: {those}. Nothing to {moved.action}.{signed}"
    verb = f"would {moved.action}" if moved.dry_run else {"push": "pushed", "pull": "pulled"}[moved.action]
    shards = [file for file in moved.files if file.phase is not None]
    yet = " before they are compressed" if moved.action == "push" and moved.dry_run and _packed(shards) else ""
    lines = [
        f"{verb} {len(moved.files):,} files, {_size(moved.num_bytes)}{yet}, {end}: {len(shards):,} of "
        f"{len(moved.wanted):,} shards that were asked for; the dataset has {moved.num_shards:,}."
    ]
    lines += phase_lines(per_phase(shards))
    if moved.dry_run:
        lines += [f"  {file.name}: {_size(file.num_bytes)}" for file in moved.files if file.phase is None]
    if moved.removed:
        verb = "would remove" if moved.dry_run else "removed"
        lines.append(f"  {verb} {len(moved.removed):,} files of what was there: {_some(moved.removed)}")
    if moved.replaced:
        verb = "would replace" if moved.dry_run else "replaced"
        lines.append(f"  {verb} {' and '.join(moved.replaced)}; the commits before have what was there")
    lines.append(f"{moved.dataset_id}{'' if moved.complete else ' (in part)'}")
    return "\n".join(lines) + signed


def phase_lines(moved: Sequence[tuple[int, int, int]]) -> list[str]:
    """A line for each phase; of many, one for each run of phases."""
    runs: list[list[tuple[int, int, int]]] = []
    for each in moved:
        follows = bool(runs) and each[0] == runs[-1][-1][0] + 1
        if follows and len(moved) > MOST_LINES:
            runs[-1].append(each)
        else:
            runs.append([each])
    return [
        f"  {_phases(run[0][0], run[-1][0])}: {counted(sum(each[1] for each in run), 'shard')}, "
        f"{_size(sum(each[2] for each in run))}"
        for run in runs
    ]


def _phases(first: int, last: int) -> str:
    if first == HELD_OUT:
        return "held-out rows"
    return f"phase {first}" if first == last else f"phases {first} to {last}"


def _packed(shards: Sequence[FileToMove]) -> bool:
    return any(file.name.endswith(COMPRESSED) for file in shards)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED:,} more (--json lists all)" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _size(num_bytes: int) -> str:
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if num_bytes >= factor:
            return f"{num_bytes / factor:,.1f} {unit}"
    return f"{num_bytes} bytes"
