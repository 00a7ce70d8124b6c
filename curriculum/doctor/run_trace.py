"""A run laid beside the plan: where each of its micro-batches should be, and whether it is there.

In:  the rows of a dataset, the log of a run, the row number at which it began.
Out: for every rank and call the number of its first row by the plan's arithmetic; the first call that does not fit.
Guarantee: the numbers depend on how many rows each call had, never on what they were: rank r's call i begins
W * (rows of its earlier calls) + r * (its own rows) after the start.

    W = 2, calls of 4 rows, start 0     rank 0: 0 8 16     rank 1: 4 12 20
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from curriculum.doctor.planned_rows import PlannedRows
from curriculum.doctor.run_log import Call, RunLog

Numbers = np.ndarray[Any, np.dtype[np.int64]]


class Misfit(NamedTuple):
    """The first call that is not where the plan has it."""

    rank: int
    at_call: int
    """of the rank's calls"""
    number: int
    """row that the call should begin with"""


class Trace:
    """See the module."""

    def __init__(self, planned: PlannedRows, run: RunLog, start: int) -> None:
        self.planned = planned
        self.run = run
        self.start = start
        self.world_size = run.world_size
        self.expected = tuple(self.numbers(rank, start, rank, self.world_size) for rank in range(self.world_size))

    def numbers(self, rank: int, start: int, as_rank: int, world_size: int) -> Numbers:
        """int64 [calls]: where the rank's calls would begin if it were `as_rank` of `world_size` ranks."""
        rows = np.array([call.shape[0] for call in self.run.calls[rank]], np.int64)
        return start + (np.cumsum(rows) - rows) * world_size + as_rank * rows

    def call(self, rank: int, index: int) -> Call:
        """A rank's call."""
        return self.run.calls[rank][index]

    def fits(self, call: Call, number: int) -> bool:
        """The call's inputs are the rows from `number` on."""
        found = self.planned.digests(number, len(call.inputs))
        return found is not None and np.array_equal(found, call.inputs)

    def within_a_step(self, rank: int, index: int) -> bool:
        """All ranks' rows of this micro-batch belong to one step."""
        rows = self.call(rank, index).shape[0]
        first = int(self.expected[rank][index]) - rank * rows
        step, row = self.planned.place(first)
        return first < len(self.planned) and row + rows * self.world_size <= self.planned.rows_per_step(step)

    @cached_property
    def misfit(self) -> Misfit | None:
        """The earliest misfit by its place in the plan; None if every call is right."""
        firsts = [self._first_misfit(rank) for rank in range(self.world_size)]
        return min((found for found in firsts if found), key=lambda found: (found.number, found.rank), default=None)

    def _first_misfit(self, rank: int) -> Misfit | None:
        for index, number in enumerate(self.expected[rank].tolist()):
            if not self.fits(self.call(rank, index), number) or not self.within_a_step(rank, index):
                return Misfit(rank, index, number)
        return None

    def stops(self) -> list[int]:
        """Row number after each rank's last micro-batch, counted over all ranks."""
        return [self.start + self.world_size * sum(call.shape[0] for call in calls) for calls in self.run.calls]

    def borders(self) -> set[int]:
        """Row numbers at which a micro-batch of rank 0 ended, and the start."""
        calls = self.run.calls[0]
        ends = np.cumsum([call.shape[0] for call in calls], dtype=np.int64) * self.world_size + self.start
        return {self.start, *ends.tolist()}

    def micro_batches(self) -> tuple[tuple[int, int], ...]:
        """(seq_len, micro-batches per step) of rank 0's calls that fit, each pair once."""
        pairs: dict[tuple[int, int], None] = {}
        stop = self.misfit.at_call if self.misfit else len(self.run.calls[0])
        for call, number in zip(self.run.calls[0][:stop], self.expected[0].tolist(), strict=False):
            rows = self.planned.rows_per_step(self.planned.place(number)[0])
            pairs[call.shape[1], rows // (call.shape[0] * self.world_size)] = None
        return tuple(pairs)
