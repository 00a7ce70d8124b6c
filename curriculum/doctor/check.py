"""Compare a run, or a run and its resumes, with the plan.

In:  a reader, logs in the order in which they were recorded, and where runs should begin and end if that is known.
Out: `DoctorReport`: what each run covered, and findings; no findings means that all is well.
Guarantee: every (step, micro-batch, rank) is compared; the first run begins at step 0 unless told otherwise, each next
one at most where the one before had ended, at a place that was reached. Steps after a
checkpoint may be trained on again.

    check_runs(curriculum.open("my-dataset"), [load_run(Path("log/1")), load_run(Path("log/2"))]).ok     True
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from curriculum.doctor.causes import explain
from curriculum.doctor.finding import Finding, RunSummary
from curriculum.doctor.labels import label_findings, loss_findings, loss_verdict
from curriculum.doctor.planned_rows import PlannedRows
from curriculum.doctor.run_log import RunLog
from curriculum.doctor.run_trace import Trace
from curriculum.errors import ConfigError
from curriculum.reader import Reader


@dataclass(frozen=True, kw_only=True, slots=True)
class DoctorReport:
    """What the doctor found."""

    dataset: str
    trainer: str | None
    """name of the trainer that `doctor` started; None for logs of the user's own"""
    runs: tuple[RunSummary, ...]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Nothing was found."""
        return not self.findings

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "dataset": self.dataset,
            "trainer": self.trainer,
            "ok": self.ok,
            "runs": [run.to_json() for run in self.runs],
            "findings": [finding.to_json() for finding in self.findings],
        }


def check_runs(
    reader: Reader,
    runs: Sequence[RunLog],
    *,
    start_step: int = 0,
    resumed_at: Sequence[int] | None = None,
    stop_steps: Sequence[int] | None = None,
    trainer: str | None = None,
) -> DoctorReport:
    """Compare logs with a dataset.

    Args:
        reader: the dataset that the runs were started on.
        runs: the logs, in the order in which they were recorded.
        start_step: where the first run begins.
        resumed_at: step of the checkpoint that each run after the first loaded; None: any place that was reached.
        stop_steps: step before which each run should end; None: anywhere.
        trainer: name, for the report.

    Raises:
        ConfigError: a step is not one of the dataset, or there are more or fewer of them than runs.
    """
    _require_steps(reader, len(runs), start_step, resumed_at, stop_steps)
    planned = PlannedRows(reader)
    findings: list[Finding] = []
    summaries: list[RunSummary] = []
    traces: list[Trace] = []
    for index, run in enumerate(runs):
        start, at_start = planned.number(start_step), None
        if traces:
            wanted = planned.number(resumed_at[index - 1]) if resumed_at else None
            start, at_start = _resume(planned, run, traces, wanted, index)
        trace = Trace(planned, run, start)
        traces.append(trace)
        findings += [at_start] if at_start else []
        stop = planned.number(stop_steps[index]) if stop_steps else None
        findings += _run_findings(trace, index, stop=stop, is_last=index + 1 == len(runs))
        summaries.append(_summary(trace))
    return DoctorReport(dataset=reader.where, trainer=trainer, runs=tuple(summaries), findings=tuple(findings))


def _require_steps(
    reader: Reader, num_runs: int, start_step: int, resumed_at: Sequence[int] | None, stop_steps: Sequence[int] | None
) -> None:
    for name, steps, count in (("resumed_at", resumed_at, num_runs - 1), ("stop_steps", stop_steps, num_runs)):
        if steps is not None and len(steps) != count:
            raise ConfigError(f"{name} has {len(steps)} steps for {num_runs} runs; give {count}.")
    for step in (start_step, *(resumed_at or ()), *(stop_steps or ())):
        if not 0 <= step <= len(reader):
            raise ConfigError(f"step {step} is outside {reader.where}, which has {len(reader)} steps.")


def _resume(
    planned: PlannedRows, run: RunLog, earlier: Sequence[Trace], wanted: int | None, index: int
) -> tuple[int, Finding | None]:
    """Row number at which a resumed run began, and what is wrong with it."""
    proper = min(earlier[-1].stops()) if wanted is None else wanted
    furthest = max(min(trace.stops()) for trace in earlier) if wanted is None else wanted
    found = _begins_at(planned, run, proper)
    if found is None or found == proper:
        return proper, None
    if found == earlier[0].start and found < proper:
        return found, _finding("restart", index, planned, found, proper)
    if found > furthest:
        return found, _finding("skipped-at-resume", index, planned, found, proper)
    if wanted is not None:
        return found, _finding("repeated-at-resume", index, planned, found, proper)
    if planned.place(found)[1] and not any(found in trace.borders() for trace in earlier):
        return found, _finding("resume-place", index, planned, found, proper)
    return found, None


def _begins_at(planned: PlannedRows, run: RunLog, near: int) -> int | None:
    """Where the first micro-batch of all ranks is, if together they are consecutive rows of the plan."""
    if run.missing_ranks:
        return None
    rows = run.calls[0][0].shape[0]
    trace = Trace(planned, run, near)

    def fits(found: int) -> bool:
        return all(trace.fits(calls[0], found + rank * rows) for rank, calls in enumerate(run.calls))

    if fits(near):
        return near  # found without a search
    found = planned.find(run.calls[0][0].inputs, near)
    return found if found is not None and fits(found) else None


def _finding(kind: str, index: int, planned: PlannedRows, found: int, proper: int) -> Finding:
    (step, row), (wanted, wanted_row) = planned.place(found), planned.place(proper)
    at, should = (f"step {s}" if r == 0 else f"step {s}, row {r}" for s, r in ((step, row), (wanted, wanted_row)))
    what = {
        "restart": f"began again at {at} although the run before had come to {should}: the state of the data was not "
        f"saved, or not loaded. Save the cursor with the model and load it before the first batch is asked for.",
        "skipped-at-resume": f"began at {at}, the run before had come to {should}: {found - proper} rows never reached "
        f"the model. Save the cursor of the last batch that was trained on, not of the last one that was fetched.",
        "repeated-at-resume": f"began at {at}, the checkpoint was saved at {should}: {proper - found} rows were "
        f"trained on twice. Save the cursor after the batch, together with the model.",
        "resume-place": f"began at {at}, which is inside a micro-batch of the run before. Resume at a step border, or "
        f"with the world size and micro-batches that saved the state.",
    }[kind]
    return Finding(kind=kind, run=index, step=step, rank=None, message=f"Run {index + 1} {what}")


def _run_findings(trace: Trace, index: int, *, stop: int | None, is_last: bool) -> Iterator[Finding]:
    missing = trace.run.missing_ranks
    if missing:
        yield Finding(
            kind="missing-rank",
            run=index,
            step=None,
            rank=missing[0],
            message=f"{trace.run.where}: rank {missing[0]} of {trace.world_size} recorded no batch. Call "
            f"curriculum.doctor.record on every rank, into one folder that all of them can write.",
        )
        return
    if trace.misfit:
        yield explain(trace, trace.misfit, index)
    yield from label_findings(trace, index)
    yield from loss_findings(trace.run, index)
    if not trace.misfit:
        yield from _end_findings(trace, index, stop=stop, is_last=is_last)


def _end_findings(trace: Trace, index: int, *, stop: int | None, is_last: bool) -> Iterator[Finding]:
    stops, planned = trace.stops(), trace.planned
    low, high = min(stops), max(stops)
    # A run that was killed may have lost the last line of some ranks.
    killed = (
        not is_last
        and stop is None
        and all(high - end <= trace.call(0, -1).shape[0] * trace.world_size for end in stops)
    )
    if low != high and not killed:
        rank = stops.index(low)
        yield Finding(
            kind="uneven-ranks",
            run=index,
            step=planned.place(low)[0],
            rank=rank,
            message=f"Rank {rank} ended before step {planned.place(low)[0]}, row {planned.place(low)[1]}, rank "
            f"{stops.index(high)} came to step {planned.place(high)[0]}, row {planned.place(high)[1]}: the ranks were "
            f"given different numbers of batches (unless the run was killed there). Give all of them the same plan.",
        )
    if stop is not None and low != stop:
        kind, what = ("ended-early", "ended before") if low < stop else ("ran-on", "went on to")
        step, row = planned.place(low)
        yield Finding(
            kind=kind,
            run=index,
            step=step,
            rank=None,
            message=f"Run {index + 1} {what} step {step}, row {row}, and should have stopped before step "
            f"{planned.place(stop)[0]}: the trainer counts steps, epochs or batches in another way than the plan.",
        )


def _summary(trace: Trace) -> RunSummary:
    return RunSummary(
        log=trace.run.where,
        world_size=trace.world_size,
        num_calls=sum(map(len, trace.run.calls)),
        start=trace.planned.place(trace.start),
        stop=trace.planned.place(min(trace.stops())),
        micro_batches=trace.micro_batches(),
        loss=loss_verdict(trace.run),
    )
