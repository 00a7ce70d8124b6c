"""Pacing: which sequence length a training step has.

In:  a pacing function (`linear`, `root`, `constant`) with ends and alignment, or an explicit list of phases.
Out: the length of any step (`length`), or the run-length list of all steps (`runs`), computed per length and
     not per step, so that a plan of a million steps costs as much as one of a thousand.

Guarantees: integers only, so every machine computes the same lengths; every length is a multiple of
`multiple_of` between `start_length` and `max_length`; the maximum is reached exactly at the last warmup step.

With D = max - start and t = step + 1, pacing of degree d grows the length by the largest integer x with
T * x**d <= t * D**d, rounded down to the multiple. So it grows by k multiples for the largest k with
T * k**d <= t * n**d, n = D / multiple_of: the alignment cancels, and linear is root of degree 1. Solved for
t, k multiples are reached at t = ceil(T * k**d / n**d).

    step     0    7  499   998   999     Pacing(name="linear", start_length=8, max_length=1024, multiple_of=8)
    length   8   16  512  1016  1024     with T = 1000; the 1000 lengths sum to 512,512
"""

from bisect import bisect_right
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from itertools import groupby, pairwise
from typing import ClassVar, Self

from curriculum.errors import PlanError

MAX_SEQ_LEN = 2**31 - 1
MAX_TOTAL = 2**62  # steps or tokens; offsets are uint64 and sums of two totals must stay below 2**63
MAX_LENGTHS = 65_536  # a folder per phase: beyond this a plan is a mistake, and refusing beats hanging
MAX_DEGREE = 64
MAX_FRAC_DECIMALS = 30

PACING_NAMES = ("linear", "root", "constant")


