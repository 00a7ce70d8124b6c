"""The plan: a schedule, a batch and a budget, compiled to whole steps and rows.

In:  pacing (or explicit phases), warmup, `Batch`, `Budget` and mode; or the JSON object of an earlier plan.
Out: a frozen `Plan` of integers: its phases, the order in which they are visited, and arithmetic over both.

Guarantees: needs no data and no floating point; equal requests give equal objects and digests on every
machine; whatever cannot work is refused before any data is read; `Plan.from_json(plan.to_json()) == plan`,
and an object whose numbers do not add up is refused.

    compile_plan(pacing=parse_phases("8:2,16:1,8:1"), warmup=None, batch=Batch(rows=4), budget=Budget())
    phases  (8, 4 rows, 3 steps)  (16, 4 rows, 1 step)      order  (0, 2) (1, 1) (0, 1)
    step        0       1       2       3                   160 trained tokens: 32 + 32 + 64 + 32
    locate   (0, 0)  (0, 4)  (1, 0)  (0, 8)                 phase index and first row in that phase
"""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import gcd, isqrt
from typing import Any, NamedTuple, Self

from curriculum.budget import Batch, Budget
from curriculum.errors import CursorError, DataError, PlanError
from curriculum.explicit_phases import SEPARATE
from curriculum.phase import EXTENSIONS, Phase, require_order, require_phases
from curriculum.plan_json import (
    FORMAT,
    REMEDY,
    VERSION,
    read_plan_fields,
    require_same_numbers,
    require_schedule,
)
from curriculum.request import Request, Runs, require_mode
from curriculum.resolve import resolve
from curriculum.schedule import MAX_TOTAL, ExplicitPhases, Pacing, Warmup

__all__ = ["Batch", "Budget", "Phase", "Plan", "check_request", "compile_plan"]


