"""The log of a training run's stability: JSON lines, one object per optimizer step.

In:  values of a step, by name.   Out: a line; and from a file, the lines again.
Guarantees: a line is written whole or, by a run that was killed in it, not read; a run that resumes appends, and where
it trains steps again their first lines go, so the log reads as if the run had never stopped. Strict JSON: what is not
finite is written as "NaN", "Infinity", "-Infinity". Standard library only.

    log = StabilityLog("run/stability.jsonl")
    log.write(0, seq_len=8, loss=4.0)      {"step": 0, "seq_len": 8, "loss": 4.0, "loss_ratio": null, "seconds": 0.1}
    log.write(1, seq_len=8, loss=5.0)      {"step": 1, "seq_len": 8, "loss": 5.0, "loss_ratio": 1.25, "seconds": 0.2}

Keys that this project writes, all of them optional but `step`:

    step              optimizer step, from 0
    seq_len           inputs per row
    tokens            targets trained so far, this step included
    loss              mean over the step's targets, nats
    loss_ratio        loss / lowest loss of the steps before; null in the first
    grad_norm         L2 norm of the gradients, before clipping
    learning_rate     of this step
    variance_l1       L1 norm of Adam's second moment over all parameters, after the step
    variance_max      its largest element
    variance_sqrt_l1, variance_sqrt_max      the same of its square root
    validation_loss   mean over held-out targets at full length, nats, after the step; only in steps that validate
    seconds           since the run began, without the time between a stop and a resume
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import IO, Any

from curriculum.errors import DataError
from curriculum.printable import one_line, shown
from curriculum.stability import LossRatio

Record = dict[str, Any]
"""One line: `step` is an int, other numbers are floats (or ints), None where there is no value."""
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class StabilityLog:
    """Appends lines to a file, on one process of a run."""

    def __init__(self, path: str | os.PathLike[str], *, start_step: int = 0) -> None:
        """Open the file, or begin it.

        Args:
            path: the file; folders above it are made.
            start_step: the step that is written next; lines from there on, of a run that went on after its checkpoint,
                are removed.

        Raises:
            DataError: what is there is no such log.
        """
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = _lines_before(start_step, self.path) if self.path.exists() else []
        self._ratio = LossRatio()
        for _, record in kept:
            self._ratio.of(record.get("loss"))
        seconds = kept[-1][1].get("seconds", 0.0) if kept else 0.0
        self._began = monotonic() - seconds
        self._file: IO[bytes] = _file_of(self.path, b"".join(line for line, _ in kept))

    def write(self, step: int, **values: float | None) -> Record:
        """Append the line of a step; `loss_ratio` and `seconds` are added."""
        record: Record = {"step": step, **values}
        if "loss" in values:
            record["loss_ratio"] = self._ratio.of(values["loss"])
        record["seconds"] = round(monotonic() - self._began, 3)
        line = json.dumps({key: _strict(value) for key, value in record.items()}, allow_nan=False)
        self._file.write(line.encode() + b"\n")
        return record

    def close(self) -> None:
        """Close the file; every line is in it already."""
        self._file.close()


def _lines_before(step: int, path: Path) -> list[tuple[bytes, Record]]:
    """The whole lines of earlier steps, as they are, with what they say."""
    lines = path.read_bytes().split(b"\n")[:-1]
    parsed = [(line + b"\n", parse_record(line, f"{path}, line {number}")) for number, line in enumerate(lines, 1)]
    return [(line, record) for line, record in parsed if record["step"] < step]


def _file_of(path: Path, content: bytes) -> IO[bytes]:
    """The file open for appending, after it holds just these bytes; a line is one write, and in the file at once."""
    if not path.exists() or path.read_bytes() != content:
        aside = path.with_name(f"{path.name}.new")
        aside.write_bytes(content)
        aside.replace(path)
    return open(path, "ab", buffering=0)


def read_log(path: str | os.PathLike[str]) -> list[Record]:
    """The records of a log in the order of their steps, each step once.

    Raises:
        DataError: there is no such file, a line is no JSON object with an integer `step`, or there is no line at all.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give the log of a training run.") from None
    records = list(parse_records(content, str(path)))
    if not records:
        raise DataError(f"{path}: no whole line is in it; the run ended before its first step.")
    return records


def parse_records(content: bytes, where: str) -> Iterator[Record]:
    """The records in the bytes of a log, as `read_log`; a last line without its end is left out.

    Raises:
        DataError: a line is no JSON object with an integer `step`.
    """
    by_step: dict[int, Record] = {}
    for number, line in enumerate(content.split(b"\n")[:-1], 1):
        if line.strip():
            record = parse_record(line, f"{where}, line {number}")
            by_step[record["step"]] = record
    return (by_step[step] for step in sorted(by_step))


def parse_record(line: bytes, where: str) -> Record:
    """The record of one whole line.

    Raises:
        DataError: it is no JSON object with an integer `step`.
    """
    try:
        record = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{where}: not JSON ({one_line(error)}); a log holds one JSON object per optimizer step."
        ) from None
    if not isinstance(record, dict):
        raise DataError(f"{where}: {shown(record)} found; a log holds one JSON object per optimizer step.")
    step = record.get("step")
    if type(step) is not int or step < 0:
        raise DataError(f"{where}: step is {shown(step)}, expected an integer of at least 0.")
    return {key: _NOT_FINITE.get(value, value) if isinstance(value, str) else value for key, value in record.items()}


def _strict(value: float | None) -> float | str | None:
    if value is None or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
