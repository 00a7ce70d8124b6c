"""A request: everything that was asked of a run, checked as one.

In:  pacing or explicit phases, warmup, `Batch`, `Budget`, mode, shape budget.
Out: a `Request` whose parts fit together, its warmup as a share of the steps or as steps; `resolve` solves it.

Guarantees: what cannot work is refused in one sentence that names a setting that does. Whatever can be judged
without the corpus is judged when the request is made, before any data is read.

    linear 8 -> 16, Batch(rows=1), warmup=TokenWarmup(tokens=32)    duration = 3: 8 + 8 + 16 tokens, 4 steps train 40
"""

from dataclasses import dataclass, field
from fractions import Fraction

from curriculum.budget import (
    MODES,
    Batch,
    Budget,
    largest_total_steps,
)
from curriculum.errors import PlanError
from curriculum.schedule import (
    DOCUMENT_CURRICULA,
    MAX_SEQ_LEN,
    ExplicitPhases,
    Pacing,
    TokenWarmup,
    Warmup,
    require_int,
)
from curriculum.shape_budget import SHAPES_BY, fit_shapes

Runs = tuple[tuple[int, int], ...]  # (seq_len, num_steps) in training order


def require_mode(mode: str) -> str:
    if mode not in MODES:
        raise PlanError(f"mode is {mode!r}; choose one of {', '.join(MODES)}.")
    return mode


def shaped_warmup(pacing: Pacing, warmup_steps: int, max_shapes: int, shapes_by: str) -> Runs:
    """The warmup's steps at no more than `max_shapes` lengths.

    Every pacing is at the maximum on its last warmup step, so the last run is at the maximum, and so is, at no
    deviation, whatever follows the warmup.
    """
    if pacing.start_length == pacing.max_length:
        raise PlanError(
            f"schedule {pacing.name!r} has one length, {pacing.max_length}, and max_shapes {max_shapes} has nothing to "
            f"choose from; leave max_shapes out."
        )
    ends = (pacing.start_length, pacing.max_length)
    return fit_shapes(pacing.runs(warmup_steps, warmup_steps), max_shapes=max_shapes, by=shapes_by, lengths=ends)


