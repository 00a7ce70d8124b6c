"""Solving a request: the lengths of all steps, landing exactly on the budget.

In:  a checked `Request`.
Out: `Resolved`: runs of (seq_len, num_steps), and the schedule with its integers filled in.

Guarantees: the most whole steps that the budget holds; with a shape budget or an open phase, the most steps in the last
run. What the budget or the corpus does not hold is refused in one sentence that names a setting that does.

    Request(pacing=Pacing(name="linear", start_length=8, max_length=1024), warmup=Fraction(3, 10),
            batch=Batch(rows=16), budget=Budget(corpus_tokens=8_800_000), mode="segment")
    -> 631 steps, of which the first round(0.3 * 631) = 189 warm up
"""

from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple, NoReturn

from curriculum.budget import Budget, consumed_per_step, filled, largest_total_steps, least_steps, weight_of_steps
from curriculum.errors import PlanError
from curriculum.request import Request, Runs, shaped_phases, shaped_warmup
from curriculum.schedule import ExplicitPhases, Pacing, TokenWarmup, warmup_steps_of


class Resolved(NamedTuple):
    """`runs` = ((seq_len, num_steps), ...) in training order; `schedule` goes into the plan."""

    runs: Runs
    schedule: dict[str, int | str]


def resolve(request: Request) -> Resolved:
    """The lengths of all steps; refused where the budget holds none or the corpus does not hold them."""
    if isinstance(request.pacing, ExplicitPhases):
        resolved = Resolved(_phase_runs(request, request.pacing), request.pacing.describe())
    else:
        resolved = _paced(request, request.pacing)
    _check_corpus(request, resolved.runs)
    return resolved


def _phase_runs(request: Request, phases: ExplicitPhases) -> Runs:
    if request.max_shapes is None:
        if phases.open_length is None:
            return phases.runs
        return phases.runs_with(_steps_left(request, phases.runs, phases.open_length))
    shaped = shaped_phases(phases, request.max_shapes, request.shapes_by)
    if phases.open_length is None:
        return shaped
    *before, (top, _) = shaped
    return (*before, (top, _steps_left(request, tuple(before), top)))


def _paced(request: Request, pacing: Pacing) -> Resolved:
    """Total and T are solved without the shape budget; then only the number of steps at the maximum may change."""
    total_steps = request.budget.steps or _solve_total_steps(request, pacing)
    duration = request.duration
    warmup_steps = warmup_steps_of(duration, total_steps) if isinstance(duration, Fraction) else duration
    schedule = pacing.describe(warmup_steps)
    if request.max_shapes is None:
        return Resolved(pacing.runs(total_steps, warmup_steps), schedule)
    *before, (top, _) = shaped_warmup(pacing, warmup_steps, request.max_shapes, request.shapes_by)
    runs = (*before, (top, _steps_left(request, tuple(before), top)))
    return Resolved(runs, {**schedule, "max_shapes": request.max_shapes, "shapes_by": request.shapes_by})


def _consumption(request: Request) -> Callable[[int], int]:
    """Stream tokens that a step of a length uses up."""
    longest = request.pacing.max_length  # once: explicit phases look for it among thousands
    fill = request.budget.fill
    if fill is None:
        return lambda seq_len: consumed_per_step(request.batch, request.mode, seq_len, longest)
    return lambda seq_len: filled(request.batch.tokens_per_step(seq_len), fill[seq_len])


def _limit(request: Request) -> tuple[int, Callable[[int], int]]:
    """Tokens that end the run, and how many of them a step of a length takes: trained ones, or of the corpus."""
    if request.budget.tokens is not None:
        return request.budget.tokens, request.batch.tokens_per_step
    if request.budget.capacity is not None:
        return request.budget.capacity, _consumption(request)
    raise PlanError(
        "one pass over the corpus needs its size; "
        "give corpus_tokens, a corpus or a token store, or a budget of steps or tokens."
    )


def _solve_total_steps(request: Request, pacing: Pacing) -> int:
    """The most steps within `tokens`, or within one pass over the corpus."""
    limit, weigh = _limit(request)
    weights = [weigh(seq_len) for seq_len in pacing.lengths]
    total_steps = largest_total_steps(pacing, request.duration, weights, limit)
    if total_steps == 0:
        fewest = least_steps(request.duration)
        _refuse_zero_steps(request, fewest, weight_of_steps(pacing, weights, fewest, fewest))
    return total_steps


