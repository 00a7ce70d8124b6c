"""Phases, and the order in which a plan visits them.

In:  sequence length, rows per step and number of steps of each phase; runs of (phase index, steps).
Out: checked values.

Guarantees: phases are distinct (unless they are separate by request, for weights of their own), every run is positive,
the runs of a phase add up to its steps, and there is one way to write an order, so that equal plans have equal digests.

    Phase(seq_len=8, rows_per_step=4, num_steps=3): 12 rows, 96 trained tokens, 32 a step
"""

from dataclasses import dataclass
from itertools import pairwise

from curriculum.budget import require_step_fits
from curriculum.errors import PlanError
from curriculum.schedule import MAX_SEQ_LEN, require_int


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """All rows of one `(seq_len, rows_per_step)`: one folder of shards, one tensor shape."""

    seq_len: int
    rows_per_step: int
    num_steps: int

    def __post_init__(self) -> None:
        require_int("seq_len", self.seq_len, most=MAX_SEQ_LEN)
        require_int("rows_per_step", self.rows_per_step, most=MAX_SEQ_LEN)
        require_int("num_steps", self.num_steps)
        require_step_fits(self.rows_per_step, self.seq_len)

    @property
    def num_rows(self) -> int:
        return self.rows_per_step * self.num_steps

    @property
    def num_tokens(self) -> int:
        """Trained targets: one per input, `seq_len` of the `seq_len + 1` stored tokens of a row."""
        return self.num_rows * self.seq_len

    @property
    def tokens_per_step(self) -> int:
        return self.rows_per_step * self.seq_len

    def to_json(self) -> dict[str, int]:
        return {
            "seq_len": self.seq_len,
            "rows_per_step": self.rows_per_step,
            "num_steps": self.num_steps,
            "num_rows": self.num_rows,
            "num_tokens": self.num_tokens,
        }


def require_phases(phases: tuple[Phase, ...], max_seq_len: int, *, separate: bool = False) -> None:
    """Phases that are `separate` may have equal shapes; others are one phase then."""
    if not phases:
        raise PlanError("the plan has no phases; at least one is needed.")
    shapes = {(phase.seq_len, phase.rows_per_step) for phase in phases}
    if len(shapes) != len(phases) and not separate:
        raise PlanError("two phases have equal seq_len and rows_per_step; make them one, visited twice by order.")
    longest = max(phase.seq_len for phase in phases)
    if max_seq_len != longest:
        raise PlanError(f"max_seq_len is {max_seq_len}, but the longest phase has {longest}.")


def require_order(phases: tuple[Phase, ...], order: tuple[tuple[int, int], ...], *, separate: bool = False) -> None:
    """The one canonical form: phases numbered by first visit, neighbouring runs of different phases."""
    if separate and len(order) != len(phases):
        raise PlanError(f"order has {len(order)} runs; {len(phases)} phases that are separate are visited once each.")
    steps = [0] * len(phases)
    visited = 0
    for index, num_steps in order:
        if not 0 <= index <= min(visited, len(phases) - 1):
            raise PlanError(f"order visits phase {index} where at most {min(visited, len(phases) - 1)} can follow.")
        require_int("a number of steps in order", num_steps)
        visited = max(visited, index + 1)
        steps[index] += num_steps
    for (before, _), (after, _) in pairwise(order):
        if before == after:
            raise PlanError(f"order lists phase {before} twice in a row; make it one run.")
    for index, (phase, num_steps) in enumerate(zip(phases, steps, strict=True)):
        if phase.num_steps != num_steps:
            raise PlanError(f"order gives phase {index} {num_steps} steps, but the phase has {phase.num_steps}.")
