"""Document curricula: rows that never cross a document, in power-of-two lengths, as a plan.

In:  `DocumentCurriculum` (order, ends, cycles), a `Batch`, how many rows the corpus yields of each length, and
     perhaps a budget of steps or target slots.
Out: a `Plan` of mode "document": one phase for each length that fills at least one step, visited through `order`.

Guarantees: integers only; the order is recomputable from the phases and the schedule (`document_order`); every
whole step is used unless a budget or `balanced` says otherwise; nothing is rounded to cycles. What cannot work is
refused with what can; `check_document_request` does so before any data is read.

    curriculum = DocumentCurriculum(name="grow-p2", start_length=256, max_length=1024, cycles=1)
    rows {256: 100, 512: 40, 1024: 15}, Batch(rows=16)   ->   6 steps of 256, 2 of 512, none of 1024 (15 rows)

A budget takes its part of every length in proportion, by Webster's method (Sainte-Lague): the steps of all lengths
sorted by (2 i + 1) / steps of the length, a tie to the shorter; the plan has the first S. So a smaller budget
is a subset of a larger one, which rounding each length alone would not guarantee.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from curriculum.document_order import document_runs, require_document_order
from curriculum.errors import PlanError
from curriculum.plan import Batch, Phase, Plan
from curriculum.schedule import MAX_SEQ_LEN, require_int

DEFAULT_CYCLES = 8  # OLMo-core's default and the paper's choice


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentCurriculum:
    """Lengths are all powers of two from `start_length` to `max_length`; see `document_order` for the names.

    `cycles` None becomes 8 for grow-linear and grow-p2. `balanced`: every length gets as many steps as the scarcest.
    """

    name: str
    start_length: int
    max_length: int
    cycles: int | None = None
    balanced: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.cycles is None and self.name != "natural":
            object.__setattr__(self, "cycles", DEFAULT_CYCLES)
        require_document_order(self.name, self.cycles, self.seed)
        if not isinstance(self.balanced, bool):
            raise PlanError(f"balanced is {self.balanced!r}; it must be true or false.")
        if self.balanced and self.name == "natural":
            raise PlanError(
                "balanced does not apply to schedule 'natural', which keeps the lengths as the corpus has them; "
                "leave balanced out or use schedule 'grow-p2'."
            )
        for name, value in (("start_length", self.start_length), ("max_length", self.max_length)):
            _require_power_of_two(name, require_int(name, value, most=MAX_SEQ_LEN))
        if self.start_length >= self.max_length:
            raise PlanError(
                f"start_length {self.start_length} is not below max_length {self.max_length}; choose a start_length "
                f"of at most {max(1, self.max_length // 2)} or a larger max_length."
            )

    @property
    def lengths(self) -> tuple[int, ...]:
        """The buckets, growing."""
        return tuple(1 << k for k in range(self.start_length.bit_length() - 1, self.max_length.bit_length()))

    def describe(self) -> dict[str, int | str]:
        """The plan's `schedule` object."""
        ends: dict[str, int | str] = {
            "name": self.name,
            "start_length": self.start_length,
            "max_length": self.max_length,
        }
        if self.cycles is not None:
            ends |= {"cycles": self.cycles, "balanced": int(self.balanced)}
        return {**ends, "seed": self.seed}


def _require_power_of_two(name: str, value: int) -> None:
    below = 1 << (value.bit_length() - 1)
    if value != below:
        nearest = f"{below} or {2 * below}" if 2 * below <= MAX_SEQ_LEN else f"{below}"
        raise PlanError(
            f"{name} {value} is not a power of two, and lengths of mode 'document' double from start to max; "
            f"use {nearest}."
        )


def check_document_request(
    curriculum: DocumentCurriculum, batch: Batch, *, steps: int | None = None, tokens: int | None = None
) -> None:
    """Refuse, before any data is read, what `compile_document_plan` would refuse whatever the corpus is."""
    for seq_len in reversed(curriculum.lengths):  # the longest needs the largest batch_tokens
        batch.rows_per_step(seq_len)
    if steps is not None and tokens is not None:
        raise PlanError(
            f"steps {steps:,} and tokens {tokens:,} are two budgets; choose one of them, or neither for all documents."
        )
    if tokens is not None:
        require_int("tokens", tokens)
    if steps is not None and (curriculum.cycles or 1) > require_int("steps", steps):
        raise PlanError(
            f"cycles {curriculum.cycles} is above the total of {steps:,} steps; use cycles {steps:,} or fewer."
        )


