"""`curriculum stability`: logs of runs, what they come to, and a picture of them.

In:  paths of logs; thresholds; maybe a path for a picture.   Out: a `StabilityReport`.
Guarantees: a log that lacks measures is reported with those that it has, and names the others; one without any ends in
a sentence that says what it has instead. A picture appears whole or not at all.

    read_run("run/stability.jsonl")             lines of this project, or of a trainer that writes `step` and `loss`
    read_run("out/checkpoint-9/trainer_state.json")        the log_history of a Hugging Face Trainer
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curriculum.errors import BuildError, ConfigError, DataError
from curriculum.printable import one_line, shown
from curriculum.stability import THRESHOLDS, VARIANCES, Summary, summarize
from curriculum.stability_line import Record
from curriculum.stability_records import Records, read_records
from pipeline.publish import Aside
from pipeline.trainer_history import read_history

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
    caution: str | None = None
    """what a trainer_state.json does not show"""


@dataclass(frozen=True, kw_only=True, slots=True)
class StabilityReport:
    """All of them."""

    runs: tuple[Run, ...]
    plot: str | None

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        logs = [
            {
                "log": run.log,
                "num_dropped": run.num_dropped,
                "not_taken": run.not_taken,
                "caution": run.caution,
                **run.summary.to_json(),
            }
            for run in self.runs
        ]
        return {"logs": logs, "plot": self.plot}


def report_stability(
    logs: Sequence[str],
    plot: Path | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    over: str | None = None,
) -> StabilityReport:
    """Read, summarize, draw over "steps" or "tokens", None for what suits the logs.

    Raises:
        ConfigError: a threshold is no ratio, or the picture has no known format, or is not wanted and to be over it.
        DataError: a log cannot be read, is no log, or has no measure of stability.
        BuildError: the picture cannot be written.
    """
    for threshold in thresholds:
        if not (math.isfinite(threshold) and threshold >= 1):
            raise ConfigError(f"--threshold is {threshold:g}; a loss ratio is high from 1 on, so give at least 1.")
    if plot is not None and plot.suffix.lower() not in PICTURES:
        raise ConfigError(f"--plot {plot.name}: a picture is one of {', '.join(PICTURES)}, so end the name like that.")
    if over is not None and plot is None:
        raise ConfigError(f"--over {over} says what a picture goes along; say with --plot where to draw it.")
    runs = tuple(read_run(log, thresholds) for log in logs)
    if plot is not None:
        _draw(plot, runs, over)
    return StabilityReport(runs=runs, plot=None if plot is None else str(plot))


def read_run(log: str, thresholds: Sequence[float] = THRESHOLDS) -> Run:
    """One log.

    Raises:
        DataError: see `report_stability`.
    """
    history = read_history(Path(log)) if Path(log).suffix == ".json" else None
    read = read_records(log) if history is None else Records(records=history.records)
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
        not_taken=() if history is None else history.not_taken,
        caution=None if history is None else history.caution,
    )


def _draw(plot: Path, runs: tuple[Run, ...], over: str | None) -> None:
    try:
        from pipeline.draw_stability import draw_stability
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        raise ConfigError(
            f"--plot needs {package}, which is not installed: pip install 'seqlen-curriculum[report]'."
        ) from error
    content = draw_stability(runs, plot.suffix.lower()[1:], over)
    try:
        with Aside(plot.parent, plot) as file:
            file.write(content)
    except (BuildError, OSError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        why = (cause.strerror if isinstance(cause, OSError) else None) or one_line(error)
        raise BuildError(f"--plot {plot}: cannot be written ({why}); give a place that can be.") from error
