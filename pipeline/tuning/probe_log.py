"""Reading a probe's log while the trainer writes it.

In:  its bytes as they come, cut anywhere.   Out: an `Evaluation` for each line that has one.
Guarantee: a line counts once it is whole. A loss that is NaN or infinite, as a JSON string or as Python's `json`
writes it, is a divergence and an `Evaluation` like any other, whether the model was validated there or not.

    {"step": 9, "loss": 5.1, "validation_loss": 5.3}       Evaluation(step=9, perplexity=200.3)
    {"step": 9, "validation_perplexity": 200.3}            the same
    {"step": 9, "loss": NaN}                               Evaluation(step=9, perplexity=nan)

Lines are those of `curriculum/stability_log.py`, or of another trainer that writes `step` and validations in them; not
every step needs a line. A run that resumes may go back to a step: what it wrote from there on before counts no more.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass, field

from curriculum.errors import BuildError, DataError
from curriculum.printable import shown
from curriculum.stability_log import Record, parse_record
from pipeline.tuning.candidate import Evaluation

WANTED = (
    'a line of JSON for each step, such as {"step": 9, "loss": 5.1, "validation_loss": 5.3}: steps from 0, losses in '
    "nats per target, `validation_loss` (or `validation_perplexity`) on steps after which the model was validated at "
    "full length"
)
"""The tail of a sentence that says what a log is to hold."""
MAX_LINE_BYTES = 1 << 20
NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
LARGEST = sys.float_info.max
LARGEST_LOSS = math.log(LARGEST)


@dataclass(kw_only=True, slots=True)
class ProbeLog:
    """What has been read of a log."""

    where: str
    """for sentences"""
    num_steps: int
    """that were asked for"""
    evaluations: dict[int, Evaluation] = field(default_factory=dict)
    """by step; where one is written again, the later line counts"""
    num_lines: int = 0
    last_step: int = -1
    largest_gap: int = 1
    """steps from one line to the next"""
    keys: dict[str, None] = field(default_factory=dict)
    """that were found, in order"""
    _rest: bytes = b""

    def take(self, data: bytes, *, replaces_last: bool = False) -> list[Evaluation]:
        """Read on; the evaluations in the lines that are whole now.

        Args:
            data: what follows.
            replaces_last: its first line is the last one, written anew.

        Raises:
            BuildError: a line is not of such a log.
        """
        self.num_lines -= replaces_last
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.require_short(self._rest)
        return [found for line in lines if line.strip() and (found := self._read(line)) is not None]

    def require_short(self, rest: bytes) -> None:
        """Refuse a line that does not end."""
        if len(rest) > MAX_LINE_BYTES:
            raise BuildError(f"{self.where}, line {self.num_lines + 1}: it is longer than 1 MB. Write {WANTED}.")

    def end(self) -> list[Evaluation]:
        """Nothing more will come: the last line may lack its end, or the rest of it, which then counts as not there."""
        rest, self._rest = self._rest, b""
        try:
            json.loads(rest)
        except (ValueError, RecursionError):
            return []
        return self.take(rest + b"\n")

    @property
    def steps_trained(self) -> int:
        """As far as the lines tell. Who counts from 1 ends at `num_steps`, too."""
        return min(self.last_step + 1, self.num_steps)

    @property
    def is_beyond(self) -> bool:
        """Whether more was trained than asked for."""
        return self.last_step > self.num_steps

    @property
    def is_at_end(self) -> bool:
        """Whether the last step has a line, and some step a validation."""
        return self.last_step >= self.num_steps - 1 and bool(self.evaluations)

    @property
    def is_validated_at_end(self) -> bool:
        """Whether nothing is to come that would count."""
        return self.is_at_end and max(self.evaluations) >= self.num_steps - 1

    @property
    def is_complete(self) -> bool:
        """Whether all steps were trained: the line after the last one would be of a step that was not asked for."""
        return self.last_step + self.largest_gap >= self.num_steps

    def _read(self, line: bytes) -> Evaluation | None:
        self.num_lines += 1
        try:
            entry = parse_record(line, f"{self.where}, line {self.num_lines}")
        except DataError as error:
            raise BuildError(f"{error} Write {WANTED}.") from None
        step: int = entry["step"]
        self.keys.update(dict.fromkeys(entry))
        self.largest_gap = max(self.largest_gap, step - self.last_step)
        if step < self.last_step:
            self.evaluations = {kept: found for kept, found in self.evaluations.items() if kept < step}
        self.last_step = step
        perplexity = self._perplexity(entry)
        if perplexity is None or step > self.num_steps:
            return None
        self.evaluations[step] = Evaluation(step=step, perplexity=perplexity)
        return self.evaluations[step]

    def _perplexity(self, entry: Record) -> float | None:
        """Of a validation; infinite or NaN where the loss is so; None on a line without either."""
        perplexity = self._number(entry, "validation_perplexity")
        if perplexity is not None:
            return perplexity
        loss = self._number(entry, "validation_loss")
        if loss is None:
            loss = self._number(entry, "loss")
            if loss is None or math.isfinite(loss):
                return None
        return math.exp(loss) if loss < LARGEST_LOSS else loss * math.inf

    def _number(self, entry: Record, key: str) -> float | None:
        """The number under a key; None where there is none."""
        value = entry.get(key)
        if value is None:
            return None
        if isinstance(value, str):
            value = NOT_FINITE.get(value, value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BuildError(
                f"{self.where}, line {self.num_lines}: {key} is {shown(value)}, which is no number. Write {WANTED}."
            )
        # No loss is minus infinity: something broke, and nothing after it is better for it. Integers may be huge.
        return math.nan if value < -LARGEST else math.inf if value > LARGEST else float(value)