class _Run(NamedTuple):
    """One entry of `order` with everything that precedes it."""

    phase: int
    first_step: int
    first_row: int  # in its phase
    rows_per_step: int
    tokens_before: int
    tokens_per_step: int
    consumed_before: int
    consumed_per_step: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Steps, rows and tokens of a whole training run; see the module's example."""

    mode: str
    max_seq_len: int
    schedule: Mapping[str, int | str] = field(hash=False)  # where the phases came from; not needed to read
    phases: tuple[Phase, ...]
    order: tuple[tuple[int, int], ...]  # (phase index, num_steps)
    # Cumulative sums over `order`: locate() sits in the reader's budget of 10 us a step.
    _runs: tuple[_Run, ...] = field(init=False, repr=False, compare=False)
    _first_steps: tuple[int, ...] = field(init=False, repr=False, compare=False)
    _total_steps: int = field(init=False, repr=False, compare=False)
    _packed: str | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_mode(self.mode)
        separate, extensions = SEPARATE in self.schedule, self.num_extensions
        require_phases(self.phases, self.max_seq_len, separate=separate, extensions=extensions)
        require_order(self.phases, self.order, separate=separate, extensions=extensions)
        runs = tuple(self._cumulate())
        object.__setattr__(self, "_runs", runs)
        object.__setattr__(self, "_first_steps", tuple(run.first_step for run in runs))
        object.__setattr__(self, "_total_steps", sum(phase.num_steps for phase in self.phases))
        for name, total in (("steps", self.total_steps), ("tokens", self.consumed_tokens)):
            if total > MAX_TOTAL:
                raise PlanError(
                    f"the plan comes to {total:,} {name}; at most {MAX_TOTAL:,} are allowed, so shorten it."
                )

    def _cumulate(self) -> Iterator[_Run]:
        step = tokens = consumed = 0
        next_row = [0] * len(self.phases)
        # A million runs: what belongs to a phase is asked once.
        of_phase = [
            (phase.rows_per_step, phase.tokens_per_step, phase.rows_per_step * self.consumed_per_row(index))
            for index, phase in enumerate(self.phases)
        ]
        for index, num_steps in self.order:
            rows_per_step, tokens_per_step, consumed_per_step = of_phase[index]
            yield _Run(
                index,
                step,
                next_row[index],
                rows_per_step,
                tokens,
                tokens_per_step,
                consumed,
                consumed_per_step,
            )
            step += num_steps
            next_row[index] += num_steps * rows_per_step
            tokens += num_steps * tokens_per_step
            consumed += num_steps * consumed_per_step

    @property
    def total_steps(self) -> int:
        return self._total_steps

    @property
    def total_tokens(self) -> int:
        """Trained targets."""
        return self.tokens_at(self._total_steps)

    @property
    def consumed_tokens(self) -> int:
        """Stream tokens used up, K of design.md section 5: trained + dropped."""
        return self.consumed_at(self._total_steps)

    @property
    def dropped_tokens(self) -> int:
        """What truncation cuts off; 0 in all other modes."""
        return self.consumed_tokens - self.total_tokens

    @property
    def num_extensions(self) -> int:
        """The last so many phases were added to a finished run (`curriculum.extension`)."""
        count = self.schedule.get(EXTENSIONS, 0)
        return count if isinstance(count, int) else 0

    @property
    def num_shapes(self) -> int:
        """Distinct `[rows_per_step, seq_len]` of global batches: one compilation or graph capture each."""
        return len({(phase.rows_per_step, phase.seq_len) for phase in self.phases})

    @property
    def tokens_per_step(self) -> tuple[int, ...]:
        """Trained tokens of one step, for each phase."""
        return tuple(phase.tokens_per_step for phase in self.phases)

    @property
    def min_tokens_per_step(self) -> int:
        """The figure for `Batch.is_underfull`."""
        return min(self.tokens_per_step)

    @property
    def world_sizes(self) -> tuple[int, ...]:
        """All numbers of ranks (times micro-batches) that divide the rows of every phase."""
        return self.divisors(0)

    def remaining_phases(self, step: int) -> tuple[int, ...]:
        """The phases that are visited at or after `step`, each once, in that order; none at the end."""
        if step == self._total_steps:
            return ()
        now = self._run_before(step)
        later = self._runs[bisect_right(self._first_steps, step) :]
        return tuple(dict.fromkeys(run.phase for run in (now, *later)))

    def divisors(self, step: int) -> tuple[int, ...]:
        """All numbers that divide the rows of every phase from `step` on, growing; none at the end."""
        common = gcd(*(self.phases[index].rows_per_step for index in self.remaining_phases(step)))
        small = [n for n in range(1, isqrt(common) + 1) if common % n == 0]
        return tuple(sorted({*small, *(common // n for n in small)}))

    def consumed_per_row(self, phase_index: int) -> int:
        """Stream tokens that one row of this phase uses up; in document and best-fit mode its slots for targets."""
        return self.max_seq_len if self.mode == "truncate" else self.phases[phase_index].seq_len

    def locate(self, step: int) -> tuple[int, int]:
        """`(phase index, first row in that phase)` of a step."""
        if not 0 <= step < self._total_steps:
            raise CursorError(f"step {step} is outside this plan; choose one from 0 to {self._total_steps - 1}.")
        run = self._runs[bisect_right(self._first_steps, step) - 1]
        return run.phase, run.first_row + (step - run.first_step) * run.rows_per_step

    def runs_between(self, first_step: int, stop_step: int) -> tuple[tuple[int, int], ...]:
        """`(phase index, number of steps)` runs of steps `first_step <= step < stop_step`, in order."""
        runs = []
        at = bisect_right(self._first_steps, first_step) - 1
        while first_step < stop_step:
            phase, num_steps = self.order[at]
            stop = min(self._first_steps[at] + num_steps, stop_step)
            runs.append((phase, stop - first_step))
            first_step, at = stop, at + 1
        return tuple(runs)

    def __reduce__(self) -> tuple[Any, ...]:
        """As one text, which is parsed once per process: a plan goes along with every task of a build."""
        if self._packed is None:
            shapes = [(phase.seq_len, phase.rows_per_step, phase.num_steps) for phase in self.phases]
            fields = [self.mode, self.max_seq_len, dict(self.schedule), shapes, self.order]
            object.__setattr__(self, "_packed", json.dumps(fields))
        return _unpacked, (self._packed,)

    def tokens_at(self, step: int) -> int:
        """Trained tokens before `step`; `tokens_at(total_steps)` is the total."""
        run = self._run_before(step)
        return run.tokens_before + (step - run.first_step) * run.tokens_per_step

    def consumed_at(self, step: int) -> int:
        """Stream tokens used up before `step`; window borders are chosen by it."""
        run = self._run_before(step)
        return run.consumed_before + (step - run.first_step) * run.consumed_per_step

    def _run_before(self, step: int) -> _Run:
        if not 0 <= step <= self._total_steps:
            raise CursorError(f"step {step} is outside this plan; choose one from 0 to {self._total_steps}.")
        return self._runs[bisect_right(self._first_steps, step) - 1]

    def to_json(self) -> dict[str, Any]:
        """The object that `curriculum plan --json` prints and the manifest embeds."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "mode": self.mode,
            "total_steps": self.total_steps,
            "total_tokens": self.total_tokens,
            "max_seq_len": self.max_seq_len,
            "num_shapes": self.num_shapes,
            "dropped_tokens": self.dropped_tokens,
            "schedule": dict(self.schedule),
            "phases": [phase.to_json() for phase in self.phases],
            "order": [list(run) for run in self.order],
        }

    @classmethod
    def from_json(cls, obj: object) -> Self:
        """The plan of a JSON object from anywhere; `DataError` unless it is exactly what `to_json` writes."""
        fields = read_plan_fields(obj)
        try:
            plan = cls(
                mode=fields.mode,
                max_seq_len=fields.max_seq_len,
                schedule=fields.schedule,
                phases=tuple(Phase(seq_len=n, rows_per_step=r, num_steps=s) for n, r, s in fields.phases),
                order=fields.order,
            )
        except PlanError as error:
            raise DataError(f"plan: {error} {REMEDY}") from error
        require_schedule(fields.schedule, tuple((plan.phases[i].seq_len, n) for i, n in plan.order))
        require_same_numbers(obj, plan.to_json())
        return plan

    def digest(self) -> str:
        """sha256 of the canonical JSON (sorted keys, no spaces, UTF-8): equal plans, equal digests."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


@lru_cache(maxsize=4)
def _unpacked(text: str) -> Plan:
    mode, max_seq_len, schedule, shapes, order = json.loads(text)
    return Plan(
        mode=mode,
        max_seq_len=max_seq_len,
        schedule=schedule,
        phases=tuple(Phase(seq_len=n, rows_per_step=r, num_steps=s) for n, r, s in shapes),
        order=tuple((phase, num_steps) for phase, num_steps in order),
    )


def check_request(
    *,
    pacing: Pacing | ExplicitPhases,
    warmup: Warmup | None,
    batch: Batch,
    budget: Budget,
    mode: str = "segment",
    max_shapes: int | None = None,
    shapes_by: str = "relative",
) -> None:
    """Refuse, before any data is read, what `compile_plan` would refuse however large the corpus is."""
    request = Request(
        pacing=pacing,
        warmup=warmup,
        batch=batch,
        budget=budget,
        mode=mode,
        max_shapes=max_shapes,
        shapes_by=shapes_by,
    )
    if not request.needs_corpus:
        _assemble(request)


def compile_plan(
    *,
    pacing: Pacing | ExplicitPhases,
    warmup: Warmup | None,
    batch: Batch,
    budget: Budget,
    mode: str = "segment",
    max_shapes: int | None = None,
    shapes_by: str = "relative",
) -> Plan:
    """Solve the budget and lay out the phases.

    Args:
        pacing: `Pacing`, or `ExplicitPhases`, which fix the total themselves unless the last is `LEN:*`.
        warmup: fraction of the total steps, a number of steps, or `TokenWarmup`; None for constant and explicit phases.
        batch: rows or tokens per step.
        budget: steps, trained tokens, or one pass over a corpus whose size must then be known.
        mode: "segment" (every token is trained on), "truncate" (rows are cut at the maximum and shortened) or
            "best-fit" (documents are packed whole); mode "document" has plans of its own.
        max_shapes: at most so many lengths, chosen to stay nearest to the pacing; None for as many as it has.
        shapes_by: what nearest means, "relative" or "absolute".

    Raises:
        PlanError: the request cannot work; the message names a setting that does.
    """
    return _assemble(
        Request(
            pacing=pacing,
            warmup=warmup,
            batch=batch,
            budget=budget,
            mode=mode,
            max_shapes=max_shapes,
            shapes_by=shapes_by,
        )
    )


def _assemble(request: Request) -> Plan:
    """Equal (seq_len, rows) entries become one phase, visited again through order, unless they are separate."""
    runs, schedule = resolve(request)
    if SEPARATE in schedule:
        return _lay_out(request, schedule, runs, tuple((index, steps) for index, (_, steps) in enumerate(runs)))
    num_steps: dict[int, int] = {}
    for seq_len, steps in runs:
        num_steps[seq_len] = num_steps.get(seq_len, 0) + steps
    index_of = {seq_len: index for index, seq_len in enumerate(num_steps)}
    order = tuple((index_of[seq_len], steps) for seq_len, steps in runs)
    return _lay_out(request, schedule, tuple(num_steps.items()), order)


def _lay_out(
    request: Request, schedule: dict[str, int | str], phases: Runs, order: tuple[tuple[int, int], ...]
) -> Plan:
    return Plan(
        mode=request.mode,
        max_seq_len=request.pacing.max_length,
        schedule=schedule,
        phases=tuple(
            Phase(seq_len=seq_len, rows_per_step=request.batch.rows_per_step(seq_len), num_steps=steps)
            for seq_len, steps in phases
        ),
        order=order,
    )
