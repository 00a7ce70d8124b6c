"""A request: everything that was asked of a run, checked as one, and solved for the number of steps.

In:  pacing or explicit phases, warmup, `Batch`, `Budget`, mode.
Out: `Resolved`: the lengths of all steps as runs, and the schedule with its integers filled in.

Guarantees: what cannot work is refused in one sentence that names a setting that does. Whatever can be judged
without the corpus is judged when the request is made, before any data is read.

    Request(pacing=Pacing(name="linear", start_length=8, max_length=1024), warmup=Fraction(3, 10),
            batch=Batch(rows=16), budget=Budget(corpus_tokens=8_800_000), mode="segment")
    -> 631 steps, of which the first round(0.3 * 631) = 189 warm up
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple, NoReturn

from curriculum.budget import (
    MODES,
    Batch,
    Budget,
    consumed_per_step,
    largest_total_steps,
    least_steps,
    weight_of_steps,
)
from curriculum.errors import PlanError
from curriculum.schedule import ExplicitPhases, Pacing, require_int, warmup_steps_of


class Resolved(NamedTuple):
    """`runs` = ((seq_len, num_steps), ...) in training order; `schedule` goes into the plan."""

    runs: tuple[tuple[int, int], ...]
    schedule: dict[str, int | str]


def require_mode(mode: str) -> str:
    if mode not in MODES:
        raise PlanError(f"mode is {mode!r}; choose one of {', '.join(MODES)}.")
    return mode


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """`warmup` is a fraction of the total or a number of steps; None for constant and explicit phases."""

    pacing: Pacing | ExplicitPhases
    warmup: Fraction | int | None
    batch: Batch
    budget: Budget
    mode: str

    def __post_init__(self) -> None:
        require_mode(self.mode)
        self._check_warmup()
        self.batch.rows_per_step(self.pacing.max_length)  # first: the longest needs the largest batch_tokens
        for seq_len in self.pacing.lengths:
            self.batch.rows_per_step(seq_len)
        steps, tokens = self.budget.steps, self.budget.tokens
        if isinstance(self.pacing, ExplicitPhases) and not self.budget.is_one_pass:
            found = f"steps {steps}" if steps is not None else f"tokens {tokens}"
            raise PlanError(
                f"phases already fix the total at {self.pacing.total_steps} steps, and {found} is given too; "
                f"leave one of them out."
            )
        if steps is not None and isinstance(self.warmup, int) and self.warmup > steps:
            raise PlanError(
                f"length_warmup_steps {self.warmup} is above the total of {steps} steps; "
                f"use a warmup of {steps} or less, or more steps."
            )

    def _check_warmup(self) -> None:
        warmup, pacing = self.warmup, self.pacing
        if isinstance(pacing, ExplicitPhases) or pacing.name == "constant":
            if warmup is not None:
                kind = "phases have" if isinstance(pacing, ExplicitPhases) else "schedule 'constant' has"
                raise PlanError(f"{kind} no warmup; leave frac and length_warmup_steps out.")
        elif warmup is None:
            raise PlanError(
                f"schedule {pacing.name!r} needs a warmup; "
                f"give frac, such as 0.3, or length_warmup_steps, such as 1000."
            )
        elif not isinstance(warmup, Fraction):
            require_int("length_warmup_steps", warmup)
        elif not 0 < warmup <= 1:
            raise PlanError(f"frac is {warmup}; choose a decimal above 0 and at most 1, such as 0.3.")

    @property
    def needs_corpus(self) -> bool:
        """True when the number of steps depends on a corpus whose size is still unknown."""
        is_fixed = isinstance(self.pacing, ExplicitPhases) or not self.budget.is_one_pass
        return not is_fixed and self.budget.corpus_tokens is None

    def resolve(self) -> Resolved:
        """The lengths of all steps; refused where the budget holds none or the corpus does not hold them."""
        if isinstance(self.pacing, ExplicitPhases):
            resolved = Resolved(self.pacing.runs, self.pacing.describe())
        else:
            total_steps = self.budget.steps or self._solve_total_steps(self.pacing)
            warmup = self._warmup
            warmup_steps = warmup_steps_of(warmup, total_steps) if isinstance(warmup, Fraction) else warmup
            runs = self.pacing.runs(total_steps, warmup_steps)
            resolved = Resolved(runs, self.pacing.describe(warmup_steps))
        self._check_corpus(resolved.runs)
        return resolved

    @property
    def _warmup(self) -> Fraction | int:
        return 1 if self.warmup is None else self.warmup  # constant: at its only length from the first step

    def _consumed(self, seq_len: int) -> int:
        return consumed_per_step(self.batch, self.mode, seq_len, self.pacing.max_length)

    def _solve_total_steps(self, pacing: Pacing) -> int:
        """The most steps within `tokens`, or within one pass over the corpus."""
        limit, weigh = self.budget.tokens, self.batch.tokens_per_step
        if limit is None:
            limit, weigh = self.budget.capacity, self._consumed
        if limit is None:
            raise PlanError(
                "one pass over the corpus needs its size; "
                "give corpus_tokens, a corpus or a token store, or a budget of steps or tokens."
            )
        weights = [weigh(seq_len) for seq_len in pacing.lengths]
        total_steps = largest_total_steps(pacing, self._warmup, weights, limit)
        if total_steps == 0:
            fewest = least_steps(self._warmup)
            self._refuse_zero_steps(fewest, weight_of_steps(pacing, weights, fewest, fewest))
        return total_steps

    def _refuse_zero_steps(self, fewest: int, needed: int) -> NoReturn:
        corpus, epochs = self.budget.corpus_tokens, self.budget.epochs
        shortest = f"the shortest plan of this schedule and batch, {fewest} step{'s' * (fewest > 1)},"
        if self.budget.tokens is not None or corpus is None:
            raise PlanError(
                f"tokens {self.budget.tokens} is too small: {shortest} trains {needed} tokens; "
                f"use tokens {needed} or more, or a smaller batch."
            )
        raise PlanError(
            f"{_offer(self.budget)}, which is too few: {shortest} consumes {needed}; "
            f"use a corpus of {-(-(needed + 1) // epochs)} tokens or more, "
            f"epochs {-(-(needed + 1) // corpus)} or more, or a smaller batch."
        )

    def _check_corpus(self, runs: tuple[tuple[int, int], ...]) -> None:
        consumed = sum(self._consumed(seq_len) * num_steps for seq_len, num_steps in runs)
        corpus, capacity = self.budget.corpus_tokens, self.budget.capacity
        if corpus is None or capacity is None or consumed <= capacity:
            return
        most = self._most_steps(runs, capacity)
        remedy = f"use at most {most} steps, or" if most else "no number of steps fits, so use"
        raise PlanError(
            f"the plan of {sum(num_steps for _, num_steps in runs)} steps consumes {consumed} tokens, but "
            f"{_offer(self.budget)}; {remedy} epochs {-(-(consumed + 1) // corpus)} or a larger corpus."
        )

    def _most_steps(self, runs: tuple[tuple[int, int], ...], capacity: int) -> int:
        """The most steps that the corpus holds: of the schedule, or the leading ones of explicit phases."""
        if isinstance(self.pacing, Pacing):
            weights = [self._consumed(seq_len) for seq_len in self.pacing.lengths]
            return largest_total_steps(self.pacing, self._warmup, weights, capacity)
        most = 0
        for seq_len, num_steps in runs:
            fitting = min(num_steps, capacity // self._consumed(seq_len))
            most, capacity = most + fitting, capacity - fitting * self._consumed(seq_len)
            if fitting < num_steps:
                break
        return most


def _offer(budget: Budget) -> str:
    """ "1 epoch of 1000 corpus tokens offers 999": the first token of a stream is never a target."""
    words = "epoch of {} corpus tokens offers" if budget.epochs == 1 else "epochs of {} corpus tokens offer"
    return f"{budget.epochs} {words.format(budget.corpus_tokens)} {budget.capacity}"
