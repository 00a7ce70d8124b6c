"""What an export format is: a module with five names.

In:  rows of shards whose digests were checked.   Out: files below a work folder.
Guarantee: `write` runs in any process, any number of times, beside other tasks: it writes the same bytes to places of
its own. `begin` and `end` run in one process, before and after all tasks, and may run again after a kill.

    exporter("parquet").write(work, target, part, shard)      {"files": [["phase-.../shard-000000.parquet", 4096]]}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from curriculum.manifest import Manifest
from curriculum.shard_format import Shard, config_name
from curriculum.storage import HELD_OUT
from pipeline.exporters.selection import Part, Selection
from pipeline.exporters.work_folder import WorkFolder

Written = dict[str, Any]
"""What a task says of its part, as JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """The exported rows of a phase, or the held-out ones."""

    name: str
    """`phase-00000-len0000008` or `validation`: the folder, and the name of the config"""
    phase: int
    """index into the phases of the dataset, or HELD_OUT"""
    seq_len: int
    dtype: str
    packed: bool
    num_rows: int
    num_parts: int
    rows_per_step: int | None
    """None of held-out rows"""

    @property
    def row_tokens(self) -> int:
        """Tokens of a row."""
        return self.seq_len + 1


def targets_of(manifest: Manifest, selection: Selection) -> dict[int, Target]:
    """By phase, in the order of the selection."""
    found = {}
    for phase, parts in selection.parts.items():
        held_out = phase == HELD_OUT
        entry = manifest.validation if held_out else manifest.phases[phase]
        assert entry is not None
        found[phase] = Target(
            name="validation" if held_out else config_name(phase, entry.seq_len),
            phase=phase,
            seq_len=entry.seq_len,
            dtype=manifest.dtype,
            packed=manifest.packed and not held_out,
            num_rows=sum(part.num_rows for part in parts),
            num_parts=len(parts),
            rows_per_step=None if held_out else manifest.plan.phases[phase].rows_per_step,
        )
    return found


class Exporter(Protocol):
    """The names of such a module."""

    READ: str
    """how a trainer reads it, a few lines of Python; FOLDER stands for the folder of a phase; OUT, NAME and SPLIT for
    what `load_dataset` wants"""
    READ_PACKED: str
    """the same of packed rows, which have labels"""
    NOTE: str
    """what a trainer must know besides, as Markdown"""

    def refusal(self, manifest: Manifest) -> str | None:
        """Why a dataset cannot be exported so, as a sentence; None if it can."""

    def begin(self, work: WorkFolder, target: Target) -> None:
        """What must be there before tasks write."""

    def write(self, work: WorkFolder, target: Target, part: Part, shard: Shard) -> Written:
        """Write the rows of a part."""

    def end(self, work: WorkFolder, target: Target, written: Sequence[Written]) -> None:
        """What can be written only after all parts; `written` are theirs, in order."""
