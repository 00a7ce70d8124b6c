"""What `doctor` shows people: text for 80 columns.

In:  a `DoctorReport`.   Out: a string, without the last line break.
Guarantee: one line for each run, then the findings, each with its kind, or the sentence that there are none.

    run 1    steps 0 to 5, 2 ranks, 12 micro-batches of lengths 8 to 24
    ok       every row reached the model in the plan's order, with the plan's labels
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from curriculum.doctor.check import DoctorReport
from curriculum.doctor.finding import RunSummary

COLUMNS = 80
_LABEL_COLUMNS = 9
_LOSSES = {
    "plain": "equals cross-entropy of logits and labels",
    "shifted": "is that of labels shifted a second time",
    "other": "neither cross-entropy nor that of shifted labels: another loss, or not the mean of a micro-batch",
    "undecided": "too coarse, or the model too new, to tell cross-entropy from that of shifted labels: record a "
    "float32 loss, or later steps",
    "not recorded": "not recorded, so labels that the model shifts again would not be seen; "
    "give record(batch, logits=, loss=)",
}


def doctor_report(report: DoctorReport) -> str:
    """Runs and findings."""
    lines = [*_fact("dataset", report.dataset)]
    if report.trainer:
        lines += _fact("trainer", f"{report.trainer}: trained, stopped, resumed on the CPU")
    for number, run in enumerate(report.runs, 1):
        lines += _fact(f"run {number}", _run(run))
    for verdict in sorted({run.loss for run in report.runs}):
        lines += _fact("loss", _LOSSES[verdict])
    for finding in report.findings:
        where = "" if finding.step is None else f", step {finding.step}"
        lines += _fact("found", f"{finding.kind} (run {finding.run + 1}{where}). {finding.message}")
    if report.ok:
        lines += _fact("ok", "every row reached the model in the plan's order, with the plan's labels")
    return "\n".join(lines)


def _run(run: RunSummary) -> str:
    first, row = run.start
    stop, stop_row = run.stop
    last = stop if stop_row else stop - 1
    steps = f"steps {first} to {last}" if last > first else f"step {first}"
    inside = [f"begins at row {row} of step {first}"] if row else []
    inside += [f"ends before row {stop_row} of step {stop}"] if stop_row else []
    ranks = "1 rank" if run.world_size == 1 else f"{run.world_size} ranks"
    facts = [steps, *inside, ranks, f"{run.num_calls:,} micro-batches", *_shapes(run)]
    return ", ".join(facts)


def _shapes(run: RunSummary) -> Iterator[str]:
    lengths = [seq_len for seq_len, _ in run.micro_batches]
    counts = sorted({count for _, count in run.micro_batches})
    if lengths:
        few, many = min(lengths), max(lengths)
        yield f"length {few}" if few == many else f"lengths {few} to {many}"
    if counts not in ([], [1]):
        yield f"{counts[0]} per step" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} per step"


def _fact(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        COLUMNS,
        initial_indent=label.ljust(_LABEL_COLUMNS),
        subsequent_indent=" " * _LABEL_COLUMNS,
        break_long_words=False,
        break_on_hyphens=False,
    )
