"""Logs of runs that never ran: what each rank's model would have been given, as lists that a test can spoil.

In:  a reader and which micro-batches.   Out: for every rank a list of examples; from those, `RunLog`s.
Guarantee: lines are described and parsed by the code that records and reads real ones; only files are left out.

    log_of(ranks_of(reader, world_size=2, stop=3))      what two correct processes record in steps 0 to 2
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from curriculum.cursor import Cursor
from curriculum.doctor.check import DoctorReport, check_runs
from curriculum.doctor.recorder import describe
from curriculum.doctor.run_log import RunLog, parse_call
from curriculum.reader import Reader

Example = dict[str, Any]
Ranks = list[list[Example]]


def ranks_of(
    reader: Reader,
    *,
    world_size: int = 2,
    start: int | Cursor = 0,
    stop: int | Cursor = 8,
    micro_batches: int | None = None,
    micro_tokens: int | None = None,
) -> Ranks:
    """For every rank the micro-batches of the steps from `start` up to `stop`."""
    stop = Cursor(reader.id, stop) if isinstance(stop, int) else stop
    ranks: Ranks = []
    for rank in range(world_size):
        batches = reader.steps(start, rank, world_size, micro_batches, micro_tokens=micro_tokens)
        ranks.append([])
        for batch in batches:
            if (batch.cursor.step, batch.cursor.row) > (stop.step, stop.row):
                break
            ranks[-1].append({"input_ids": batch.inputs.astype("int64"), "labels": batch.labels})
    return ranks


def log_of(ranks: Ranks) -> RunLog:
    """What the doctor reads of them; `logits` and `loss` of an example are given to `record` beside it."""
    calls = []
    for rank, examples in enumerate(ranks):
        of_rank = []
        for number, example in enumerate(examples):
            beside = {name: example[name] for name in ("logits", "loss") if name in example}
            line = describe({name: x for name, x in example.items() if name not in beside}, **beside)
            line |= {"version": 1, "call": number, "rank": rank, "world_size": len(ranks)}
            of_rank.append(parse_call(line, number))
        calls.append(tuple(of_rank))
    return RunLog(where="a log", world_size=len(ranks), calls=tuple(calls))


def check(reader: Reader, *runs: Ranks, **options: Any) -> DoctorReport:
    """Compare runs with the plan."""
    return check_runs(reader, [log_of(ranks) for ranks in runs], **options)


def kinds(report: DoctorReport) -> list[str]:
    """Kinds of the findings, in order."""
    return [finding.kind for finding in report.findings]


def changed(ranks: Ranks, *, keys: Sequence[str], by: Any) -> Ranks:
    """The same run with some arrays of every example replaced by `by(array)`."""
    return [[{**x, **{key: by(x[key]) for key in keys}} for x in examples] for examples in ranks]
