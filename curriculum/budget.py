"""Batch and budget: how many rows a step has, and how many steps a run has.

In:  rows or tokens per step, and a number of steps, a number of trained tokens, or a corpus to pass over.
Out: rows per step for a length, and the total number of steps.

Guarantees: whole integers only; the total found is the largest that fits, also where tokens per step rise and
fall with the length; a request that cannot work is refused with the nearest one that can.

    Batch(rows=512)              512 rows at every length: 4,096 tokens a step at length 8, 524,288 at 1024
    Batch(tokens=10_000)         8 rows of 1024: 10000 // 1024 = 9, down to a multiple of 8
    Budget(corpus_tokens=1000)   one pass; 999 tokens can be a target, because the first never is
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from operator import mul

from curriculum.errors import PlanError
from curriculum.limits import MAX_SEQ_LEN, neighbours, require_int
from curriculum.schedule import Pacing
from curriculum.warmup import warmup_steps_of

MODES = ("segment", "truncate", "document", "best-fit")
MAX_STEP_TOKENS = 2**31 - 1  # stored tokens of one step: a shard holds whole steps and fewer than 2**31 tokens
MAX_EPOCHS = 2**31 - 1
FULL = 1_000_000  # a fill is parts per million of the slots of packed rows


def require_step_fits(rows: int, seq_len: int) -> None:
    """A step never spans two shards, and a shard has a largest size."""
    stored = rows * (seq_len + 1)
    if stored > MAX_STEP_TOKENS:
        raise PlanError(
            f"a step of {rows:,} rows of length {seq_len} stores {stored:,} tokens; "
            f"at most {MAX_STEP_TOKENS:,} are allowed, so use a smaller batch."
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Constant `rows` or `tokens` per step; `rows_multiple_of` None becomes 1 with rows and 8 with tokens."""

    rows: int | None = None
    tokens: int | None = None
    rows_multiple_of: int | None = None

    def __post_init__(self) -> None:
        if (self.rows is None) == (self.tokens is None):
            found = "both are given" if self.rows is not None else "neither is given"
            raise PlanError(f"a batch has either batch_rows or batch_tokens, and {found}; choose one.")
        if self.rows_multiple_of is None:
            object.__setattr__(self, "rows_multiple_of", 1 if self.rows is not None else 8)
        multiple = require_int("rows_multiple_of", self.rows_multiple_of, most=MAX_SEQ_LEN)
        if self.tokens is not None:
            require_int("batch_tokens", self.tokens)
        elif require_int("batch_rows", self.rows, most=MAX_SEQ_LEN) % multiple:
            nearest = neighbours(self.rows or 0, multiple, multiple, MAX_SEQ_LEN)
            raise PlanError(f"batch_rows {self.rows} is not a multiple of rows_multiple_of {multiple}; use {nearest}.")

    def rows_per_step(self, seq_len: int) -> int:
        """Rows of one step at this length; refused where that is none, or more than one shard can hold."""
        multiple = self.rows_multiple_of or 1
        rows = self.rows if self.rows is not None else (self.tokens or 0) // seq_len // multiple * multiple
        if rows == 0:
            raise PlanError(
                f"batch_tokens {self.tokens:,} holds no {multiple} rows (rows_multiple_of) of "
                f"{seq_len} tokens; use batch_tokens {multiple * seq_len:,} or more, or fewer rows_multiple_of."
            )
        require_step_fits(rows, seq_len)
        return rows

    def tokens_per_step(self, seq_len: int) -> int:
        """Trained tokens of one step at this length."""
        return self.rows_per_step(seq_len) * seq_len

    def is_underfull(self, min_tokens_per_step: int) -> bool:
        """True when a step of a constant-token batch trains under 90 % of what was asked."""
        return self.tokens is not None and 10 * min_tokens_per_step < 9 * self.tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """`steps`, trained `tokens`, or neither: one pass over `epochs` times a corpus of `corpus_tokens`.

    `corpus_tokens` is None while the corpus is unknown; `steps` and `tokens` are held to it once it is known.
    """

    steps: int | None = None
    tokens: int | None = None
    corpus_tokens: int | None = None
    epochs: int = 1
    fill: Mapping[int, int] | None = field(default=None, hash=False)
    """best-fit mode: for each length, parts per million of a row's slots that the corpus is to fill; None: all"""

    def __post_init__(self) -> None:
        if self.steps is not None and self.tokens is not None:
            raise PlanError(
                f"steps {self.steps:,} and tokens {self.tokens:,} are two budgets; choose one of them, "
                f"or neither for one pass over the corpus."
            )
        for name, value in (
            ("steps", self.steps),
            ("tokens", self.tokens),
            ("corpus_tokens", self.corpus_tokens),
        ):
            if value is not None:
                require_int(name, value)
        require_int("epochs", self.epochs, most=MAX_EPOCHS)
        if self.corpus_tokens is not None:
            require_int("epochs times corpus_tokens", self.epochs * self.corpus_tokens)

    @property
    def is_one_pass(self) -> bool:
        return self.steps is None and self.tokens is None

    @property
    def capacity(self) -> int | None:
        """Tokens that can be consumed: all but the first, which is never a target. None: corpus unknown."""
        return None if self.corpus_tokens is None else self.epochs * self.corpus_tokens - 1


