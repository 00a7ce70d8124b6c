"""One line of a stability log, whoever wrote it.

In:  its bytes, or the value of its JSON.   Out: a dictionary, or a sentence that says where it is none of such a log.
Guarantee: what `curriculum.stability_log` names has the type that it says, as far as the caller needs it; all else is
as it was found, or left out.

    {"step": 3.0, "loss": "NaN", "note": "x"}    {"step": 3, "loss": nan, "note": "x"}
    {"step": 3, "loss": "low"}                   line 4: loss is 'low', which is no number ("NaN" and "Infinity" are).
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping
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
    "variance_l1",
    "variance_max",
    "variance_sqrt_l1",
    "variance_sqrt_max",
    "validation_loss",
)
MEASURED = (*COUNTS, *NUMBERS)
_UNUSED = ("learning_rate", "seconds")
"""No measure needs them: what is no number there is left out, and no reason to refuse a log."""
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_MOST = 2**63


def is_object(rest: bytes) -> bool:
    """Whether a last line without a line break is whole: another trainer's may be. A part of an object is none."""
    try:
        return isinstance(json.loads(rest), dict)
    except (ValueError, RecursionError):
        return False


def parse_record(line: bytes, where: str, needed: Collection[str] = MEASURED) -> Record:
    """The record of one whole line, which a byte order mark may stand before.

    Args:
        line: its bytes.
        where: for sentences.
        needed: keys that the caller uses. What is no number under another one is no reason to refuse a log.

    Raises:
        DataError: it is no JSON, or as `checked`.
    """
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{where}: not JSON ({one_line(error)}); a log holds one JSON object per optimizer step."
        ) from None
    return checked(record, where, needed)


def checked(record: Any, where: str, needed: Collection[str] = MEASURED) -> Record:
    """A JSON value as a record.

    Raises:
        DataError: it is no object with an integer `step` and numbers under the needed keys.
    """
    if not isinstance(record, dict):
        raise DataError(f"{where}: {shown(record)} found; a log holds one JSON object per optimizer step.")
    if "step" not in record:
        raise DataError(f"{where}: there is no step in it, an integer of at least 0; found {shown(list(record))}.")
    return {
        **record,
        **_integers(record, ("step",), where, needed=True),
        **_integers(record, [key for key in COUNTS if key in needed], where),
        **{
            key: number(record, key, where) if key in needed else _number(record[key])
            for key in (*NUMBERS, *_UNUSED)
            if record.get(key) is not None
        },
    }


def number(record: Mapping[str, Any], key: str, where: str) -> float | None:
    """The number under a key; None where there is none.

    Raises:
        DataError: something else is there.
    """
    value = record.get(key)
    found = _number(value)
    if found is None and value is not None:
        raise DataError(f'{where}: {key} is {shown(value)}, which is no number ("NaN" and "Infinity" are).')
    return found


def _number(value: object) -> float | None:
    if isinstance(value, str):
        value = _NOT_FINITE.get(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return math.inf if value > 0 else -math.inf


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
