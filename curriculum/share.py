"""Which rows of every step one rank trains on, and in how many micro-batches.

In:  a plan, a rank and a world size W, and micro-batches A per step: fixed, or as many as a bound on tokens asks for.
Out: rows of a step by arithmetic; how many micro-batches there are, and which step the i-th of them belongs to.
Guarantee: rank r's micro-batch m is rows [(m * W + r) * b, +b) of the step, b = rows_per_step / (A * W). So the global
batch, and every prefix of it, is the same for every W and A, and a cursor alone resumes.

    8 rows, W = 2, A = 2, b = 2      rank 0: rows 0 1, rows 4 5      rank 1: rows 2 3, rows 6 7

    micro_tokens = 64, W = 2         64 rows of 8: b = 8, A = 4      64 rows of 16: b = 4, A = 8
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate

from curriculum.errors import CursorError
from curriculum.phase import Phase
from curriculum.plan import Plan


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """One rank's part of every step of a plan; see the module."""

    plan: Plan
    rank: int = 0
    """0 <= rank < world_size"""
    world_size: int = 1
    """processes that share each global batch"""
    micro_batches: int | None = None
    """micro-batches per step and rank, the same in every phase; None: 1, or what `micro_tokens` asks for"""
    micro_tokens: int | None = None
    """at most so many inputs in a micro-batch of one rank: many short rows, few long ones; None: no bound"""
    _num_micro: tuple[int, ...] = field(init=False, repr=False, compare=False)
    _runs: tuple[list[int], list[int]] | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing.

        Raises:
            CursorError: a rank outside the world, counts below 1, or both ways to say how large a micro-batch is.
        """
        for name in ("rank", "world_size", "micro_batches", "micro_tokens"):
            value = getattr(self, name)
            if not (isinstance(value, int) and not isinstance(value, bool)) and (
                value is not None or name in ("rank", "world_size")
            ):
                raise CursorError(f"{name} is {value!r}; give an integer.")
        if self.world_size < 1 or not 0 <= self.rank < self.world_size:
            raise CursorError(
                f"rank {self.rank} of world_size {self.world_size}: world_size starts at 1, ranks run from 0 to "
                f"world_size - 1."
            )
        if self.micro_batches is not None and self.micro_tokens is not None:
            raise CursorError(
                f"micro_batches={self.micro_batches} and micro_tokens={self.micro_tokens}: give the number of "
                f"micro-batches or the tokens that one may hold, not both."
            )
        for name, count in (("micro_batches", self.micro_batches), ("micro_tokens", self.micro_tokens)):
            if count is not None and count < 1:
                raise CursorError(f"{name} is {count}; it starts at 1.")
        object.__setattr__(self, "_num_micro", tuple(self._count(phase) for phase in self.plan.phases))

    def _count(self, phase: Phase) -> int:
        """Micro-batches of a step of this phase; 0 if its rows cannot be shared so, or no row is short enough."""
        rows, rest = divmod(phase.rows_per_step, self.world_size)
        if rest:
            return 0
        if self.micro_tokens is None:
            fixed = self.micro_batches or 1
            return 0 if rows % fixed else fixed
        most = self.micro_tokens // phase.seq_len
        return next((rows // at_once for at_once in range(min(most, rows), 0, -1) if rows % at_once == 0), 0)

    def num_micro(self, phase: int) -> int:
        """Micro-batches A of each step of a phase."""
        return self._num_micro[phase]

    def rows(self, phase: int) -> int:
        """Rows b of each micro-batch of a phase."""
        return self.plan.phases[phase].rows_per_step // (self._num_micro[phase] * self.world_size)

    def first_row(self, phase: int, micro: int) -> int:
        """Where in the step this rank's micro-batch begins."""
        return (micro * self.world_size + self.rank) * self.rows(phase)

    def __len__(self) -> int:
        """Micro-batches of this rank in a whole pass over the plan."""
        return self.micro_batches_before(self.plan.total_steps)

    def micro_batches_before(self, step: int) -> int:
        """Micro-batches of this rank before a step, 0 <= step <= total_steps."""
        if self.micro_tokens is None:
            return step * (self.micro_batches or 1)
        first_steps, before = self._of_runs()
        run = bisect_right(first_steps, step) - 1
        return before[run] + (step - first_steps[run]) * self._num_micro[self.plan.order[run][0]]

    def at(self, index: int) -> tuple[int, int]:
        """`(step, micro)` of this rank's micro-batch number `index`, counted over the whole plan.

        Raises:
            IndexError: there are not so many.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"micro-batch {index} is out of range: there are {len(self)}.")
        if self.micro_tokens is None:
            return divmod(index, self.micro_batches or 1)
        first_steps, before = self._of_runs()
        run = bisect_right(before, index) - 1
        steps, micro = divmod(index - before[run], self._num_micro[self.plan.order[run][0]])
        return first_steps[run] + steps, micro

    def _of_runs(self) -> tuple[list[int], list[int]]:
        """Steps, and micro-batches, before each run of the plan's order; summed once, when first asked for."""
        if self._runs is None:
            steps = accumulate((num_steps for _, num_steps in self.plan.order[:-1]), initial=0)
            counts = (num_steps * self._num_micro[phase] for phase, num_steps in self.plan.order[:-1])
            object.__setattr__(self, "_runs", (list(steps), list(accumulate(counts, initial=0))))
        assert self._runs is not None
        return self._runs

    def require_fits(self, step: int, row: int, where: str) -> None:
        """Refuse, before the first batch, what would fail at a later one.

        Args:
            step, row: where iteration starts; `row` rows of that step were consumed already.
            where: begins the message.

        Raises:
            CursorError: the rows of a remaining phase cannot be shared so, a row is longer than `micro_tokens`, or no
                micro-batch begins at `row`.
        """
        for phase in self.plan.remaining_phases(step):
            self.require_phase(phase, step, where)
        if row:
            phase = self.plan.locate(step)[0]
            total, unit = self.plan.phases[phase].rows_per_step, self.rows(phase) * self.world_size
            if row >= total or row % unit:
                raise CursorError(
                    f"{where}: the cursor stands at row {row} of step {step}; with {self.num_micro(phase)} "
                    f"micro-batches of {unit} rows it can stand at multiples of {unit} below {total}. Resume with the "
                    f"world size and micro-batches that saved it, or at a step border."
                )

    def require_phase(self, phase: int, step: int, where: str) -> None:
        """`require_fits` for one phase of the step or after it.

        Raises:
            CursorError: its rows cannot be shared so, or one of them is longer than `micro_tokens`.
        """
        if not self._num_micro[phase]:
            raise CursorError(f"{where}: {self._why_not(phase, step)}")

    def _why_not(self, phase: int, step: int) -> str:
        seq_len, rows = self.plan.phases[phase].seq_len, self.plan.phases[phase].rows_per_step
        allowed = ", ".join(map(str, self.plan.divisors(step)))
        if self.micro_tokens is not None and self.micro_tokens < seq_len:
            return (
                f"micro_tokens is {self.micro_tokens}, less than one row of phase {phase}, which has {seq_len}; "
                f"give at least {max(self.plan.phases[index].seq_len for index in self.plan.remaining_phases(step))}."
            )
        if self.micro_tokens is not None:
            return (
                f"world_size {self.world_size} does not divide the {rows} rows per step of phase {phase}. "
                f"World sizes that divide every remaining phase: {allowed}."
            )
        fixed = self.micro_batches or 1
        return (
            f"world_size {self.world_size} x micro_batches {fixed} = {self.world_size * fixed} does not divide the "
            f"{rows} rows per step of phase {phase}. Products that divide every remaining phase: {allowed}."
        )

    def places(self, step: int, row: int) -> Iterator[tuple[int, int, int, int, int]]:
        """`(phase, first row in the phase, rows, step, micro)` of every micro-batch from there to the end."""
        for now in range(step, self.plan.total_steps):
            phase, first_row = self.plan.locate(now)
            rows, num_micro = self.rows(phase), self._num_micro[phase]
            for micro in range(row // (rows * self.world_size), num_micro):
                yield phase, first_row + (micro * self.world_size + self.rank) * rows, rows, now, micro
            row = 0
