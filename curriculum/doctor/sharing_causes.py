"""Explanations by how rows were shared out: among ranks, micro-batches and steps.

In:  a case.   Out: a `Cause`, or None if the explanation does not apply.
Guarantee: each supposes one mistake, computes where every call would then begin, and applies only if all of them do.

    W = 2, both ranks have rows 0 to 3    same_rows        one rank has rows 0 1, then 4 5 of 8    world_size
"""

from __future__ import annotations

import numpy as np

from curriculum.doctor.case import Case, Cause

_MOST_RANKS = 64
"""Other world sizes that are tried."""
_MOST_PARTS = 16


def beyond_the_end(case: Case) -> Cause | None:
    """The run went on after the plan's last row."""
    if case.misfit.number < len(case.planned):
        return None
    extra = sum(len(calls) - case.misfit.at_call for calls in case.trace.run.calls if len(calls) > case.misfit.at_call)
    return Cause(
        "padding",
        f"{extra} micro-batches came after the last step of the plan, {case.step - 1}. The loader pads or starts over: "
        f"turn off even_batches and endless loading, and stop at {case.planned.plan.total_steps} steps.",
    )


def same_rows(case: Case) -> Cause | None:
    """Every rank has the same."""
    if case.world_size == 1 or case.shortest <= case.misfit.at_call:
        return None
    for i in range(case.window.start, min(case.window.stop, case.shortest)):
        first = case.trace.call(0, i).inputs
        if any(not np.array_equal(first, case.trace.call(r, i).inputs) for r in range(1, case.world_size)):
            return None
    rows, per_step = case.call.shape[0], case.planned.rows_per_step(case.step)
    what = "the whole global batch" if rows == per_step else "the rows of one rank"
    return Cause(
        "same-rows",
        f"All {case.world_size} ranks were given the same rows, {what}, from step {case.step} on. Give each process "
        f"its own rank and the world size: rank=RANK, world_size=WORLD_SIZE of torchrun's environment.",
    )


def other_rank(case: Case) -> Cause | None:
    """Each rank has the rows of one rank, but not all of them their own."""
    if case.world_size == 1 or case.shortest <= case.misfit.at_call:
        return None
    as_rank: list[int] = []
    for rank in range(case.world_size):
        order = [rank, *(other for other in range(case.world_size) if other != rank)]
        numbers = ((other, case.trace.numbers(rank, case.trace.start, other, case.world_size)) for other in order)
        as_rank.append(next((other for other, at in numbers if case.all_fit(rank, at)), -1))
    wrong = [rank for rank, other in enumerate(as_rank) if other != rank]
    if -1 in as_rank or not wrong:
        return None
    return Cause(
        "other-rank",
        f"Rank {wrong[0]} was given the rows of rank {as_rank[wrong[0]]} from step {case.step} on. Ranks of the loader "
        f"and of torch.distributed must be the same; state that belongs to one rank must not be loaded on another.",
        wrong[0],
    )


def world_size(case: Case) -> Cause | None:
    """Each rank has its share of another number of ranks."""
    if case.shortest < 2:
        return None
    for other in range(1, _MOST_RANKS + 1):
        if other == case.world_size or case.call.shape[0] * other > case.planned.rows_per_step(case.step):
            continue
        if all(_fits_as(case, rank, other) for rank in range(case.world_size)):
            return Cause(
                "world-size",
                f"The loader shares each step among {other} ranks, but {case.world_size} trained: the other rows never "
                f"reach a model, or reach it twice. Give it world_size={case.world_size}.",
            )
    return None


def _fits_as(case: Case, rank: int, world_size: int) -> bool:
    ranks = range(world_size) if case.world_size == 1 else [rank] if rank < world_size else []
    return any(case.all_fit(rank, case.trace.numbers(rank, case.trace.start, as_rank, world_size)) for as_rank in ranks)


def micro_batches(case: Case) -> Cause | None:
    """Micro-batches are parts of the plan's, or several of them, or span two steps."""
    for parts in range(2, _MOST_PARTS + 1):
        split = all(_fits_split(case, rank, parts) for rank in range(case.world_size))
        merged = not split and all(_fits_merged(case, rank, parts) for rank in range(case.world_size))
        if split or merged:
            what = f"cut into {parts}" if split else f"made of {parts} of the loader's"
            return Cause(
                "micro-batches",
                f"Each micro-batch that the model was given was {what}, so the plan's rows come in another order than "
                f"accumulation over {case.world_size} ranks has. Let the loader do it: micro_batches= says how many "
                f"there are per step, and the trainer accumulates as many.",
            )
    step_rows = case.planned.rows_per_step(case.step)
    if case.trace.fits(case.call, case.misfit.number) and not case.trace.within_a_step(*case.misfit[:2]):
        return Cause(
            "micro-batches",
            f"{case.name()} holds {case.call.shape[0]} rows for each of {case.world_size} ranks, which is more than "
            f"remain of the {step_rows} rows of the step: optimizer steps are merged. One micro-batch holds "
            f"rows / (world_size * micro_batches) rows of one step.",
        )
    return None


def _fits_split(case: Case, rank: int, parts: int) -> bool:
    calls, rows = case.calls(rank), case.call.shape[0]
    if len(calls) < 2 or any(call.shape[0] != rows for _, call in calls):
        return False
    unit, start = parts * rows, case.trace.start
    places = ((i // parts * case.world_size + rank) * unit + i % parts * rows for i, _ in calls)
    return all(case.trace.fits(call, start + at) for (_, call), at in zip(calls, places, strict=True))


def _fits_merged(case: Case, rank: int, parts: int) -> bool:
    calls, rows = case.calls(rank), case.call.shape[0]
    if rows % parts or any(call.shape[0] != rows for _, call in calls):
        return False
    part = rows // parts
    for i, call in calls:
        for k in range(parts):
            at = case.trace.start + ((i * parts + k) * case.world_size + rank) * part
            found = case.planned.digests(at, part)
            if found is None or not np.array_equal(found, call.inputs[k * part : (k + 1) * part]):
                return False
    return bool(calls)
