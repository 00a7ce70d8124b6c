"""Phases, and the order in which a plan visits them.

In:  sequence length, rows per step and number of steps of each phase; runs of (phase index, steps).
Out: checked values.

Guarantees: phases are distinct (unless they are separate by request, for weights of their own), every run is positive,
the runs of a phase add up to its steps, and there is one way to write an order, so that equal plans have equal digests.

    Phase(seq_len=8, rows_per_step=4, num_steps=3): 12 rows, 96 trained tokens, 32 a step
"""

from dataclasses import dataclass

from curriculum.budget import require_step_fits
from curriculum.errors import PlanError
from curriculum.limits import MAX_RUNS, MAX_TOTAL
from curriculum.schedule import MAX_SEQ_LEN, require_int

EXTENSIONS = "extensions"
"""Key of a plan's `schedule`: how many of its last phases were added to a finished run."""


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


def require_phases(phases: tuple[Phase, ...], max_seq_len: int, *, separate: bool = False, extensions: int = 0) -> None:
    """Phases that are `separate`, and those of extensions, may have shapes of others; the rest are one phase then."""
    if not 0 <= extensions < max(1, len(phases)):
        raise PlanError(f"the plan has {len(phases)} phases and {extensions} extensions; the first phase is none.")
    if not phases:
        raise PlanError("the plan has no phases; at least one is needed.")
    first = phases[: len(phases) - extensions]
    shapes = {(phase.seq_len, phase.rows_per_step) for phase in first}
    if len(shapes) != len(first) and not separate:
        raise PlanError("two phases have equal seq_len and rows_per_step; make them one, visited twice by order.")
    longest = max(phase.seq_len for phase in phases)
    if max_seq_len != longest:
        raise PlanError(f"max_seq_len is {max_seq_len}, but the longest phase has {longest}.")
    if any(phase.seq_len != max_seq_len for phase in phases[len(first) :]):
        raise PlanError(f"an extension has steps of the maximum length {max_seq_len} only.")


def require_order(
    phases: tuple[Phase, ...], order: tuple[tuple[int, int], ...], *, separate: bool = False, extensions: int = 0
) -> None:
    """The one canonical form: phases numbered by first visit, neighbouring runs of different phases."""
    if len(order) > MAX_RUNS:
        raise PlanError(f"order has {len(order):,} runs, at most {MAX_RUNS:,} are possible; use a larger batch.")
    last = [index for index, _ in order[len(order) - extensions :]] if extensions else []
    if last != list(range(len(phases) - extensions, len(phases))):
        raise PlanError(f"the plan has {extensions} extensions, but order does not end with a visit to each of them.")
    if separate and len(order) != len(phases):
        raise PlanError(f"order has {len(order)} runs; {len(phases)} phases that are separate are visited once each.")
    steps = [0] * len(phases)
    visited, before = 0, -1
    for index, num_steps in order:
        if not 0 <= index <= min(visited, len(phases) - 1):
            raise PlanError(f"order visits phase {index} where at most {min(visited, len(phases) - 1)} can follow.")
        if type(num_steps) is not int or not 1 <= num_steps <= MAX_TOTAL:  # a call for each of a million runs
            require_int("a number of steps in order", num_steps)
        if index == before:
            raise PlanError(f"order lists phase {before} twice in a row; make it one run.")
        if index == visited:
            visited += 1
        steps[index] += num_steps
        before = index
    for index, (phase, num_steps) in enumerate(zip(phases, steps, strict=True)):
        if phase.num_steps != num_steps:
            raise PlanError(f"order gives phase {index} {num_steps} steps, but the phase has {phase.num_steps}.")
