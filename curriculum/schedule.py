"""Pacing: which sequence length a training step has.

In:  the name of a pacing function with ends and alignment; the built-in ones are in `curves`.
Out: the length of any step (`length`), or the run-length list of all steps (`runs`), computed per length and
     not per step, so that a plan of a million steps costs as much as one of a thousand.

Guarantees: integers only, so every machine computes the same lengths; lengths grow, and every one is a multiple of
`multiple_of` between `start_length` and `max_length`; the maximum is reached at the last warmup step (`logarithmic` and
functions of one's own may be at it sooner). One more step of warmup moves no arrival by more than 1.

With t = step + 1 and a warmup of T steps, length number k is reached at t = ceil(T * share of k); see `curves`.

    step     0    7  499   998   999     Pacing(name="linear", start_length=8, max_length=1024, multiple_of=8)
    length   8   16  512  1016  1024     with T = 1000; the 1000 lengths sum to 512,512

This module is also the one door to the parts of a schedule: limits, warmup and explicit phases.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Self

from curriculum.curves import (
    Curve,
    cosine_curve,
    even_curve,
    exponential_curve,
    logarithmic_curve,
    root_curve,
    sampled_curve,
    sine_curve,
)
from curriculum.errors import PlanError
from curriculum.explicit_phases import ExplicitPhases, parse_phases
from curriculum.limits import MAX_LENGTHS, MAX_SEQ_LEN, MAX_TOTAL, neighbours, require_aligned, require_int
from curriculum.pacing_entry_points import load_pacing_function
from curriculum.warmup import TokenWarmup, Warmup, parse_frac, warmup_steps_of

__all__ = [
    "DOCUMENT_CURRICULA",
    "MAX_LENGTHS",
    "MAX_SEQ_LEN",
    "MAX_TOTAL",
    "PACING_NAMES",
    "ExplicitPhases",
    "Pacing",
    "TokenWarmup",
    "Warmup",
    "load_pacing_function",
    "neighbours",
    "parse_frac",
    "parse_phases",
    "require_int",
    "warmup_steps_of",
]

MAX_DEGREE = 64
PACING_NAMES = (
    "linear",
    "root",
    "exponential",
    "sine",
    "cosine",
    "logarithmic",
    "step",
    "doubling",
    "constant",
)
DOCUMENT_CURRICULA = ("natural", "grow-linear", "grow-p2")
"""Schedules of document mode, which are no pacing functions: lengths come back."""
RESERVED_NAMES = frozenset((*DOCUMENT_CURRICULA, ExplicitPhases.NAME))


@dataclass(frozen=True, kw_only=True, slots=True)
class Pacing:
    """A growing schedule: progress -> length. `degree` belongs to root, `stages` to step."""

    name: str
    start_length: int
    max_length: int
    multiple_of: int = 8
    degree: int = 1
    stages: int | None = None

    def __post_init__(self) -> None:
        require_int("multiple_of", self.multiple_of, most=MAX_SEQ_LEN)
        require_int("degree", self.degree, most=MAX_DEGREE)
        for name, value in (("start_length", self.start_length), ("max_length", self.max_length)):
            require_int(name, value, most=MAX_SEQ_LEN)
            require_aligned(name, value, self.multiple_of)
        self._check_together()
        self._check_stages()
        self._check_doubling()
        if len(self.lengths) > MAX_LENGTHS:
            raise PlanError(
                f"start_length {self.start_length} to max_length {self.max_length} in steps of multiple_of "
                f"{self.multiple_of} are {len(self.lengths)} lengths; at most {MAX_LENGTHS} work, so use a larger "
                f"multiple_of."
            )
        if self.name not in PACING_NAMES:
            _curve_of(self)  # loads and checks the function now, in the place that asks for it

    def _check_together(self) -> None:
        start, top = self.start_length, self.max_length
        if self.name in RESERVED_NAMES:
            raise PlanError(f"schedule is {self.name!r}, which is no pacing function; choose one of {_listed()}.")
        if start > top:
            raise PlanError(
                f"start_length {start} is above max_length {top}; choose a start_length of at most {top} "
                f"or a larger max_length."
            )
        if self.name != "root" and self.degree != 1:
            raise PlanError(
                f"degree {self.degree} does not apply to schedule {self.name!r}; "
                f"use schedule 'root' or leave degree out."
            )
        if self.name == "constant" and start != top:
            raise PlanError(
                f"schedule 'constant' has one length, but start_length is {start} and max_length {top}; "
                f"leave start_length out or use schedule 'linear'."
            )

    def _check_stages(self) -> None:
        if self.name != "step":
            if self.stages is not None:
                raise PlanError(
                    f"stages {self.stages} does not apply to schedule {self.name!r}; "
                    f"use schedule 'step' or leave stages out."
                )
            return
        if self.stages is None:
            raise PlanError("schedule 'step' needs stages, how many lengths it has; give stages, such as 2.")
        require_int("stages", self.stages, least=2, most=MAX_LENGTHS)
        if self.stages > self._num_rises + 1:
            between = f"{self._num_rises + 1} aligned lengths from {self.start_length} to {self.max_length}"
            remedy = f"use at most {self._num_rises + 1}" if self._num_rises else "use schedule 'constant'"
            raise PlanError(f"stages {self.stages} is more than the {between}; {remedy}.")

    def _check_doubling(self) -> None:
        if self.name != "doubling" or self.max_length in self._doublings:
            return
        above = self._doublings[-1] * 2
        nearest = f"{self._doublings[-1]} or {above}" if above <= MAX_SEQ_LEN else str(self._doublings[-1])
        raise PlanError(
            f"max_length {self.max_length} is not start_length {self.start_length} doubled a whole number of times; "
            f"use {nearest}."
        )

    @classmethod
    def constant(cls, max_length: int, multiple_of: int = 8) -> Self:
        """The control run: every step at `max_length`."""
        return cls(name="constant", start_length=max_length, max_length=max_length, multiple_of=multiple_of)

    def describe(self, warmup_steps: int) -> dict[str, int | str]:
        """The plan's `schedule` object: resolved integers, no fraction, so that equal plans hash equal."""
        described: dict[str, int | str] = {
            "name": self.name,
            "start_length": self.start_length,
            "max_length": self.max_length,
            "multiple_of": self.multiple_of,
        }
        if self.name in ("linear", "root"):
            described["degree"] = self.degree
        if self.stages is not None:
            described["stages"] = self.stages
        if self.name != "constant":
            described["length_warmup_steps"] = warmup_steps
        return described

    @property
    def lengths(self) -> Sequence[int]:
        """All lengths that the schedule can have, growing from start to max; a short warmup may skip some."""
        start, multiple = self.start_length, self.multiple_of
        if self.name == "doubling":
            return self._doublings
        if self.stages is not None:
            gaps = self.stages - 1
            return tuple(start + self._num_rises * j // gaps * multiple for j in range(self.stages))
        return range(start, self.max_length + 1, multiple)

    @property
    def _num_rises(self) -> int:
        """n = D / multiple_of."""
        return (self.max_length - self.start_length) // self.multiple_of

    @property
    def _doublings(self) -> tuple[int, ...]:
        """start, 2 * start, 4 * start ... as far as max allows."""
        return tuple(self.start_length << j for j in range((self.max_length // self.start_length).bit_length()))

    def arrivals(self, warmup_steps: int) -> list[int]:
        """For each length, the smallest t = step + 1 that reaches it: 1 for the start."""
        shares, unit, slack = _curve_of(self)
        grown = [-(-(warmup_steps * share - slack) // unit) for share in shares]
        return [t if t > 1 else 1 for t in grown]

    def length(self, step: int, warmup_steps: int) -> int:
        """Length of the 0-based `step` when the warmup takes `warmup_steps`."""
        require_int("step", step, least=0)
        require_int("length_warmup_steps", warmup_steps)
        shares, unit, slack = _curve_of(self)
        # The same condition as in `arrivals`, solved for the share: reached are all shares up to this one.
        return self.lengths[bisect_right(shares, ((step + 1) * unit + slack) // warmup_steps) - 1]

    def runs(self, total_steps: int, warmup_steps: int) -> tuple[tuple[int, int], ...]:
        """`((seq_len, num_steps), ...)` of steps 0..total_steps-1, each length once, growing."""
        require_int("steps", total_steps)
        require_int("length_warmup_steps", warmup_steps)
        first_steps = [min(t - 1, total_steps) for t in self.arrivals(warmup_steps)]
        borders = pairwise([*first_steps, total_steps])
        return tuple((n, stop - start) for n, (start, stop) in zip(self.lengths, borders, strict=True) if stop > start)


def _listed() -> str:
    return ", ".join(PACING_NAMES)


@lru_cache(maxsize=16)  # arrivals() is asked for some sixty times when a budget is solved by bisection
def _curve_of(pacing: Pacing) -> Curve:
    lengths = pacing.lengths
    num_rises = len(lengths) - 1
    if num_rises == 0:  # one length, reached at once
        return Curve((0,), 1)
    match pacing.name:
        case "linear" | "root":
            return root_curve(num_rises, pacing.degree)
        case "step" | "doubling":
            return even_curve(num_rises)
        case "exponential":
            return exponential_curve(lengths)
        case "sine":
            return sine_curve(num_rises)
        case "cosine":
            return cosine_curve(num_rises)
        case "logarithmic":
            return logarithmic_curve(num_rises)
    return sampled_curve(load_pacing_function(pacing.name, PACING_NAMES), num_rises)
