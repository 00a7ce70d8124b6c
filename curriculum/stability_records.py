"""The records of a stability log, whoever wrote it.

In:  a file, or bytes, of JSON lines.   Out: one dictionary for each step, in the order of the steps.
Guarantee: whoever reads a log, at once or while it grows, agrees on which lines count. Lines of one step that follow
each other are one. A line that goes back with what a step measures when it is trained, or says otherwise what its step
has said, is of a run that resumed there: what was written from its step on counts no more. A line without any of that
is a validation, which may come late: it joins its step, or has a place of its own, and drops nothing.

    {"step": 0, "loss": 4.0}
    {"step": 1, "loss": 5.0}
    {"step": 1, "validation_loss": 4.5}       one record with the line above: a validation may have a line of its own
    {"step": 0, "validation_loss": 4.7}       joins the first line
    {"step": 1, "loss": "NaN"}                a resume at step 1, whose lines before count no more
"""

from __future__ import annotations

import math
import os
from bisect import bisect_left
from codecs import BOM_UTF8
from dataclasses import dataclass, field
from pathlib import Path

from curriculum.errors import DataError
from curriculum.stability_line import NUMBERS, Record, is_object, parse_record

TRAINED = tuple(key for key in NUMBERS if key != "validation_loss")
"""A line with one of them is of a step that was trained."""


@dataclass(kw_only=True, slots=True)
class Records:
    """What the lines of a log come to, taken one after the other."""

    records: list[Record] = field(default_factory=list)
    num_dropped: int = 0
    """records that count no more, as a later line went back to their step or one before"""

    def take(self, line: Record) -> int:
        """Take the next line in; the index of the record that it began or joined."""
        place = self._place(line["step"])
        if self._is_resumed(line, place):
            self._drop(place)
        if place < len(self.records) and self.records[place]["step"] == line["step"]:
            self.records[place] |= {key: value for key, value in line.items() if value is not None}
        else:
            self.records.insert(place, dict(line))
        return place

    def drop_from(self, step: int) -> None:
        """A run goes on at this step: records of it and later ones count no more."""
        self._drop(self._place(step))

    def _place(self, step: int) -> int:
        """Of the first record of that step or a later one."""
        return bisect_left(self.records, step, key=_step)

    def _is_resumed(self, line: Record, place: int) -> bool:
        """Whether a run goes on with this line where the log was at this place, or further, already."""
        from_there = range(place, len(self.records))
        if len(from_there) == 1 and self.records[place]["step"] == line["step"]:
            return _contradicts(self.records[place], line)
        # Where nothing but validations is logged, they are the steps of the run.
        return bool(from_there) and (
            _is_trained(line) or not any(_is_trained(self.records[number]) for number in from_there)
        )

    def _drop(self, place: int) -> None:
        self.num_dropped += len(self.records) - place
        del self.records[place:]


def _step(record: Record) -> int:
    step: int = record["step"]
    return step


def _is_trained(record: Record) -> bool:
    return any(record.get(key) is not None for key in TRAINED)


def _contradicts(there: Record, line: Record) -> bool:
    """Whether a value of the step is another one now; NaN is itself."""
    known = [key for key in TRAINED if there.get(key) is not None and line.get(key) is not None]
    return any(there[key] != line[key] and not (math.isnan(there[key]) and math.isnan(line[key])) for key in known)


def read_log(path: str | os.PathLike[str]) -> list[Record]:
    """The records of a log in the order of their steps, each step once.

    Raises:
        DataError: there is no such file, a line is no JSON object with an integer `step`, a key that
            `curriculum.stability_log` names has a value that is no number, or there is no line at all.
    """
    return read_records(path).records


def read_records(path: str | os.PathLike[str]) -> Records:
    """As `read_log`, and how many records count no more.

    Raises:
        DataError: as `read_log`.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give the log of a training run.") from None
    found = parse_records(content, str(path))
    if not found.records:
        raise DataError(f"{path}: no whole line is in it; the run ended before its first step.")
    return found


def parse_records(content: bytes, where: str) -> Records:
    """The records in the bytes of a log, as `read_log`; a last line that was cut off is left out.

    Raises:
        DataError: as `read_log`.
    """
    found = Records()
    # Zeros: some file systems, after a power cut.
    *lines, rest = content.removeprefix(BOM_UTF8).rstrip(b"\0").split(b"\n")
    if is_object(rest) or not rest.startswith(b"{"):
        lines.append(rest)
    for number, line in enumerate(lines, 1):
        if line.strip():
            found.take(parse_record(line, f"{where}, line {number}"))
    return found
