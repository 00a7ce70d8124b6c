"""What `tune` shows people: every probe, the answer, what it cost. Text for 80 columns.

In:  a `TuneResult`.   Out: a string, without the last line break.

        start   warmup    steps  worst  verdict
    1       8      300       30   1.32  fluctuates at the very beginning, at step 29
    2      16      300      300   1.08  steady
"""

from __future__ import annotations

import shlex
import textwrap
from datetime import timedelta
from math import isfinite

from curriculum.printable import printable_text
from pipeline.counted import counted
from pipeline.tuning.result import JudgedProbe, TuneResult

COLUMNS = 80


def tune_report(result: TuneResult) -> str:
    """The table and the answer."""
    lines = ["    start   warmup    steps  worst  verdict"]
    lines += [_row(number, probe) for number, probe in enumerate(result.probes, start=1)]
    if result.other_probes:
        lines += ["Trained for other bounds, and of no use for these:"]
        lines += [_row(number, probe) for number, probe in enumerate(result.other_probes, start=len(result.probes) + 1)]
    lines += [
        "",
        *(line for text in (result.sentence(), result.steady_with(), _cost(result)) for line in _wrapped(text)),
    ]
    if result.config is not None:
        config = printable_text(shlex.quote(str(result.config)))
        lines.append(f"Build it: curriculum build --config {config} --out DATASET")
    if result.plot is not None:
        lines.append(f"Picture: {printable_text(str(result.plot))}")
    return "\n".join([*lines, *(line for note in result.notes for line in _wrapped(f"Note: {note}"))])


def _row(number: int, probe: JudgedProbe) -> str:
    candidate, judgement = probe.candidate, probe.judgement
    ratio = f"{judgement.ratio:6.2f}" if isfinite(judgement.ratio) else "     -"
    where = "" if judgement.step is None else f", at step {judgement.step:,}"
    where += "" if isfinite(judgement.ratio) else ": it diverged"
    return (
        f"{number:<3} {candidate.start_length:>5} {candidate.length_warmup_steps:>8,} {probe.run.num_steps:>8,} "
        f"{ratio}  {judgement.verdict.value}{where}"
    )


def _cost(result: TuneResult) -> str:
    return (
        f"{counted(len(result.probes) + len(result.other_probes), 'probe')} trained "
        f"{counted(result.probe_tokens, 'token')}, {result.cost_share:.2%} of the full training's "
        f"{result.full_plan.total_tokens:,}, in {timedelta(seconds=round(result.seconds))}."
    )


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, COLUMNS, break_long_words=False, break_on_hyphens=False)
