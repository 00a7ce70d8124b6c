"""Explicit phases: a schedule written by hand, as lengths with numbers of steps.

In:  "128:1000,1024:500", or the same as numbers. The last number of steps may be `*`: as many as the budget holds.
Out: `ExplicitPhases`: runs of (seq_len, num_steps) in training order.

Guarantees: lengths may shrink and come back; neighbouring entries of equal length are one run, so that equal
schedules give equal plans, however they were written. Entries that are `separate` all stay phases of their own: a
mixture may give each its own weights, also where the length does not change (an anneal at the maximum).

    parse_phases("8:1,8:2,16:3").runs             ((8, 3), (16, 3))
    parse_phases("128:9,512:*").runs_with(41)     ((128, 9), (512, 41))
"""

from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

from curriculum.errors import PlanError
from curriculum.limits import MAX_LENGTHS, MAX_SEQ_LEN, require_aligned, require_int

EXAMPLE = "for example 128:1000,1024:500"
SEPARATE = "separate"
"""Key of a plan's `schedule` whose phases are the entries as they were written, one visit each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExplicitPhases:
    """`((seq_len, num_steps), ...)` in training order; may shrink and revisit.

    `open_length` is the length of a last phase (`LEN:*`) that lasts for as many steps as the budget holds.
    """

    NAME: ClassVar[str] = "phases"

    steps_by_length: tuple[tuple[int, int], ...]
    multiple_of: int = 8
    open_length: int | None = None
    separate: bool = False

    def __post_init__(self) -> None:
        require_int("multiple_of", self.multiple_of, most=MAX_SEQ_LEN)
        lengths = [seq_len for seq_len, _ in self.steps_by_length]
        if self.open_length is not None:
            lengths.append(self.open_length)
        if not lengths:
            raise PlanError(f"phases is empty; write at least one LEN:STEPS, {EXAMPLE}.")
        if len(lengths) > MAX_LENGTHS:
            raise PlanError(f"phases has {len(lengths)} entries; at most {MAX_LENGTHS} work, so merge some.")
        for number, seq_len in enumerate(lengths, 1):
            require_int(f"the length of phase {number}", seq_len, most=MAX_SEQ_LEN)
            if number <= len(self.steps_by_length):
                require_int(f"the number of steps of phase {number}", self.steps_by_length[number - 1][1])
            require_aligned(f"the length of phase {number},", seq_len, self.multiple_of)
        require_int("the number of steps of all phases together", self.total_steps, least=0)

    def describe(self) -> dict[str, int | str]:
        """The plan's `schedule` object; the phases themselves stand in `phases` and `order`."""
        described: dict[str, int | str] = {
            "name": self.NAME,
            "max_length": self.max_length,
            "multiple_of": self.multiple_of,
        }
        return described | {SEPARATE: 1} if self.separate else described

    @property
    def is_open(self) -> bool:
        """True when the budget decides how long the last phase lasts."""
        return self.open_length is not None

    @property
    def max_length(self) -> int:
        return self.lengths[-1]

    @property
    def total_steps(self) -> int:
        """Steps of all phases; of those that say how many they have, where the last is open."""
        return sum(num_steps for _, num_steps in self.steps_by_length)

    @property
    def lengths(self) -> tuple[int, ...]:
        """The distinct lengths, growing."""
        fixed = {seq_len for seq_len, _ in self.steps_by_length}
        return tuple(sorted(fixed if self.open_length is None else {*fixed, self.open_length}))

    @property
    def runs(self) -> tuple[tuple[int, int], ...]:
        """`((seq_len, num_steps), ...)` of the fixed phases, neighbouring entries of equal length merged."""
        return self.steps_by_length if self.separate else merged_runs(self.steps_by_length)

    def runs_with(self, open_steps: int) -> tuple[tuple[int, int], ...]:
        """The runs when the open phase lasts `open_steps` steps."""
        if self.open_length is None:
            raise PlanError(
                "phases has no entry LEN:*, so all of its numbers of steps are fixed; leave them as they are."
            )
        runs = (*self.steps_by_length, (self.open_length, open_steps))
        return runs if self.separate else merged_runs(runs)


def merged_runs(runs: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    """Neighbouring entries of equal length as one."""
    groups = groupby(runs, key=lambda entry: entry[0])
    return tuple((seq_len, sum(num_steps for _, num_steps in group)) for seq_len, group in groups)


def parse_phases(text: str, multiple_of: int = 8, *, separate: bool = False) -> ExplicitPhases:
    """ "128:1000,1024:500" -> 1000 steps of length 128, then 500 of 1024; "128:1000,1024:*" -> then the rest."""
    parts = text.split(",")
    last_length, colon, last_steps = parts[-1].partition(":")
    open_length = None
    if colon and last_steps.strip() == "*":
        open_length = _parse_numbers(len(parts), parts.pop(), [last_length])[0]
    entries = []
    for number, part in enumerate(parts, 1):
        if part.rpartition(":")[2].strip() == "*":
            raise PlanError(f"phase {number} of phases is {part[:40]!r}; only the last phase may last LEN:*.")
        words = part.split(":")
        numbers = _parse_numbers(number, part, words if len(words) == 2 else [""])
        entries.append((numbers[0], numbers[1]))
    return ExplicitPhases(
        steps_by_length=tuple(entries), multiple_of=multiple_of, open_length=open_length, separate=separate
    )


def _parse_numbers(number: int, part: str, words: list[str]) -> list[int]:
    stripped = [word.strip() for word in words]
    # Nineteen digits hold every allowed value; int() of a megabyte of digits would raise or take minutes.
    if not all(word.isascii() and word.isdigit() and len(word) <= 19 for word in stripped):
        raise PlanError(
            f"phase {number} of phases is {part[:40]!r}; write LEN:STEPS with two whole numbers, {EXAMPLE}."
        )
    return [int(word) for word in stripped]
