"""The records of a stability log, whoever wrote it.

In:  a file, or bytes, of JSON lines.   Out: one dictionary for each step, in the order of the steps.
Guarantee: what `curriculum.stability_log` names has the type that it says; all else is as it was found. What is no
such log ends in a sentence with its line.

    {"step": 0, "loss": 4.0}
    {"step": 1, "loss": 5.0}
    {"step": 1, "validation_loss": 4.5}       one record with the line above: a validation may have a line of its own
    {"step": 1, "loss": "NaN"}                further on: a run that resumed at step 1, whose lines before count no more

A line without a loss that goes back to a step that has one is a late validation of it, and drops nothing.
"""

from __future__ import annotations

import json
import math
import os
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curriculum.errors import DataError
from curriculum.printable import one_line, shown

Record = dict[str, Any]
"""One line: `step` is an int, other numbers are floats (or ints), None where there is no value."""
COUNTS = ("seq_len", "tokens")
NUMBERS = (
    "loss",
    "loss_ratio",
    "grad_norm",
    "learning_rate",
    "variance_l1",
    "variance_max",
    "variance_sqrt_l1",
    "variance_sqrt_max",
    "validation_loss",
    "seconds",
)
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_UNUSED = ("learning_rate", "seconds")
"""No measure needs them: what is no number there is left out, and no reason to refuse a log."""
_MOST = 2**63
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, kw_only=True, slots=True)
class Records:
    """What a log holds."""

    records: list[Record]
    num_dropped: int
    """records that count no more, as a later line went back to their step or one before"""


def read_log(path: str | os.PathLike[str]) -> list[Record]:
    """The records of a log in the order of their steps, each step once.

    Raises:
        DataError: there is no such file, a line is no JSON object with an integer `step`, one of the keys above has a
            value that is no number, or there is no line at all.
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
    records: list[Record] = []
    num_dropped = 0
    *lines, rest = content.removeprefix(_BOM).rstrip(b"\0").split(b"\n")  # zeros: some file systems, after a power cut
    if is_object(rest) or not rest.startswith(b"{"):
        lines.append(rest)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        record = parse_record(line, f"{where}, line {number}")
        step = record["step"]
        if records and step == records[-1]["step"]:  # such as a trainer that writes a validation into a line of its own
            records[-1] |= record
            continue
        place = bisect_left(records, step, key=_step)
        if place < len(records) and records[place]["step"] == step and _has_loss(records[place], record):
            records[place] |= record
            continue
        num_dropped += len(records) - place  # a run that resumed there
        del records[place:]
        records.append(record)
    return Records(records=records, num_dropped=num_dropped)


def is_object(rest: bytes) -> bool:
    """Whether a last line without a line break is whole: another trainer's may be. A part of an object is none."""
    try:
        return isinstance(json.loads(rest), dict)
    except (ValueError, RecursionError):
        return False


def checked(record: Any, where: str) -> Record:
    """A JSON value as a record.

    Raises:
        DataError: it is no object with an integer `step` and numbers under the keys above.
    """
    if not isinstance(record, dict):
        raise DataError(f"{where}: {shown(record)} found; a log holds one JSON object per optimizer step.")
    if "step" not in record:
        raise DataError(f"{where}: there is no step in it, an integer of at least 0; found {shown(list(record))}.")
    return {
        **record,
        **_integers(record, ("step",), where, needed=True),
        **_integers(record, COUNTS, where),
        **_numbers(record, where),
    }


def _step(record: Record) -> int:
    step: int = record["step"]
    return step


def _has_loss(there: Record, late: Record) -> bool:
    """Whether the step was trained, and the line that goes back to it trains nothing."""
    losses = ("loss", "loss_ratio")
    return any(there.get(key) is not None for key in losses) and all(late.get(key) is None for key in losses)


def parse_record(line: bytes, where: str) -> Record:
    """The record of one whole line.

    Raises:
        DataError: as `read_log`.
    """
    try:
        record = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{where}: not JSON ({one_line(error)}); a log holds one JSON object per optimizer step."
        ) from None
    return checked(record, where)


def _integers(record: Record, keys: Iterable[str], where: str, *, needed: bool = False) -> Record:
    found = {}
    for key in keys:
        value = record.get(key)
        if value is None and not needed:
            continue
        if type(value) is float and value.is_integer():  # pandas writes integers so where some are missing
            value = int(value)
        if type(value) is not int or not 0 <= value < _MOST:
            raise DataError(f"{where}: {key} is {shown(value)}, expected an integer of at least 0.")
        found[key] = value
    return found


def _numbers(record: Record, where: str) -> Record:
    found: Record = {}
    for key in NUMBERS:
        value = record.get(key)
        if isinstance(value, str):
            value = _NOT_FINITE.get(value, value)
        if value is None:
            continue
        if type(value) not in (int, float):
            if key in _UNUSED:
                found[key] = None
                continue
            raise DataError(f'{where}: {key} is {shown(value)}, which is no number ("NaN" and "Infinity" are).')
        try:
            found[key] = float(value)
        except OverflowError:  # an integer of hundreds of digits
            found[key] = math.inf if value > 0 else -math.inf
    return found