def _steps_left(request: Request, before: Runs, seq_len: int) -> int:
    """How many steps of `seq_len` the budget holds after these runs: at least one."""
    steps_before = sum(num_steps for _, num_steps in before)
    if request.budget.steps is not None:
        if request.budget.steps <= steps_before:
            raise PlanError(
                f"steps {request.budget.steps:,} leave none for the last phase, {seq_len}:*, after the "
                f"{steps_before:,} steps before it; use steps {steps_before + 1:,} or more."
            )
        return request.budget.steps - steps_before
    limit, weigh = _limit(request)
    weight_before = sum(weigh(length) * num_steps for length, num_steps in before)
    if (steps_left := (limit - weight_before) // weigh(seq_len)) < 1:
        if request.max_shapes is not None:
            raise PlanError(
                f"max_shapes {request.max_shapes} leaves no step at max_length {seq_len}, the shorter shapes take the "
                f"budget; leave max_shapes out, or use a shorter warmup."
            )
        _refuse_zero_steps(request, steps_before + 1, weight_before + weigh(seq_len))
    return steps_left


def _refuse_zero_steps(request: Request, fewest: int, needed: int) -> NoReturn:
    corpus, epochs = request.budget.corpus_tokens, request.budget.epochs
    shortest = f"the shortest plan of this schedule and batch, {fewest:,} step{'s' * (fewest > 1)},"
    relief = "a smaller batch"
    if isinstance(request.warmup, TokenWarmup):
        shortest = f"the {fewest:,} warmup steps of length_warmup_tokens {request.warmup.tokens:,}, the shortest plan,"
        relief = "fewer length_warmup_tokens"
    if request.budget.tokens is not None or corpus is None:
        raise PlanError(
            f"tokens {request.budget.tokens:,} is too small: {shortest} trains {needed:,} tokens; "
            f"use tokens {needed:,} or more, or {relief}."
        )
    raise PlanError(
        f"{_offer(request.budget)}, which is too few: {shortest} consumes {needed:,}; "
        f"use a corpus of {-(-(needed + 1) // epochs):,} tokens or more, "
        f"epochs {-(-(needed + 1) // corpus):,} or more, or {relief}."
    )


def _check_corpus(request: Request, runs: Runs) -> None:
    per_step = _consumption(request)
    consumed = sum(per_step(seq_len) * num_steps for seq_len, num_steps in runs)
    corpus, capacity = request.budget.corpus_tokens, request.budget.capacity
    if corpus is None or capacity is None or consumed <= capacity:
        return
    most = _most_steps(request, runs, capacity)
    remedy = f"use at most {most:,} steps, or" if most else "no number of steps fits, so use"
    if request.max_shapes is not None:  # another total is another warmup, hence other shapes
        remedy = "use fewer steps, or"
    raise PlanError(
        f"the plan of {sum(num_steps for _, num_steps in runs):,} steps consumes {consumed:,} tokens, but "
        f"{_offer(request.budget)}; {remedy} epochs {-(-(consumed + 1) // corpus):,} or a larger corpus."
    )


def _most_steps(request: Request, runs: Runs, capacity: int) -> int:
    """The most steps that the corpus holds: of the schedule, or the leading ones of explicit phases."""
    per_step = _consumption(request)
    if isinstance(request.pacing, Pacing):
        weights = [per_step(seq_len) for seq_len in request.pacing.lengths]
        return largest_total_steps(request.pacing, request.duration, weights, capacity)
    most = 0
    for seq_len, num_steps in runs:
        fitting = min(num_steps, capacity // per_step(seq_len))
        most, capacity = most + fitting, capacity - fitting * per_step(seq_len)
        if fitting < num_steps:
            break
    return most


def _offer(budget: Budget) -> str:
    """ "1 epoch of 1,000 corpus tokens offers 999": the first token of a stream is never a target."""
    words = "epoch of {:,} corpus tokens offers" if budget.epochs == 1 else "epochs of {:,} corpus tokens offer"
    return f"{budget.epochs:,} {words.format(budget.corpus_tokens)} {budget.capacity:,}"