def compile_document_plan(
    *,
    curriculum: DocumentCurriculum,
    rows_by_length: Mapping[int, int],
    batch: Batch,
    steps: int | None = None,
    tokens: int | None = None,
) -> Plan:
    """The plan of a corpus that yields these rows.

    Args:
        curriculum: order, ends, cycles and seed.
        rows_by_length: rows available of each length of `curriculum.lengths`; a length left out has none.
        batch: rows or tokens per step.
        steps: budget of steps; with neither budget, all whole steps.
        tokens: budget of target slots (rows * seq_len); the plan is the largest within it.
    """
    check_document_request(curriculum, batch, steps=steps, tokens=tokens)
    available = _whole_steps(curriculum, rows_by_length, batch)
    weights = {seq_len: batch.tokens_per_step(seq_len) for seq_len in available}
    chosen = _within_budget(available, weights, steps, tokens)
    runs = document_runs(chosen, name=curriculum.name, cycles=curriculum.cycles, seed=curriculum.seed)
    index_of = {seq_len: index for index, seq_len in enumerate(dict.fromkeys(seq_len for seq_len, _ in runs))}
    return Plan(
        mode="document",
        max_seq_len=max(index_of),
        schedule=curriculum.describe(),
        phases=tuple(
            Phase(seq_len=seq_len, rows_per_step=batch.rows_per_step(seq_len), num_steps=chosen[seq_len])
            for seq_len in index_of
        ),
        order=tuple((index_of[seq_len], num_steps) for seq_len, num_steps in runs),
    )


def _whole_steps(curriculum: DocumentCurriculum, rows_by_length: Mapping[int, int], batch: Batch) -> dict[int, int]:
    """Steps of each length that has one; rows short of a whole step are left over and counted as unused."""
    unknown = sorted(set(rows_by_length) - set(curriculum.lengths))
    if unknown:
        raise PlanError(
            f"rows of length {unknown[0]} do not belong to this curriculum; its lengths are "
            f"{', '.join(map(str, curriculum.lengths))}, so count rows of those."
        )
    rows = {n: require_int(f"rows of length {n}", rows_by_length.get(n, 0), least=0) for n in curriculum.lengths}
    steps = {seq_len: rows[seq_len] // batch.rows_per_step(seq_len) for seq_len in rows}
    steps = {seq_len: num_steps for seq_len, num_steps in steps.items() if num_steps}
    if not steps:
        nearest = max(rows, key=lambda n: (Fraction(rows[n], batch.rows_per_step(n)), -n))
        raise PlanError(
            f"no length fills a step: length {nearest} comes nearest with {rows[nearest]:,} of the "
            f"{batch.rows_per_step(nearest)} rows of one; use a smaller batch, other lengths or a larger corpus."
        )
    return dict.fromkeys(steps, min(steps.values())) if curriculum.balanced else steps


def _within_budget(
    available: Mapping[int, int], weights: Mapping[int, int], steps: int | None, tokens: int | None
) -> dict[int, int]:
    """Steps of each length under the budget; lengths that get none are left out."""
    total_steps, total_tokens = sum(available.values()), _weigh(available, weights)
    for name, budget, total in (("steps", steps, total_steps), ("tokens", tokens, total_tokens)):
        if budget is not None and budget > total:
            raise PlanError(
                f"{name} {budget:,} is above the {total:,} that the documents offer ({total_steps:,} whole steps, "
                f"{total_tokens:,} tokens); use {name} {total:,} or less, more epochs or a larger corpus."
            )
    if tokens is not None:
        sizes = range(1, min(total_steps, tokens) + 1)  # a step has a token at least
        steps = bisect_right(sizes, tokens, key=lambda size: _weigh(take_steps(available, size), weights))
        if steps == 0:
            least = _weigh(take_steps(available, 1), weights)
            raise PlanError(
                f"tokens {tokens:,} is too small: the first step has {least:,} tokens; "
                f"use tokens {least:,} or more, or a smaller batch."
            )
    return dict(available) if steps is None else take_steps(available, steps)


def _weigh(steps: Mapping[int, int], weights: Mapping[int, int]) -> int:
    return sum(num_steps * weights[seq_len] for seq_len, num_steps in steps.items())


def take_steps(available: Mapping[int, int], num_steps: int) -> dict[int, int]:
    """The first `num_steps` of all steps sorted by (2 i + 1) / available, ties to the shorter; none left out as 0.

    At most floor((x n + 1) / 2) steps of a length with n rank at or before x. With x = (2 S - lengths) / total
    these come to S or up to one per length less, so that the rest is dealt one by one, however large S is.
    """
    lengths = sorted(available)
    total_steps = sum(available.values())
    ahead = 2 * num_steps - len(lengths)  # x * total_steps
    taken = {n: min(available[n], max(0, (ahead * available[n] + total_steps) // (2 * total_steps))) for n in lengths}
    for _ in range(num_steps - sum(taken.values())):
        open_lengths = [n for n in lengths if taken[n] < available[n]]
        taken[min(open_lengths, key=lambda n: (Fraction(2 * taken[n] + 1, available[n]), n))] += 1
    return {seq_len: taken[seq_len] for seq_len in lengths if taken[seq_len]}
