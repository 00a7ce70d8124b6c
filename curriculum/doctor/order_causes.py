"""Explanations by the order, the length and the content of the rows that arrived.

In:  a case.   Out: a `Cause`, or None if the explanation does not apply; the last always does.
Guarantee: rows are searched by digest, so an explanation names the place in the plan where they belong.

    a rank had steps 0 2 4     dropped          steps 0 1 3 4     shifted          steps 0 3 1 4     shuffled
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from curriculum.doctor.case import Case, Cause
from curriculum.doctor.digests import row_digests


def wrong_length(case: Case) -> Cause | None:
    """Rows that are nowhere in the dataset, and not as long as the plan's."""
    rows, length = case.call.shape
    seq_len = case.planned.seq_len(case.step)
    if length == seq_len or case.found is not None:
        return None
    inputs = case.planned.batch(case.step).inputs[case.row : case.row + rows]
    first_tokens = inputs[:1, : len(case.call.first_tokens)].ravel().tolist()
    if length < seq_len and np.array_equal(row_digests(inputs[:, :length]), case.call.inputs):
        what = f"The rows are the plan's, truncated from {seq_len} inputs to {length}: tokens are lost"
    elif first_tokens == list(case.call.first_tokens):
        what = f"The rows begin as the plan's do, but have {length} inputs instead of {seq_len}: padded or joined"
    elif any(case.where(call, case.misfit.number) is not None for call in case.all_calls()):
        what = f"The rows have {length} inputs where the plan has {seq_len}"
    else:
        return None  # another dataset, more likely
    return Cause(
        "wrong-length",
        f"{what}, first at {case.name()}. Give the model the batch as it comes from the loader: no truncation, padding "
        f"or length warmup of the trainer's own (record it before rows are laid end to end).",
    )


def recorded_twice(case: Case) -> Cause | None:
    """Call i holds the rows of call i // times, from the first call on, on every rank."""
    for times in (2, 3, 4):
        if all(case.all_fit(rank, np.repeat(case.trace.expected[rank], times)) for rank in range(case.world_size)):
            return Cause(
                "recorded-twice",
                f"Every micro-batch came {times} times in a row. Either curriculum.doctor.record is called so often "
                f"for each (a hook and the loop, or a recomputed forward pass): call it once; or the loop trains "
                f"{times} times on each batch.",
            )
    return None


def shifted(case: Case) -> Cause | None:
    """Micro-batches missing or repeated at one place; all is well after it."""
    if case.found is None:
        return None
    distance, (rank, at_call, _) = case.found - case.misfit.number, case.misfit
    numbers = case.trace.expected[rank] + distance
    if not all(case.trace.fits(call, int(numbers[i])) for i, call in case.calls(rank) if i >= at_call):
        return None
    is_last = at_call + 1 == len(case.trace.run.calls[rank])
    if is_last and -distance > case.call.shape[0] * case.world_size:
        return None  # one call from far before: it fills up the end
    alone = case.world_size > 1 and all(case.all_fit(r, case.trace.expected[r]) for r in case.other_ranks())
    return (_skipped if distance > 0 else _repeated)(case, case.found, abs(distance), alone)


def _skipped(case: Case, found: int, distance: int, alone: bool) -> Cause:
    return Cause(
        "skipped",
        f"Rows are missing: at {case.name()} came {case.name(found)}, {distance} rows of the plan later. Something "
        f"took a batch and did not train on it: a loader that looks ahead, a sanity check, or a count of batches that "
        f"is one too high after a restart.",
        case.misfit.rank if alone else None,
    )


def _repeated(case: Case, found: int, distance: int, alone: bool) -> Cause:
    return Cause(
        "repeated",
        f"Rows came a second time: at {case.name()} came {case.name(found)}, {distance} rows of the plan earlier. Each "
        f"batch must be asked for once: look for a second iterator, a retried step or a state that is saved before the "
        f"batch is counted.",
        case.misfit.rank if alone else None,
    )


def dropped(case: Case) -> Cause | None:
    """Rows come in order, but with gaps again and again."""
    gaps = arrived = 0
    for rank in range(case.world_size):
        steps = _gaps(case, rank)
        if steps is None:
            return None
        gaps, arrived = gaps + sum(step > 0 for step in steps), arrived + len(steps)
    if gaps < 2:
        return None
    return Cause(
        "dropped",
        f"Batches are dropped silently: {gaps} of {arrived} times the next micro-batch of a rank was not the plan's "
        f"next one but a later one, first at {case.name()}. A trainer shares out a loader that is shared out already "
        f"(accelerate with dispatch_batches=False does): do not pass the loader to prepare(), or give it all ranks' "
        f"micro-batches in order.",
    )


def _gaps(case: Case, rank: int) -> list[int] | None:
    """Rows of the plan between each call of a rank and the next; None if calls are unknown or go back."""
    near = case.misfit.number
    at: list[tuple[int, int]] = []
    for _, call in case.calls(rank):
        number = case.where(call, near)
        if number is None:
            return None
        near = number + call.shape[0] * case.world_size
        at.append((number, near))
    gaps = [later[0] - earlier[1] for earlier, later in pairwise(at)]
    if gaps and gaps[-1] < 0:
        gaps.pop()  # what fills up the last batch comes from the beginning
    return None if any(gap < 0 for gap in gaps) else gaps


def at_the_end(case: Case) -> Cause | None:
    """The last call of a rank is filled up with rows from before."""
    rank, at_call, number = case.misfit
    if at_call + 1 != len(case.trace.run.calls[rank]):
        return None
    places = [case.planned.find(case.call.inputs[i : i + 1], 0) for i in range(case.call.shape[0])]
    wanted = [place == number + i for i, place in enumerate(places)]
    before = [place is not None and place < number for place in places]
    if not any(before) or not all(good or old for good, old in zip(wanted, before, strict=True)):
        return None
    return Cause(
        "padding",
        f"The last micro-batch of rank {rank} ({case.name()}) holds rows that were trained on before: it was filled up "
        f"so that all ranks have equally many. Turn off even_batches and samplers that pad; the plan's steps divide "
        f"evenly.",
        rank,
    )


def shuffled(case: Case) -> Cause | None:
    """All rows are in the dataset, elsewhere."""
    if case.found is not None:
        what = f"at {case.name()} came the rows of {case.name(case.found)}"
    elif all(case.planned.find(case.call.inputs[i : i + 1], 0) is not None for i in range(case.call.shape[0])):
        what = f"{case.name()} holds rows of several places of the plan"
    else:
        return None
    return Cause(
        "shuffled",
        f"The order of the plan is lost: {what}. The dataset is shuffled already: use a sequential sampler "
        f"(Hugging Face Trainer: train_sampling_strategy='sequential'; Lightning: use_distributed_sampler=False; "
        f"torch: shuffle=False).",
    )


def changed_rows(case: Case) -> Cause:
    """Rows that are nowhere in the dataset."""
    known = any(case.planned.find(call.inputs[:1], case.misfit.number) is not None for call in case.all_calls())
    if not known and case.misfit.at_call == 0:
        return Cause(
            "other-dataset",
            f"No row that reached the model is in {case.planned.reader.where} ({case.planned.reader.id}). The run read "
            f"another dataset, or changed every row; give `doctor` the one that it was started on.",
        )
    return Cause(
        "changed-rows",
        f"{case.name()} holds rows that are not in the dataset, while others are: they were changed on the way to the "
        f"model (masking, padding, another dataset mixed in). Give the model the rows as they come.",
        case.misfit.rank,
    )
