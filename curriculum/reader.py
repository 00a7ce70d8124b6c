"""Read a dataset: the rows of step s, rank r, micro-batch m by arithmetic over a memory map.

In:  a finished dataset: its folder, or a storage that fetches it.   Out: `Batch` objects, numpy views onto its shards.
Guarantee: opening costs one manifest read. A shard is checked when it is first touched; a bounded number of maps is
open at once. No copies, no shared memory, no worker processes, no collective calls; a reader pickles as its path.

    reader[step]                              the global batch, as it is however many ranks share it
    reader.steps(start, rank=1, world_size=8) the micro-batches of one rank (`curriculum.share` says which rows)
"""

from __future__ import annotations

import operator
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import SupportsIndex

from curriculum.batch import Batch
from curriculum.cursor import Cursor
from curriculum.errors import CursorError
from curriculum.manifest import Manifest, PhaseEntry
from curriculum.plan import Plan
from curriculum.shard_format import Shard
from curriculum.share import Share
from curriculum.storage import HELD_OUT, LocalStorage, Place, Storage


class Reader:
    """A finished dataset as a sequence of global batches.

    reader[step] is the whole global batch of that step; `steps` yields the micro-batches of one rank.
    """

    def __init__(self, dataset: str | Path | Storage, *, check: bool = False) -> None:
        """Open a dataset.

        Args:
            dataset: folder that holds manifest.json, or a storage that was opened already.
            check: check size and footer of every shard now instead of at first touch.

        Raises:
            DataError: there is no finished dataset, or its manifest (with `check`: a shard) is damaged.
        """
        self._storage = LocalStorage(Path(dataset)) if isinstance(dataset, str | Path) else dataset
        self.where = self._storage.where
        self.manifest: Manifest = self._storage.manifest
        self.plan: Plan = self.manifest.plan
        self._id = self.manifest.id
        self._shard_rows = [_first_rows(phase) for phase in self.manifest.phases]
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
            raise IndexError(f"{self.where}: step {step} is out of range, the dataset has {total} steps.")
        step %= total
        phase, first_row = self.plan.locate(step)
        place = self._place(phase, first_row, self.plan.phases[phase].rows_per_step, step, 0)
        shard, cursor = self._storage.shard(place), Cursor(self._id, step + 1)
        return Batch(shard, place.start, place.stop, step=step, micro=0, phase=phase, cursor=cursor)

    def steps(
        self,
        start: int | Cursor = 0,
        rank: int = 0,
        world_size: int = 1,
        micro_batches: int | None = None,
        *,
        micro_tokens: int | None = None,
    ) -> Iterator[Batch]:
        """The micro-batches of one rank, from `start` to the end.

        Args:
            start: a step, or a cursor of this dataset. A cursor inside a step continues inside it.
            rank: this process, 0 <= rank < world_size.
            world_size: number of processes W that share each global batch.
            micro_batches: micro-batches A per step and rank; 1 if neither it nor `micro_tokens` is given.
            micro_tokens: instead of a fixed number, the fewest micro-batches with at most so many inputs in each: many
                rows of 8 tokens, few of 1,024. The global batch is the same.

        Raises:
            CursorError: at once, not at the step where it would matter: another dataset's cursor, or A * W does not
                divide the rows of a remaining phase.
        """
        sizes = {"micro_batches": micro_batches, "micro_tokens": micro_tokens}
        return self.stream(start, Share(plan=self.plan, rank=rank, world_size=world_size, **sizes))

    def stream(self, start: int | Cursor, share: Share) -> Iterator[Batch]:
        """`steps`, for a share that exists already."""
        step, row = self._start(start)
        share.require_fits(step, row, self.where)
        return self._iterate(step, row, share)

    def micro_batch(self, step: int, micro: int, share: Share) -> Batch:
        """One micro-batch of a rank, by its number in the step.

        Raises:
            CursorError: there is no such step or micro-batch, or the share does not fit the step's rows.
        """
        step, micro = operator.index(step), operator.index(micro)
        phase, first_row = self.plan.locate(step)
        share.require_phase(phase, step, self.where)
        if not 0 <= micro < share.num_micro(phase):
            raise CursorError(
                f"{self.where}: micro-batch {micro} of step {step}: a rank has {share.num_micro(phase)} there."
            )
        place = self._place(phase, first_row + share.first_row(phase, micro), share.rows(phase), step, micro)
        return self._batch(place, self._storage.shard(place), share)

    def _iterate(self, step: int, row: int, share: Share) -> Iterator[Batch]:
        places = (self._place(*of_rows) for of_rows in share.places(step, row))
        for place, shard in self._storage.stream(places):
            yield self._batch(place, shard, share)

    def _batch(self, place: Place, shard: Shard, share: Share) -> Batch:
        phase, step, micro = place.phase, place.step, place.micro
        if micro + 1 < share.num_micro(phase):
            cursor = Cursor(self._id, step, (micro + 1) * (place.stop - place.start) * share.world_size)
        else:
            cursor = Cursor(self._id, step + 1)
        return Batch(shard, place.start, place.stop, step=step, micro=micro, phase=phase, cursor=cursor)

    def _place(self, phase: int, row: int, num_rows: int, step: int, micro: int) -> Place:
        """The shard that holds rows of a phase, and the rows in it: they never span two."""
        first_rows = self._shard_rows[phase]
        index = bisect_right(first_rows, row) - 1
        start = row - first_rows[index]
        return Place(phase, index, start, start + num_rows, step, micro)

    def _start(self, start: int | Cursor) -> tuple[int, int]:
        if isinstance(start, Cursor):
            step, row = start.step, start.row
            if not all(isinstance(value, int) and not isinstance(value, bool) for value in (step, row)):
                raise CursorError(f"{self.where}: step {step!r}, row {row!r} of the cursor: both are integers.")
            if not self.manifest.continues(start.dataset_id, step):
                raise CursorError(
                    f"{self.where}: the cursor belongs to dataset {start.dataset_id}, this one is {self._id}. "
                    f"Resume with the dataset that the run was started on, or an extension of it."
                )
        else:
            step, row = operator.index(start), 0
        if not 0 <= step <= len(self) or row < 0 or (step == len(self) and row):
            raise CursorError(f"{self.where}: cannot start at step {step}, row {row}: there are {len(self)} steps.")
        return step, row

    @property
    def validation(self) -> Validation | None:
        """The held-out rows, or None if the dataset was built without any."""
        entry = self.manifest.validation
        return Validation(self._storage, entry) if entry else None

    def check(self) -> None:
        """Check size and footer of every shard.

        Raises:
            DataError: names the first shard that is missing or damaged.
        """
        self._storage.check()

    def __reduce__(self) -> tuple[type[Reader], tuple[Storage]]:
        return Reader, (self._storage,)

    def __repr__(self) -> str:
        plan = self.plan
        name = self.where.rstrip("/").rpartition("/")[2]
        return (
            f"Reader({name}@{self._id[7:14]}: {plan.total_steps:,} steps, {len(plan.phases)} phases, "
            f"{plan.total_tokens:,} tokens)"
        )


class Validation:
    """Held-out rows at the maximum length: `len` rows, `batches(rows)` yields them in order."""

    def __init__(self, storage: Storage, entry: PhaseEntry) -> None:
        self._storage = storage
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
            starts = range(0, entry.num_rows, rows)
            places = (Place(HELD_OUT, index, start, min(start + rows, entry.num_rows)) for start in starts)
            for place, shard in self._storage.stream(places):
                yield Batch(shard, place.start, place.stop, step=-1, micro=0, phase=HELD_OUT, cursor=None)


def _first_rows(phase: PhaseEntry) -> list[int]:
    """Row of the phase at which each shard begins."""
    return [0, *accumulate(shard.num_rows for shard in phase.shards[:-1])]
