"""What a probe's log says, while the trainer writes it.

In:  its lines, as `FollowedLog` finds them.   Out: an `Evaluation` for each step that has one.
Guarantee: a loss that is NaN or infinite, as a JSON string or as Python's `json` writes it, is a divergence and an
`Evaluation` like any other, whether the model was validated there or not, and whatever the validation says.

    {"step": 9, "loss": 5.1, "validation_loss": 5.3}       Evaluation(step=9, perplexity=200.3)
    {"step": 9, "validation_perplexity": 200.3}            the same
    {"step": 9, "loss": NaN}                               Evaluation(step=9, perplexity=nan)
    {"step": 9, "loss": NaN, "validation_loss": 5.3}       the same

Lines are those of `curriculum/stability_log.py`, or of another trainer that writes `step` and validations in them; not
every step needs a line. Which of them count, where a trainer goes back or validates late, is the rule of
`curriculum/stability_records.py`.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from itertools import pairwise

from curriculum.errors import BuildError, DataError
from curriculum.stability_line import Record, number, parse_record
from curriculum.stability_records import TRAINED, Records
from pipeline.tuning.candidate import Evaluation
from pipeline.tuning.follow_log import News

WANTED = (
    'a line of JSON for each step, such as {"step": 9, "loss": 5.1, "validation_loss": 5.3}: steps from 0, losses in '
    "nats per target, `validation_loss` (or `validation_perplexity`) on steps after which the model was validated at "
    "full length"
)
"""The tail of a sentence that says what a log is to hold."""
MAX_LINE_BYTES = 1 << 20
KEPT = ("step", *TRAINED, "validation_loss", "validation_perplexity")
LARGEST_LOSS = math.log(sys.float_info.max)


@dataclass(kw_only=True, slots=True)
class ProbeLog:
    """What has been read of a log."""

    where: str
    """for sentences"""
    num_steps: int
    """that were asked for"""
    num_lines: int = 0
    keys: dict[str, None] = field(default_factory=dict)
    """that were found, in order"""
    _log: Records = field(default_factory=Records)
    """what is needed of them; `evaluation` is what they come to"""

    def take(self, news: News) -> None:
        """Read on.

        Raises:
            BuildError: a line is not of such a log, or does not end.
        """
        for self.num_lines, line in enumerate(news.lines, news.first_number):
            if line.strip():
                self._read(line)
        if len(news.rest) > MAX_LINE_BYTES:
            raise BuildError(f"{self.where}, line {self.num_lines + 1}: it is longer than 1 MB. Write {WANTED}.")

    def _read(self, line: bytes) -> None:
        where = f"{self.where}, line {self.num_lines}"
        try:
            record = parse_record(line, where, needed=("loss", "validation_loss"))
            record["validation_perplexity"] = number(record, "validation_perplexity", where)
        except DataError as error:
            raise BuildError(f"{error} Write {WANTED}.") from None
        self.keys.update(dict.fromkeys(key for key, value in record.items() if value is not None))
        if self.num_lines == 1:  # of a log that was begun anew: not late, whatever was read before
            self._log.drop_from(record["step"])
        place = self._log.take({key: record[key] for key in KEPT if key in record})
        self._log.records[place]["evaluation"] = self._evaluation(self._log.records[place])

    def _evaluation(self, record: Record) -> Evaluation | None:
        found = perplexity(record)
        if found is None or record["step"] > self.num_steps:
            return None
        return Evaluation(step=record["step"], perplexity=found)

    @property
    def evaluations(self) -> list[Evaluation]:
        """Those that count, by rising step."""
        return [record["evaluation"] for record in self._log.records if record["evaluation"] is not None]

    @property
    def last_step(self) -> int:
        """That was trained, as far as the lines tell."""
        last: int = self._log.records[-1]["step"] if self._log.records else -1
        return last

    @property
    def steps_trained(self) -> int:
        """Who counts from 1 ends at `num_steps`, too."""
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
        return self.is_at_end and self.evaluations[-1].step >= self.num_steps - 1

    @property
    def is_complete(self) -> bool:
        """Whether all steps were trained: the line after the last one would be of a step that was not asked for."""
        steps = [-1, *(record["step"] for record in self._log.records)]
        largest_gap = max((after - before for before, after in pairwise(steps)), default=1)
        return self.last_step + largest_gap >= self.num_steps


def perplexity(record: Record) -> float | None:
    """Of a validation; infinite or NaN where a loss is so; None where there is neither."""
    found, validation_loss = record.get("validation_perplexity"), record.get("validation_loss")
    for value in (record.get("loss"), validation_loss, found):
        if value is not None and not math.isfinite(value):
            # No loss is minus infinity: something broke, and nothing after it is better for it.
            return math.inf if value > 0 else math.nan
    if found is not None or validation_loss is None:
        return found
    return math.exp(validation_loss) if validation_loss < LARGEST_LOSS else math.inf
