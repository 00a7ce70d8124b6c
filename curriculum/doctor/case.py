"""A place where a run leaves the plan, and what explanations of it ask.

In:  a trace and its first misfit.   Out: the calls around it, and where their rows really belong.
Guarantee: at most `_WINDOW` calls of every rank are looked at, however long the run is.

    Case(trace, misfit).name()      "rank 1, micro-batch 0 (step 0, row 4)"
"""

from __future__ import annotations

from typing import NamedTuple

from curriculum.doctor.run_log import Call
from curriculum.doctor.run_trace import Misfit, Numbers, Trace

_WINDOW = 64
_BEFORE = 8
"""Calls before the misfit, so that an explanation must hold for what was right too."""


class Cause(NamedTuple):
    """An explanation that applies."""

    kind: str
    message: str
    rank: int | None = None


class Case:
    """A misfit and the calls around it."""

    def __init__(self, trace: Trace, misfit: Misfit) -> None:
        self.trace, self.misfit = trace, misfit
        self.planned = trace.planned
        self.call = trace.call(misfit.rank, misfit.at_call)
        self.step, self.row = self.planned.place(misfit.number)
        self.world_size = trace.world_size
        self.shortest = min(len(calls) for calls in trace.run.calls)
        self.window = range(max(0, misfit.at_call - _BEFORE), misfit.at_call + _WINDOW)
        self.found = self.where(self.call, misfit.number)

    def where(self, call: Call, near: int) -> int | None:
        """Row number at which the call's rows really are."""
        return self.planned.find(call.inputs, near)

    def calls(self, rank: int) -> list[tuple[int, Call]]:
        """The rank's calls of the window, with their indices."""
        return [(i, self.trace.call(rank, i)) for i in self.window if i < len(self.trace.run.calls[rank])]

    def all_calls(self) -> list[Call]:
        """The window's calls of all ranks."""
        return [call for rank in range(self.world_size) for _, call in self.calls(rank)]

    def other_ranks(self) -> list[int]:
        """All but the misfit's."""
        return [rank for rank in range(self.world_size) if rank != self.misfit.rank]

    def all_fit(self, rank: int, numbers: Numbers) -> bool:
        """Every call of the rank in the window is where `numbers` say."""
        return all(self.trace.fits(call, int(numbers[i])) for i, call in self.calls(rank))

    def name(self, number: int | None = None) -> str:
        """A place in words: the misfit's, or that of a row number."""
        if number is None:
            return f"rank {self.misfit.rank}, micro-batch {self.misfit.at_call} (step {self.step}, row {self.row})"
        step, row = self.planned.place(number)
        return f"step {step}" if row == 0 else f"step {step}, row {row}"