def require_int(name: str, value: object, least: int = 1, most: int = MAX_TOTAL) -> int:
    """`value` as it is, when it is a whole number in [least, most]; bool, float and text are refused."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise PlanError(f"{name} is {value!r}; it must be a whole number from {least} to {most}.")
    if not least <= value <= most:
        shown = value if value.bit_length() <= 128 else f"of {value.bit_length()} bits"  # str() refuses 5,000 digits
        raise PlanError(f"{name} is {shown}; choose a whole number from {least} to {most}.")
    return value


def neighbours(value: int, multiple: int, least: int, most: int) -> str:
    """The nearest multiples of `multiple` around `value` within [least, most], in words: "8 or 16"."""
    below = value // multiple * multiple
    found = [str(n) for n in (below, below + multiple) if least <= n <= most]
    return " or ".join(found) if found else f"a smaller multiple than {multiple}"


def _require_aligned(name: str, value: int, multiple_of: int) -> None:
    if value % multiple_of:
        nearest = neighbours(value, multiple_of, multiple_of, MAX_SEQ_LEN)
        raise PlanError(f"{name} {value} is not a multiple of multiple_of {multiple_of}; use {nearest}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pacing:
    """A growing schedule: progress -> length. `degree` is 1 for linear and constant."""

    name: str
    start_length: int
    max_length: int
    multiple_of: int = 8
    degree: int = 1

    def __post_init__(self) -> None:
        if self.name not in PACING_NAMES:
            raise PlanError(f"schedule is {self.name!r}; choose one of {', '.join(PACING_NAMES)}.")
        require_int("multiple_of", self.multiple_of, most=MAX_SEQ_LEN)
        require_int("degree", self.degree, most=MAX_DEGREE)
        for name, value in (("start_length", self.start_length), ("max_length", self.max_length)):
            require_int(name, value, most=MAX_SEQ_LEN)
            _require_aligned(name, value, self.multiple_of)
        self._check_together()

    def _check_together(self) -> None:
        start, top = self.start_length, self.max_length
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
        if len(self.lengths) > MAX_LENGTHS:
            raise PlanError(
                f"start_length {start} to max_length {top} in steps of multiple_of {self.multiple_of} are "
                f"{len(self.lengths)} lengths; at most {MAX_LENGTHS} work, so use a larger multiple_of."
            )

    @classmethod
    def constant(cls, max_length: int, multiple_of: int = 8) -> Self:
        """The control run: every step at `max_length`."""
        return cls(name="constant", start_length=max_length, max_length=max_length, multiple_of=multiple_of)

    def describe(self, warmup_steps: int) -> dict[str, int | str]:
        """The plan's `schedule` object: resolved integers, no fraction, so that equal plans hash equal."""
        ends: dict[str, int | str] = {
            "name": self.name,
            "start_length": self.start_length,
            "max_length": self.max_length,
            "multiple_of": self.multiple_of,
        }
        return ends if self.name == "constant" else {**ends, "degree": self.degree, "length_warmup_steps": warmup_steps}

    @property
    def lengths(self) -> range:
        """All aligned lengths from start to max, growing; a short warmup may skip some."""
        return range(self.start_length, self.max_length + 1, self.multiple_of)

    def arrivals(self, warmup_steps: int) -> list[int]:
        """For each length, the smallest t = step + 1 that reaches it: 1 for the start, T for the maximum."""
        degree, top = self.degree, (len(self.lengths) - 1) ** self.degree
        grown = [-(-warmup_steps * k**degree // top) for k in range(1, len(self.lengths))]
        return [1, *grown]

    def length(self, step: int, warmup_steps: int) -> int:
        """Length of the 0-based `step` when the warmup takes `warmup_steps`."""
        require_int("step", step, least=0)
        require_int("length_warmup_steps", warmup_steps)
        t, lengths, degree = step + 1, self.lengths, self.degree
        if t >= warmup_steps:
            return self.max_length
        reached = t * (len(lengths) - 1) ** degree
        return lengths[bisect_right(range(len(lengths)), reached, key=lambda k: warmup_steps * k**degree) - 1]

    def runs(self, total_steps: int, warmup_steps: int) -> tuple[tuple[int, int], ...]:
        """`((seq_len, num_steps), ...)` of steps 0..total_steps-1, each length once, growing."""
        require_int("steps", total_steps)
        require_int("length_warmup_steps", warmup_steps)
        first_steps = [min(t - 1, total_steps) for t in self.arrivals(warmup_steps)]
        borders = pairwise([*first_steps, total_steps])
        return tuple((n, stop - start) for n, (start, stop) in zip(self.lengths, borders, strict=True) if stop > start)


@dataclass(frozen=True, kw_only=True, slots=True)
class ExplicitPhases:
    """A hand-written schedule: `((seq_len, num_steps), ...)` in training order; may shrink and revisit."""

    NAME: ClassVar[str] = "phases"

    steps_by_length: tuple[tuple[int, int], ...]
    multiple_of: int = 8

    def __post_init__(self) -> None:
        require_int("multiple_of", self.multiple_of, most=MAX_SEQ_LEN)
        if not self.steps_by_length:
            raise PlanError("phases is empty; write at least one LEN:STEPS, for example 128:1000,1024:500.")
        if len(self.steps_by_length) > MAX_LENGTHS:
            raise PlanError(
                f"phases has {len(self.steps_by_length)} entries; at most {MAX_LENGTHS} work, so merge some."
            )
        for number, (seq_len, num_steps) in enumerate(self.steps_by_length, 1):
            require_int(f"the length of phase {number}", seq_len, most=MAX_SEQ_LEN)
            require_int(f"the number of steps of phase {number}", num_steps)
            _require_aligned(f"the length of phase {number},", seq_len, self.multiple_of)
        require_int("the number of steps of all phases together", self.total_steps)

    def describe(self) -> dict[str, int | str]:
        """The plan's `schedule` object; the phases themselves stand in `phases` and `order`."""
        return {"name": self.NAME, "max_length": self.max_length, "multiple_of": self.multiple_of}

    @property
    def max_length(self) -> int:
        return max(seq_len for seq_len, _ in self.steps_by_length)

    @property
    def total_steps(self) -> int:
        return sum(num_steps for _, num_steps in self.steps_by_length)

    @property
    def lengths(self) -> tuple[int, ...]:
        """The distinct lengths, growing."""
        return tuple(sorted({seq_len for seq_len, _ in self.steps_by_length}))

    @property
    def runs(self) -> tuple[tuple[int, int], ...]:
        """`((seq_len, num_steps), ...)` with neighbouring entries of equal length merged."""
        merged = groupby(self.steps_by_length, key=lambda entry: entry[0])
        return tuple((seq_len, sum(num_steps for _, num_steps in group)) for seq_len, group in merged)


def parse_phases(text: str, multiple_of: int = 8) -> ExplicitPhases:
    """ "128:1000,1024:500" -> 1000 steps of length 128, then 500 of 1024."""
    entries = []
    for number, part in enumerate(text.split(","), 1):
        numbers = [word.strip() for word in part.split(":")]
        # Nineteen digits hold every allowed value; int() of a megabyte of digits would raise or take minutes.
        if len(numbers) != 2 or not all(w.isascii() and w.isdigit() and len(w) <= 19 for w in numbers):
            raise PlanError(
                f"phase {number} of phases is {part[:40]!r}; write LEN:STEPS with two whole numbers, "
                f"for example 128:1000,1024:500."
            )
        entries.append((int(numbers[0]), int(numbers[1])))
    return ExplicitPhases(steps_by_length=tuple(entries), multiple_of=multiple_of)


def parse_frac(value: str | Decimal | int, *, name: str = "frac") -> Fraction:
    """The exact decimal: "0.3" is 3/10. Floats are refused, because 0.3 as a float is not 3/10."""
    if isinstance(value, bool) or not isinstance(value, str | Decimal | int):
        raise PlanError(f"{name} is {value!r} of type {type(value).__name__}; give it as decimal text such as '0.3'.")
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise PlanError(f"{name} is {str(value)[:40]!r}; write a decimal above 0 and at most 1, such as 0.3.") from None
    if not number.is_finite() or not 0 < number <= 1:
        raise PlanError(f"{name} is {str(value)[:40]}; choose a decimal above 0 and at most 1, such as 0.3.")
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -MAX_FRAC_DECIMALS:  # Fraction("1e-999999999") never returns
        raise PlanError(f"{name} has more than {MAX_FRAC_DECIMALS} decimals; round it.")
    return Fraction(number)


def warmup_steps_of(frac: Fraction, total_steps: int) -> int:
    """T = max(1, round half even of frac * total_steps). Grows by 0 or 1 when total_steps grows by 1."""
    return max(1, round(frac * total_steps))
