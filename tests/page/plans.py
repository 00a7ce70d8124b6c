"""Plans and mixtures of a few phases, for figures that need no dataset."""

from __future__ import annotations

from collections.abc import Sequence

from curriculum.mixture import Mixture
from curriculum.phase import Phase
from curriculum.plan import Plan
from pipeline.source_use import MixtureUse


def plan_of(*runs: tuple[int, int], extensions: int = 0) -> Plan:
    """Every (length, steps) a phase of its own, as where weights are listed one by one; the last ones are added."""
    added = {"extensions": extensions} if extensions else {}
    return Plan(
        mode="segment",
        max_seq_len=max(length for length, _ in runs),
        schedule={"name": "phases", "separate": 1, **added},
        phases=tuple(Phase(seq_len=length, rows_per_step=10, num_steps=steps) for length, steps in runs),
        order=tuple((number, steps) for number, (_, steps) in enumerate(runs)),
    )


def use_of_rows(plan: Plan, names: Sequence[str], rows: Sequence[Sequence[int]]) -> MixtureUse:
    """Rows of each source in each phase, out of 10 a step."""
    counts = tuple(
        tuple(phase.num_rows * count // sum(of_phase) for count in of_phase)
        for phase, of_phase in zip(plan.phases, rows, strict=True)
    )
    return MixtureUse(
        plan=plan,
        mixture=Mixture(weights=tuple(map(tuple, rows))),
        names=tuple(names),
        rows=counts,
        sizes=None,
    )
