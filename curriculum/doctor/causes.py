"""Why the rows of a run are not where the plan has them.

In:  a trace with a misfit.   Out: one `Finding`: the explanation under which the rows that did arrive make sense.
Guarantee: explanations are tried from the most specific to the least, each against the calls of every rank around the
misfit; there always is one.

    rank 0 had steps 0 2 4, rank 1 had steps 1 3 5     dropped     (not: shuffled)
    both ranks had rows 0 to 3 of step 0               same-rows   (not: other-rank)
"""

from __future__ import annotations

from collections.abc import Callable

from curriculum.doctor.case import Case, Cause
from curriculum.doctor.finding import Finding
from curriculum.doctor.order_causes import (
    at_the_end,
    changed_rows,
    dropped,
    recorded_twice,
    shifted,
    shuffled,
    wrong_length,
)
from curriculum.doctor.run_trace import Misfit, Trace
from curriculum.doctor.sharing_causes import beyond_the_end, micro_batches, other_rank, same_rows, world_size


def explain(trace: Trace, misfit: Misfit, run: int) -> Finding:
    """The finding for a run whose rows are wrong from `misfit` on."""
    case = Case(trace, misfit)
    for cause in _CAUSES:
        found = cause(case)
        if found:
            step = min(case.step, trace.planned.plan.total_steps)
            return Finding(kind=found.kind, run=run, step=step, rank=found.rank, message=found.message)
    raise AssertionError("the last explanation always applies")


_CAUSES: tuple[Callable[[Case], Cause | None], ...] = (
    beyond_the_end,
    same_rows,
    other_rank,
    world_size,
    micro_batches,
    wrong_length,
    recorded_twice,
    shifted,
    dropped,
    at_the_end,
    shuffled,
    changed_rows,
)