def shaped_phases(phases: ExplicitPhases, max_shapes: int, shapes_by: str) -> Runs:
    """Growing phases at no more than `max_shapes` lengths; of an open last phase, one step."""
    runs = phases.runs if phases.open_length is None else phases.runs_with(1)
    if len(runs) == 1:
        raise PlanError(
            f"phases have one length, {runs[0][0]}, and max_shapes {max_shapes} has nothing to choose from; "
            f"leave max_shapes out."
        )
    return fit_shapes(runs, max_shapes=max_shapes, by=shapes_by, lengths=(runs[0][0], runs[-1][0]))


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """`warmup` is a share of the total, a number of steps or of tokens; None for constant and explicit phases."""

    pacing: Pacing | ExplicitPhases
    warmup: Warmup | None
    batch: Batch
    budget: Budget
    mode: str
    max_shapes: int | None = None
    shapes_by: str = "relative"
    duration: Fraction | int = field(init=False, repr=False, compare=False)  # of the warmup, tokens made steps

    def __post_init__(self) -> None:
        require_mode(self.mode)
        if self.mode == "document":
            raise PlanError(
                f"mode 'document' has curricula of its own, {', '.join(DOCUMENT_CURRICULA)}; "
                f"choose one of them, or mode 'segment' for this schedule."
            )
        self._check_warmup()
        if self.mode == "best-fit" and min(self.pacing.lengths) < 2:
            raise PlanError(
                "mode 'best-fit' has rows of length 1, which a piece of a document with one target fills: every "
                "document is one short of them; use lengths of 2 or more, or mode 'segment'."
            )
        self.batch.rows_per_step(self.pacing.max_length)  # first: the longest needs the largest batch_tokens
        for seq_len in self.pacing.lengths:
            self.batch.rows_per_step(seq_len)
        self._check_phases_budget()
        self._check_shapes()
        object.__setattr__(self, "duration", self._resolve_duration())
        self._check_warmup_fits()

    def _check_warmup(self) -> None:
        warmup, pacing = self.warmup, self.pacing
        if isinstance(pacing, ExplicitPhases) or pacing.name == "constant":
            if warmup is not None:
                kind = "phases have" if isinstance(pacing, ExplicitPhases) else "schedule 'constant' has"
                raise PlanError(f"{kind} no warmup; leave frac, length_warmup_steps and length_warmup_tokens out.")
        elif warmup is None:
            raise PlanError(
                f"schedule {pacing.name!r} needs a warmup; give frac, such as 0.3, or length_warmup_steps, such as "
                f"1000, or length_warmup_tokens."
            )
        elif isinstance(warmup, Fraction):
            if not 0 < warmup <= 1:
                raise PlanError(f"frac is {warmup}; choose a decimal above 0 and at most 1, such as 0.3.")
        elif not isinstance(warmup, TokenWarmup):
            require_int("length_warmup_steps", warmup)

    def _check_phases_budget(self) -> None:
        steps, tokens = self.budget.steps, self.budget.tokens
        if not isinstance(self.pacing, ExplicitPhases) or self.pacing.is_open or self.budget.is_one_pass:
            return
        found = f"steps {steps:,}" if steps is not None else f"tokens {tokens:,}"
        raise PlanError(
            f"phases already fix the total at {self.pacing.total_steps:,} steps, and {found} is given too; "
            f"leave one of them out, or let the last phase be LEN:*."
        )

    def _check_shapes(self) -> None:
        if self.shapes_by not in SHAPES_BY:
            raise PlanError(f"shapes_by is {self.shapes_by!r}; choose one of {', '.join(SHAPES_BY)}.")
        if self.max_shapes is None:
            return
        if isinstance(self.pacing, ExplicitPhases) and self.pacing.separate:
            raise PlanError(
                f"max_shapes {self.max_shapes} would merge phases, and weights are listed one for each phase; leave "
                f"max_shapes out, or give the weights by length."
            )
        require_int("max_shapes", self.max_shapes, least=2, most=MAX_SEQ_LEN)
        if isinstance(self.pacing, ExplicitPhases):
            shaped_phases(self.pacing, self.max_shapes, self.shapes_by)
            return
        shaped_warmup(self.pacing, 1, self.max_shapes, self.shapes_by)

    def _resolve_duration(self) -> Fraction | int:
        """The warmup as a share or as steps: the largest T whose first T steps train at most the tokens asked for."""
        if self.warmup is None or isinstance(self.pacing, ExplicitPhases):
            return 1  # constant is at its only length from the first step
        if not isinstance(self.warmup, TokenWarmup):
            return self.warmup
        weights = [self.batch.tokens_per_step(seq_len) for seq_len in self.pacing.lengths]
        warmup_steps = largest_total_steps(self.pacing, Fraction(1), weights, self.warmup.tokens)
        if warmup_steps == 0:
            raise PlanError(
                f"length_warmup_tokens {self.warmup.tokens:,} is too small: a warmup of one step, at the maximum, "
                f"trains {weights[-1]:,} tokens; use length_warmup_tokens {weights[-1]:,} or more, or a smaller batch."
            )
        return warmup_steps

    def _check_warmup_fits(self) -> None:
        steps, warmup_steps = self.budget.steps, self.duration
        if steps is None or not isinstance(warmup_steps, int) or warmup_steps <= steps:
            return
        if isinstance(self.warmup, TokenWarmup):
            raise PlanError(
                f"length_warmup_tokens {self.warmup.tokens:,} last {warmup_steps:,} steps, above the total of "
                f"{steps:,} steps; use steps {warmup_steps:,} or more, or fewer length_warmup_tokens."
            )
        raise PlanError(
            f"length_warmup_steps {warmup_steps:,} is above the total of {steps:,} steps; "
            f"use a warmup of {steps:,} or less, or more steps."
        )

    @property
    def needs_corpus(self) -> bool:
        """True when the number of steps depends on a corpus whose size is still unknown."""
        is_fixed = isinstance(self.pacing, ExplicitPhases) and not self.pacing.is_open
        return self.budget.is_one_pass and not is_fixed and self.budget.corpus_tokens is None