def consumed_per_step(batch: Batch, mode: str, seq_len: int, max_length: int) -> int:
    """Stream tokens that one step uses up: truncated rows use `max_length` each."""
    return batch.rows_per_step(seq_len) * (seq_len if mode != "truncate" else max_length)


def filled(slots: int, fill: int) -> int:
    """Stream tokens for so many slots of packed rows, `fill` parts per million of which are to hold targets."""
    return -(-slots * fill // FULL)  # rounded up: a step of few slots would lose one of them to rounding


def weight_of_steps(pacing: Pacing, weights: Sequence[int], total_steps: int, warmup_steps: int) -> int:
    """Summed weight of all steps when length k weighs `weights[k]` a step and total_steps >= warmup_steps.

    If every step weighed as much as the last length, the sum would be weights[-1] * total_steps. A length k
    that is reached at t = arrivals[k] lowers that by its rise, weights[k] - weights[k - 1], for each of the
    t - 1 steps before it: one product per length.
    """
    rises = [after - before for before, after in pairwise(weights)]
    early = sum(map(mul, rises, pacing.arrivals(warmup_steps)[1:])) - sum(rises)
    return int(weights[-1] * total_steps - early)


def least_steps(warmup: Fraction | int) -> int:
    """The fewest steps that any plan with this warmup has."""
    return warmup if isinstance(warmup, int) else 1


def largest_total_steps(pacing: Pacing, warmup: Fraction | int, weights: Sequence[int], limit: int) -> int:
    """The most steps, `least_steps(warmup)` or more, that together weigh at most `limit`; 0 where none do."""
    fewest = least_steps(warmup)
    spare = limit - weight_of_steps(pacing, weights, fewest, fewest)
    if spare < 0:
        return 0
    if isinstance(warmup, int):  # all further steps are at the maximum
        return fewest + spare // weights[-1]
    return _largest_stretched_total(pacing, warmup, weights, limit)


def _largest_stretched_total(pacing: Pacing, frac: Fraction, weights: Sequence[int], limit: int) -> int:
    """The same where the warmup stretches with the total; one step is known to fit.

    One more step adds 0 or 1 to T, hence 0 or 1 to each arrival, hence weights[-1] minus some of the rises to
    the sum. With monotone weights that is positive, so bisection is exact. Constant-token batches rise and
    fall: there, bisection over a monotone lower bound of the weights gives a total that is right or too big,
    and we walk down from it. One step less saves at most weights[-1] plus all falls: an excess of n times that
    takes at least n steps, so no total that fits is jumped over.
    """

    def weigh(total_steps: int, by: Sequence[int] = weights) -> int:
        return weight_of_steps(pacing, by, total_steps, warmup_steps_of(frac, total_steps))

    bound = _monotone_lower_bound(weights)
    candidates = range(1, limit // min(bound) + 1)
    total_steps = bisect_right(candidates, limit, key=lambda steps: weigh(steps, bound))
    most_saved = weights[-1] + sum(max(0, before - after) for before, after in pairwise(weights))
    while (excess := weigh(total_steps) - limit) > 0:
        total_steps -= -(-excess // most_saved)
    return total_steps


def _monotone_lower_bound(weights: Sequence[int]) -> list[int]:
    """The least of each weight and all after it, [8, 6, 9] -> [6, 6, 9]; falling weights stay as they are."""
    if all(before >= after for before, after in pairwise(weights)):
        return list(weights)
    bound = list(weights)
    for k in range(len(bound) - 2, -1, -1):
        bound[k] = min(bound[k], bound[k + 1])
    return bound
