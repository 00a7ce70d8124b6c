"""Read a dataset: the rows of step s, rank r, micro-batch m by arithmetic over a memory map.

In:  the folder of a finished dataset.   Out: `Batch` objects, numpy views onto the mapped shards.
Guarantee: opening costs one manifest read. A shard is checked when it is first touched; a bounded number of maps is
open at once. No copies, no shared memory, no worker processes, no collective calls; a reader pickles as its path.

Rank r's micro-batch m is rows [(m * W + r) * b, +b) of the step, with b = rows_per_step / (A * W): the global batch,
and every prefix of it, is the same for every world size W and micro-batch count A, so a cursor alone resumes.

    8 rows, W = 2, A = 2, b = 2      rank 0: rows 0 1, rows 4 5      rank 1: rows 2 3, rows 6 7
"""

from __future__ import annotations

import operator
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import SupportsIndex

from curriculum.batch import Batch
from curriculum.cursor import Cursor
from curriculum.errors import CursorError
from curriculum.manifest import Manifest, PhaseEntry, load_manifest
from curriculum.plan import Plan
from curriculum.shard_format import Shard, open_shard

MAX_OPEN_SHARDS = 64
"""Each open shard is one map of the process; systems allow 65,530 of them, and other libraries want some too."""


class Reader:
    """A finished dataset as a sequence of global batches.

    reader[step] is the whole global batch of that step; `steps` yields the micro-batches of one rank.
    """

    def __init__(self, path: str | Path, *, check: bool = False) -> None:
        """Open the dataset at `path`.

        Args:
            path: folder that holds manifest.json.
            check: check size and footer of every shard now instead of at first touch.

        Raises:
            DataError: there is no finished dataset, or its manifest (with `check`: a shard) is damaged.
        """
        self.path = Path(path)
        self.manifest: Manifest = load_manifest(self.path)
        self.plan: Plan = self.manifest.plan
        self._id = self.manifest.id
        self._shard_rows = [_first_rows(phase) for phase in self.manifest.phases]
        self._open = lru_cache(maxsize=MAX_OPEN_SHARDS)(self._open_shard)
        if check:
            self.check()

    @property
    def id(self) -> str:
        """Identity of the dataset, "sha256:...": equal for equal content."""
        return self._id

    def __len__(self) -> int:
        """Number of global steps."""
        return self.plan.total_steps

    def __getitem__(self, step: SupportsIndex) -> Batch:
        """The whole global batch of a step; negative steps count from the end."""
        step = operator.index(step)
        total = self.plan.total_steps
        if not -total <= step < total:
            raise IndexError(f"{self.path}: step {step} is out of range, the dataset has {total} steps.")
        step %= total
        phase, first_row = self.plan.locate(step)
        shard, row = self._locate(phase, first_row)
        stop = row + self.plan.phases[phase].rows_per_step
        return Batch(shard, row, stop, step=step, micro=0, phase=phase, cursor=(self._id, step + 1, 0))

    def steps(
        self, start: int | Cursor = 0, rank: int = 0, world_size: int = 1, micro_batches: int = 1
    ) -> Iterator[Batch]:
        """The micro-batches of one rank, from `start` to the end.

        Args:
            start: a step, or a cursor of this dataset. A cursor inside a step continues inside it.
            rank: this process, 0 <= rank < world_size.
            world_size: number of processes W that share each global batch.
            micro_batches: micro-batches A per step and rank.

        Raises:
            CursorError: at once, not at the step where it would matter: another dataset's cursor, or A * W does not
                divide the rows of a remaining phase.
        """
        step, row = self._start(start)
        if world_size < 1 or micro_batches < 1 or not 0 <= rank < world_size:
            raise CursorError(
                f"rank {rank} of world_size {world_size} with {micro_batches} micro-batches: "
                f"world_size and micro_batches start at 1, ranks run from 0 to world_size - 1."
            )
        self._check_divides(step, row, world_size, micro_batches)
        return self._iterate(step, row, rank, world_size, micro_batches)

    def _iterate(self, step: int, row: int, rank: int, world_size: int, micro_batches: int) -> Iterator[Batch]:
        for now in range(step, len(self)):
            phase, first_row = self.plan.locate(now)
            shard, at = self._locate(phase, first_row)
            total = self.plan.phases[phase].rows_per_step
            rows = total // (micro_batches * world_size)
            for micro in range(row // (rows * world_size), micro_batches):
                begin = at + (micro * world_size + rank) * rows
                done = (micro + 1) * world_size * rows
                cursor = (self._id, now, done) if done < total else (self._id, now + 1, 0)
                yield Batch(shard, begin, begin + rows, step=now, micro=micro, phase=phase, cursor=cursor)
            row = 0

    def _start(self, start: int | Cursor) -> tuple[int, int]:
        if isinstance(start, Cursor):
            if start.dataset_id != self._id:
                raise CursorError(
                    f"{self.path}: the cursor belongs to dataset {start.dataset_id}, this one is {self._id}. "
                    f"Resume with the dataset that the run was started on."
                )
            step, row = start.step, start.row
        else:
            step, row = operator.index(start), 0
        if not 0 <= step <= len(self) or row < 0 or (step == len(self) and row):
            raise CursorError(f"{self.path}: cannot start at step {step}, row {row}: there are {len(self)} steps.")
        return step, row

    def _check_divides(self, step: int, row: int, world_size: int, micro_batches: int) -> None:
        parts = world_size * micro_batches
        for phase in self.plan.remaining_phases(step):
            rows = self.plan.phases[phase].rows_per_step
            if rows % parts:
                allowed = ", ".join(map(str, self.plan.divisors(step)))
                raise CursorError(
                    f"{self.path}: world_size {world_size} x micro_batches {micro_batches} = {parts} does not divide "
                    f"the {rows} rows per step of phase {phase}. Products that divide every remaining phase: {allowed}."
                )
        if row:
            rows = self.plan.phases[self.plan.locate(step)[0]].rows_per_step
            unit = rows // micro_batches
            if row >= rows or row % unit:
                raise CursorError(
                    f"{self.path}: the cursor stands at row {row} of step {step}; with {micro_batches} micro-batches "
                    f"of {unit} rows it can stand at multiples of {unit} below {rows}. Resume with the micro-batch "
                    f"count that saved it, or at a step border."
                )

    @property
    def validation(self) -> Validation | None:
        """The held-out rows, or None if the dataset was built without any."""
        entry = self.manifest.validation
        return Validation(self, entry) if entry else None

    def check(self) -> None:
        """Check size and footer of every shard.

        Raises:
            DataError: names the first shard that is missing or damaged.
        """
        for phase, entry in enumerate(self.manifest.phases):
            for index in range(len(entry.shards)):
                self._open_shard(phase, index)
        for index in range(len(self.manifest.validation.shards) if self.manifest.validation else 0):
            self._open_shard(-1, index)

    def _locate(self, phase: int, row: int) -> tuple[Shard, int]:
        """The shard that holds a row of a phase, and the row in it."""
        first_rows = self._shard_rows[phase]
        index = bisect_right(first_rows, row) - 1
        return self._open(phase, index), row - first_rows[index]

    def _open_shard(self, phase: int, index: int) -> Shard:
        entry = self.manifest.phases[phase] if phase >= 0 else self.manifest.validation
        assert entry is not None
        shard = entry.shards[index]
        return open_shard(
            self.path / shard.path,
            seq_len=entry.seq_len,
            dtype=self.manifest.dtype,
            num_rows=shard.num_rows,
            num_bytes=shard.num_bytes,
            data_offset=shard.data_offset,
            packed=self.manifest.packed and phase >= 0,  # held-out rows are plain
        )

    def __reduce__(self) -> tuple[type[Reader], tuple[str]]:
        return Reader, (str(self.path),)

    def __repr__(self) -> str:
        plan = self.plan
        return (
            f"Reader({self.path.name}@{self._id[7:14]}: {plan.total_steps:,} steps, {len(plan.phases)} phases, "
            f"{plan.total_tokens:,} tokens)"
        )


class Validation:
    """Held-out rows at the maximum length: `len` rows, `batches(rows)` yields them in order."""

    def __init__(self, reader: Reader, entry: PhaseEntry) -> None:
        self._reader = reader
        self.seq_len = entry.seq_len
        self._entry = entry

    def __len__(self) -> int:
        """Number of rows."""
        return self._entry.num_rows

    def batches(self, rows: int) -> Iterator[Batch]:
        """Batches of `rows` rows, in order; the last one of a shard may hold fewer. Every row comes exactly once."""
        if rows < 1:
            raise CursorError(f"validation batches of {rows} rows: a batch holds at least one.")
        for index, entry in enumerate(self._entry.shards):
            shard = self._reader._open(-1, index)
            for start in range(0, entry.num_rows, rows):
                stop = min(start + rows, entry.num_rows)
                yield Batch(shard, start, stop, step=-1, micro=0, phase=-1, cursor=None)


def _first_rows(phase: PhaseEntry) -> list[int]:
    """Row of the phase at which each shard begins."""
    return [0, *accumulate(shard.num_rows for shard in phase.shards[:-1])]
