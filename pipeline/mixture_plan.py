"""The plan of a mixture: the longest one that no source is too small for, or a refusal that names the source.

In:  options with several sources, and the training tokens of each.   Out: a plan and the weights of every phase.
Guarantee: what a source must give is counted in whole rows, by the windows and shards that a build writes, never
estimated. E epochs of C tokens give E * C - 1 targets: the first token of a stream is none.

    sources of 1,000 and 400 tokens, weights 0.5 and 0.5, rows of 8      one epoch: 49 rows of each, 98 rows in all
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NoReturn

from curriculum.budget import least_steps
from curriculum.errors import PlanError
from curriculum.explicit_phases import ExplicitPhases
from curriculum.mixture import Mixture
from curriculum.plan import Plan
from curriculum.warmup import warmup_steps_of
from pipeline.mixed_windows import consumed_by_source, epochs_begun, rows_by_source
from pipeline.options import Options
from pipeline.requested_plan import compile_requested, pacing_of, phases_are_closed, request_of
from pipeline.sources import mixture_of
from pipeline.windows import window_size

SEARCHED_BEYOND = 64
"""A longer warmup shifts steps between lengths, so a few steps more can take fewer tokens of a source."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceSize:
    """What a source offers."""

    name: str
    num_tokens: int
    """training tokens of one epoch"""
    epochs: int
    """that a plan may take"""

    @property
    def capacity(self) -> int:
        """Targets in all of its epochs."""
        return max(0, self.epochs * self.num_tokens - 1)

    @property
    def offer(self) -> str:
        """The same as a clause."""
        if self.epochs == 1:
            return f"1 epoch of its {self.num_tokens:,} tokens offers {self.capacity:,}"
        return f"{self.epochs:,} epochs of its {self.num_tokens:,} tokens offer {self.capacity:,}"


def plan_mixture(
    options: Options, sizes: Sequence[SourceSize], itemsize: int, say: Callable[[str], None] = lambda line: None
) -> tuple[Plan, Mixture]:
    """Solve the budget, and say which source ends it; or hold what was asked for against every source.

    Raises:
        PlanError: a source is too small; the message says which, and what would do.
    """
    solver = _Solver(options, sizes, itemsize)
    if options.steps is None and options.tokens is None and not phases_are_closed(options.phases):
        plan = solver.largest(say)
    else:
        plan = compile_requested(options, None)
    if (short := solver.short(plan)) is not None:
        solver.refuse(plan, *short)
    return plan, solver.mixture(plan)


class _Solver:
    """Plans of one request, measured against its sources."""

    def __init__(self, options: Options, sizes: Sequence[SourceSize], itemsize: int) -> None:
        self.options = options
        self.sizes = sizes
        self.itemsize = itemsize

    def mixture(self, plan: Plan) -> Mixture:
        return mixture_of(
            self.options.sources(), [phase.seq_len for phase in plan.phases], [size.num_tokens for size in self.sizes]
        )

    def consumed(self, plan: Plan) -> tuple[int, ...]:
        """Tokens that the plan takes of every source, by the shards that a build writes."""
        rows = rows_by_source(
            plan,
            self.mixture(plan),
            window_tokens=window_size(plan, self.options.shuffle_window),
            shard_bytes=self.options.shard_bytes,
            itemsize=self.itemsize,
        )
        return consumed_by_source(plan, rows)

    def short(self, plan: Plan) -> tuple[int, int] | None:
        """(source, tokens it would have to give) of the first that is too small; None if all suffice.

        Shards decide only whether a share is rounded down or up, so most plans are judged without them.
        """
        least, most = self._bounds(plan)
        capacities = [size.capacity for size in self.sizes]
        if all(need <= capacity for need, capacity in zip(most, capacities, strict=True)):
            return None
        if all(need <= capacity for need, capacity in zip(least, capacities, strict=True)):
            least = list(self.consumed(plan))
        return next(((k, need) for k, need in enumerate(least) if need > capacities[k]), None)

    def _bounds(self, plan: Plan) -> tuple[list[int], list[int]]:
        """Every source's tokens with its share of each phase rounded down, and up."""
        least, most = [0] * len(self.sizes), [0] * len(self.sizes)
        for index, (phase, weights) in enumerate(zip(plan.phases, self.mixture(plan).weights, strict=True)):
            total, per_row = sum(weights), plan.consumed_per_row(index)
            for source, weight in enumerate(weights):
                least[source] += phase.num_rows * weight // total * per_row
                most[source] += -(-phase.num_rows * weight // total) * per_row
        return least, most

    def largest(self, say: Callable[[str], None]) -> Plan:
        """The plan of the most steps that all sources suffice for."""
        options = self.options
        if options.max_shapes is not None and not isinstance(pacing_of(options), ExplicitPhases):
            # As with one source: total and warmup are solved without the shape budget, then only the end may change.
            total = self._most_steps(replace(options, max_shapes=None, shapes_by=None))
            duration = request_of(options, None).duration
            if isinstance(duration, Fraction):
                duration = warmup_steps_of(duration, total)
            options = replace(options, frac=None, length_warmup_tokens=None, length_warmup_steps=duration)
        steps = self._most_steps(options)
        with suppress(PlanError):  # so long that no plan of one more holds it
            if (short := self.short(_with_steps(options, steps + 1))) is not None:
                size = self.sizes[short[0]]
                say(
                    f"Source {size.name!r} ends the plan after {steps:,} steps: one more would take {short[1]:,} "
                    f"tokens of it, and {size.offer}."
                )
        return _with_steps(options, steps)

    def _most_steps(self, options: Options) -> int:
        pacing, fewest = pacing_of(options), least_steps(request_of(options, None).duration)
        if isinstance(pacing, ExplicitPhases):
            fewest = pacing.total_steps + 1

        def fits(steps: int) -> bool:
            try:
                return self.short(_with_steps(options, steps)) is None
            except PlanError:  # so long that no plan holds it
                return steps == fewest

        if not fits(fewest):
            plan = _with_steps(options, fewest)
            self.refuse(plan, *(self.short(plan) or (0, 0)))
        return _last_that_fits(fits, fewest)

    def refuse(self, plan: Plan, source: int, needed: int) -> NoReturn:
        """Say which source is too small for a plan, by how much, and what would do."""
        size = self.sizes[source]
        if size.num_tokens == 0:
            raise PlanError(
                f"Source {size.name!r} has no text to train on, but a weight above 0; give it text, hold out less, or "
                f"leave it out."
            )
        raise PlanError(
            f"The plan of {plan.total_steps:,} steps takes {needed:,} tokens of source {size.name!r}, but "
            f"{size.offer}; use fewer steps, a smaller weight, more text, or "
            f"--source-epochs {size.name}={epochs_begun(needed, size.num_tokens)}."
        )


def _with_steps(options: Options, steps: int) -> Plan:
    return compile_requested(replace(options, steps=steps), None)


def _last_that_fits(fits: Callable[[int], bool], fewest: int) -> int:
    """The last number that fits, of a row that is all fits and then none but for a few at the border."""
    good, step = fewest, 1
    while fits(good + step):
        good, step = good + step, 2 * step
    bad = good + step
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return max((steps for steps in range(good + 2, good + 2 + SEARCHED_BEYOND) if fits(steps)), default=good)
