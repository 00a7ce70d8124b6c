"""The tables of docs/evidence.md: every measure of every arm, with its spread over the seeds.

In:  runs and the folder that holds their logs.   Out: one object; the same as Markdown.
Guarantee: only finished runs count, each where the baseline of its seed is finished; a table says how many there are.
A mean of fewer, as of those that did not diverge, says of how many; "-" is what cannot be said of any.

    |                             | constant             | truncation           |
    | final validation loss, nats | 3.50 (3.40, 3.60)    | 2.50                 |    mean (lowest, highest seed)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from evidence_matrix import ARMS, Run
from evidence_measures import THRESHOLDS, Records, measures

KINDS = ("peak", "mean")
SHORT = (
    "optimizer steps",
    "final validation loss, nats",
    "lower than the baseline of the same seed by",
    "diverged",
    "steps with loss ratio > 1.2",
    "largest loss ratio",
    "largest gradient norm",
    "M tokens to the baseline's final loss",
    "CPU seconds",
    "wall seconds to the baseline's final loss",
)
Number = Callable[[dict[str, Any]], float | None]


def results(matrix: list[Run], folder: Path, say: Callable[[str], None] = lambda message: None) -> dict[str, Any]:
    """{setting: {arm: [measures of a seed, ...]}} of the finished runs; `say` is told which have no baseline yet."""
    found: dict[str, Any] = {}
    logs = read_logs(matrix, folder)
    for setting in dict.fromkeys(run.setting.name for run in logs):
        own = {run: records for run, records in logs.items() if run.setting.name == setting}
        baselines = {run.seed: records for run, records in own.items() if run.arm == "constant"}
        full = max(record["seq_len"] for records in own.values() for record in records)
        late = max(growth_tokens(records, full) for records in own.values())
        arms: dict[str, list[dict[str, Any]]] = {arm: [] for arm in ARMS}
        for run, records in own.items():
            if run.seed not in baselines:
                say(f"{run.name} is left out: the baseline of its seed is not finished.")
            else:
                cost = json.loads((folder / "runs" / run.name / "cost.json").read_bytes())["cpu_seconds"]
                found_here = measures(records, baselines[run.seed], late)
                arms[run.arm].append({"seed": run.seed, **found_here, "cpu_seconds": cost})
        if baselines:
            found[setting] = {"late": late, "arms": {arm: of_seeds for arm, of_seeds in arms.items() if of_seeds}}
    return found


def read_logs(matrix: list[Run], folder: Path) -> dict[Run, Records]:
    """The records of each finished run."""
    from curriculum.stability_log import read_log

    finished = [run for run in matrix if (folder / "runs" / run.name / "cost.json").exists()]
    return {run: read_log(folder / "runs" / run.name / "stability.jsonl") for run in finished}


def growth_tokens(records: Records, full: int) -> int:
    """Tokens trained before the rows had full length, which one that diverges may never have."""
    return max((record["tokens"] for record in records if record["seq_len"] < full), default=0)


def markdown(found: dict[str, Any]) -> str:
    """A short table for each setting, then one with all measures."""
    settings = [(setting, each["arms"], each["late"]) for setting, each in found.items()]
    tables = [table(*each, only=SHORT) for each in settings] + [table(*each) for each in settings]
    return "\n\n".join(tables)


def table(setting: str, arms: dict[str, list[dict[str, Any]]], late: int, only: Sequence[str] = ()) -> str:
    """Measures down, arms across."""
    runs = ", ".join(f"{arm} {len(of_seeds)}" for arm, of_seeds in arms.items())
    lines = [f"Setting `{setting}`; runs: {runs}.", "", f"| | {' | '.join(arms)} |", "| --- |" + " ---: |" * len(arms)]
    for name, number, form in rows(late):
        if only and name not in only:
            continue
        cells = [cell(of_seeds, number, form) for of_seeds in arms.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def rows(late: int) -> list[tuple[str, Number, str]]:
    """Name, value and format of each row."""

    def of(key: str, *inner: str) -> Number:
        return lambda run: run[key][inner[0]] if inner else run[key]

    def scaled(key: str, factor: float) -> Number:
        return lambda run: None if run[key] is None else run[key] * factor

    return [
        ("optimizer steps", of("steps"), ".0f"),
        ("trained tokens, M", scaled("tokens", 1e-6), ".3f"),
        ("final validation loss, nats", of("final"), ".3f"),
        ("lower than the baseline of the same seed by", of("gain"), "+.3f"),
        ("diverged", of("diverged"), "count"),
        *((f"steps with loss ratio > {limit}", of("above", str(limit)), ".1f") for limit in THRESHOLDS),
        *(
            (f"the same after {late / 1e6:.2f} M tokens, > {limit}", of("above_late", str(limit)), ".1f")
            for limit in THRESHOLDS
        ),
        ("largest loss ratio", of("ratio_max"), ".2f"),
        ("largest gradient norm", of("grad_norm_max"), ".3g"),
        *((f"Adam variance max x 1000, {kind}", scaled(f"variance_max_{kind}", 1000), ".3f") for kind in KINDS),
        *((f"its square root, {kind}", of(f"variance_sqrt_max_{kind}"), ".3f") for kind in KINDS),
        *((f"square root of the variance, norm (L1), {kind}", of(f"variance_sqrt_l1_{kind}"), ".0f") for kind in KINDS),
        *(
            (f"Adam variance norm (L1), at most 1 by clipping, {kind}", of(f"variance_l1_{kind}"), ".3f")
            for kind in KINDS
        ),
        ("correlation of loss ratio and variance max", of("correlation_variance_max"), ".2f"),
        ("correlation of loss ratio and norm of the square root", of("correlation_variance_sqrt_l1"), ".2f"),
        ("M tokens to the baseline's final loss", scaled("target_tokens", 1e-6), "reached.2f"),
        ("CPU seconds", of("cpu_seconds"), ".0f"),
        ("wall seconds", of("seconds"), ".0f"),
        ("wall seconds to the baseline's final loss", of("target_seconds"), "reached.0f"),
    ]


def cell(runs: list[dict[str, Any]], number: Number, form: str) -> str:
    """What the runs of an arm have; after "reached" only those count whose baseline has a final loss to reach."""
    if not form.startswith("reached"):
        return spread([number(run) for run in runs], form)
    comparable = [number(run) for run in runs if not run["baseline_diverged"]]
    apart = len(runs) - len(comparable)
    return spread(comparable, form) + (f", {apart} baseline{'s' * (apart > 1)} diverged" if apart else "")


def spread(values: list[float | None], form: str) -> str:
    """Mean, lowest and highest of the runs that have the value; how many these are, if not all or after "reached"."""
    if form == "count":
        return f"{sum(map(bool, values))} of {len(values)}"
    known = [value for value in values if value is not None]
    is_reached = form.startswith("reached")
    note = f", {len(known)} of {len(values)}" if is_reached or len(known) < len(values) else ""
    form = form.removeprefix("reached")
    if not known:
        return f"0 of {len(values)}" if values and is_reached else "-"
    if min(known) == max(known):
        return f"{known[0]:{form}}{note}"
    return f"{fmean(known):{form}} ({min(known):{form}}, {max(known):{form}}){note}"
