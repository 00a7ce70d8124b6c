"""`curriculum stability`: logs of runs, what they come to, and a picture of them.

In:  paths of logs; thresholds; maybe a path for a picture.   Out: a `StabilityReport`.
Guarantees: a log that lacks measures is reported with those that it has, and names the others; one without any ends in
a sentence that says what it has instead. A picture appears whole or not at all.

    read_run("run/stability.jsonl")             lines of this project, or of a trainer that writes `step` and `loss`
    read_run("out/checkpoint-9/trainer_state.json")        the log_history of a Hugging Face Trainer
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curriculum.errors import BuildError, ConfigError, DataError
from curriculum.printable import one_line, shown
from curriculum.stability import THRESHOLDS, VARIANCES, Summary, summarize
from curriculum.stability_line import Record, checked
from curriculum.stability_records import Records, read_records
from pipeline.publish import Aside

USED = ("loss", "loss_ratio", "grad_norm", *VARIANCES, "validation_loss")
"""Keys of which one at least is needed."""
PICTURES = (".svg", ".png")


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One log, read."""

    log: str
    records: list[Record]
    summary: Summary
    num_dropped: int = 0
    """records that count no more: the log went back, as of a run that resumed, or of two runs in one file"""
    not_taken: tuple[str, ...] = ()
    """keys of a trainer_state.json: losses of several evaluation sets, none of which is *the* validation loss"""


@dataclass(frozen=True, kw_only=True, slots=True)
class StabilityReport:
    """All of them."""

    runs: tuple[Run, ...]
    plot: str | None

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        logs = [
            {"log": run.log, "num_dropped": run.num_dropped, "not_taken": run.not_taken, **run.summary.to_json()}
            for run in self.runs
        ]
        return {"logs": logs, "plot": self.plot}


def report_stability(
    logs: Sequence[str], plot: Path | None = None, thresholds: Sequence[float] = THRESHOLDS
) -> StabilityReport:
    """Read, summarize, draw.

    Raises:
        ConfigError: a threshold is no ratio, or the picture has no known format.
        DataError: a log cannot be read, is no log, or has no measure of stability.
        BuildError: the picture cannot be written.
    """
    for threshold in thresholds:
        if not (math.isfinite(threshold) and threshold >= 1):
            raise ConfigError(f"--threshold is {threshold:g}; a loss ratio is high from 1 on, so give at least 1.")
    if plot is not None and plot.suffix.lower() not in PICTURES:
        raise ConfigError(f"--plot {plot.name}: a picture is one of {', '.join(PICTURES)}, so end the name like that.")
    runs = tuple(read_run(log, thresholds) for log in logs)
    if plot is not None:
        _draw(plot, runs)
    return StabilityReport(runs=runs, plot=None if plot is None else str(plot))


def read_run(log: str, thresholds: Sequence[float] = THRESHOLDS) -> Run:
    """One log.

    Raises:
        DataError: see `report_stability`.
    """
    read, not_taken = _history(Path(log)) if Path(log).suffix == ".json" else (read_records(log), ())
    records = read.records
    if not any(record.get(key) is not None for record in records for key in USED):
        keys = list(dict.fromkeys(key for record in records for key in record))
        raise DataError(
            f"{log}: no line has one of {', '.join(USED)}; found {shown(keys)}. curriculum.stability_log says what a "
            f"log holds."
        )
    return Run(
        log=log,
        records=records,
        summary=summarize(records, thresholds),
        num_dropped=read.num_dropped,
        not_taken=not_taken,
    )


def _history(path: Path) -> tuple[Records, tuple[str, ...]]:
    """Of a trainer_state.json, and `Run.not_taken`: Trainer counts steps from 1, and logs an evaluation on its own.

    What is no one JSON value, or has a step, is lines after all.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give the log of a training run.") from None
    try:
        state = json.loads(content)  # which writes NaN bare
    except (ValueError, RecursionError):
        return read_records(path), ()
    if isinstance(state, dict) and "step" in state and "log_history" not in state:
        return read_records(path), ()
    history = state.get("log_history") if isinstance(state, dict) else None
    if not isinstance(history, list):
        raise DataError(f"{path}: there is no log_history in it; give a log, or a trainer_state.json of Trainer.")
    entries = [checked(entry, f"{path}, log_history[{number}]") for number, entry in enumerate(history)]
    validation, not_taken = _validation(entries)
    by_step: dict[int, Record] = {}
    for number, record in enumerate(entries):
        if "loss" in record or validation in record:
            step = max(0, record["step"] - 1)
            own: Record = {
                key: record[key] for key in ("loss", "grad_norm", "learning_rate", "seq_len") if key in record
            }
            if validation in record:
                own |= checked({"step": step, "validation_loss": record[validation]}, f"{path}, log_history[{number}]")
            by_step.setdefault(step, {"step": step}).update(own)
    if not by_step:
        why = f"{shown(list(not_taken))} are of several evaluation sets" if not_taken else "the run ended before one"
        raise DataError(f"{path}: its log_history has no loss to take; {why}.")
    return Records(records=[by_step[step] for step in sorted(by_step)]), not_taken


def _validation(entries: Sequence[Record]) -> tuple[str, tuple[str, ...]]:
    """The key of the validation loss, and those of which none can be it: Trainer calls it after its evaluation set."""
    found = dict.fromkeys(
        key for entry in entries for key in entry if key.startswith("eval_") and key.endswith("_loss")
    )
    if "eval_loss" in found or not found:
        return "eval_loss", ()
    first, *others = found
    return ("eval_loss", (first, *others)) if others else (first, ())


def _draw(plot: Path, runs: tuple[Run, ...]) -> None:
    try:
        from pipeline.draw_stability import draw_stability
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        raise ConfigError(
            f"--plot needs {package}, which is not installed: pip install 'seqlen-curriculum[report]'."
        ) from error
    content = draw_stability(runs, plot.suffix.lower()[1:])
    try:
        with Aside(plot.parent, plot) as file:
            file.write(content)
    except (BuildError, OSError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        why = (cause.strerror if isinstance(cause, OSError) else None) or one_line(error)
        raise BuildError(f"--plot {plot}: cannot be written ({why}); give a place that can be.") from error
