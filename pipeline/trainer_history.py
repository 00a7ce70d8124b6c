"""The log_history of a Hugging Face Trainer, as records of a stability log.

In:  a trainer_state.json.   Out: a `History`; None if it is something else, such as JSON lines.
Guarantees: Trainer counts steps from 1, records from 0; an evaluation, which Trainer logs on its own, is in the record
of its step. What such a file does not show is said in a sentence.

    {"step": 10, "loss": 3.0, "tokens_seen": 640}, {"step": 10, "eval_loss": 3.5}
    {"step": 9, "loss": 3.0, "tokens": 640, "validation_loss": 3.5}
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from curriculum.errors import DataError
from curriculum.printable import shown
from curriculum.stability_line import Record, checked

_KEYS = ("loss", "grad_norm", "learning_rate", "seq_len")
_TOKENS = "tokens_seen"
"""What `curriculum.adapters.transformers` logs; anything else may be called so by others."""
_HIDES_NAN = "Trainer reports another loss in place of NaN unless logging_nan_inf_filter is off"


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """What a trainer_state.json has for a report."""

    records: list[Record]
    not_taken: tuple[str, ...]
    """keys: losses of several evaluation sets, none of which is *the* validation loss"""
    caution: str


def read_history(path: Path) -> History | None:
    """Read it; None where there is no one JSON value, or one with a step: lines of a log.

    Raises:
        DataError: it cannot be read, has no log_history, or nothing in it can be taken.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give the log of a training run.") from None
    try:
        state = json.loads(content)  # which Trainer writes with NaN bare
    except (ValueError, RecursionError):
        return None
    if isinstance(state, dict) and "step" in state and "log_history" not in state:
        return None
    history = state.get("log_history") if isinstance(state, dict) else None
    if not isinstance(history, list):
        raise DataError(f"{path}: there is no log_history in it; give a log, or a trainer_state.json of Trainer.")
    entries = [checked(entry, f"{path}, log_history[{number}]") for number, entry in enumerate(history)]
    validation, not_taken = _validation(entries)
    by_step: dict[int, Record] = {}
    for number, entry in enumerate(entries):
        if "loss" in entry or validation in entry:
            step = max(0, entry["step"] - 1)
            own: Record = {key: entry[key] for key in _KEYS if key in entry}
            if type(entry.get(_TOKENS)) is int:
                own["tokens"] = entry[_TOKENS]
            if validation in entry:
                own |= checked({"step": step, "validation_loss": entry[validation]}, f"{path}, log_history[{number}]")
            by_step.setdefault(step, {"step": step}).update(own)
    if not by_step:
        why = f"{shown(list(not_taken))} are of several evaluation sets" if not_taken else "the run ended before one"
        raise DataError(f"{path}: its log_history has no loss to take; {why}.")
    records = [by_step[step] for step in sorted(by_step)]
    return History(records=records, not_taken=not_taken, caution=_caution(records))


def _validation(entries: Sequence[Record]) -> tuple[str, tuple[str, ...]]:
    """The key of the validation loss, and those of which none can be it: Trainer calls it after its evaluation set."""
    found = dict.fromkeys(
        key for entry in entries for key in entry if key.startswith("eval_") and key.endswith("_loss")
    )
    if "eval_loss" in found or not found:
        return "eval_loss", ()
    first, *others = found
    return ("eval_loss", (first, *others)) if others else (first, ())


def _caution(records: Sequence[Record]) -> str:
    zeros = [record["step"] for record in records if record.get("loss") == 0]
    hidden = f"{_HIDES_NAN}; a loss of 0 is in {len(zeros):,}, first in step {zeros[0]:,}" if zeros else _HIDES_NAN
    steps = [-1, *(record["step"] for record in records if record.get("loss") is not None)]
    most = max((step - before for before, step in pairwise(steps)), default=1)
    if most <= 1:
        return hidden
    return f"{hidden}; a loss here is the mean of up to {most:,} steps, in which a spike drowns (logging_steps)"
