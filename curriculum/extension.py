"""A finished run that goes on: more steps at the maximum length, after those that there are.

In:  a plan, and how many steps more.   Out: the longer plan; the lineage that a manifest keeps.
Guarantee: nothing before the first new step changes: phases, order, rows and their places stay what they were. The new
steps are a phase of their own, so that the shards of the old ones are left alone.

    8:100, 16:50 with 20 steps more     ->  phases 8:100, 16:50, 16:20; schedule ... "extensions": 1

The new steps go on in the sources that the dataset was built from, or are rows of one source that was added: new text.

    sources a, b; extended, then by `new`, then extended     phases of a and b, of a and b, of `new` alone, of a and b
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from curriculum.errors import DataError, PlanError
from curriculum.json_object import JsonObject
from curriculum.phase import EXTENSIONS, Phase
from curriculum.plan import Plan
from curriculum.printable import shown

DATASET_ID = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Extension:
    """One time that a dataset was extended."""

    parent: str
    """id of the dataset before"""
    first_step: int
    """the first step that it did not have"""
    source: str | None = None
    """the source that its rows are of, added by it or by an extension before; None, and no key, where they go on in
    those that the dataset was built from"""

    def to_json(self) -> dict[str, Any]:
        """The object of the manifest."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def added_sources(extensions: Sequence[Extension]) -> tuple[str, ...]:
    """Names of the sources that the dataset was not built from, in the order in which they came."""
    return tuple(dict.fromkeys(entry.source for entry in extensions if entry.source is not None))


def lone_sources(extensions: Sequence[Extension], names: Sequence[str], num_phases: int) -> tuple[int | None, ...]:
    """[num_phases] index of the source that all rows of a phase are cut from alone; None where several are mixed.

    Args:
        extensions: the last so many phases.
        names: of all sources, added ones last.
        num_phases: of the plan.
    """
    built = 0 if len(names) - len(added_sources(extensions)) == 1 else None
    of_extensions = [built if entry.source is None else names.index(entry.source) for entry in extensions]
    return (*(built for _ in range(num_phases - len(of_extensions))), *of_extensions)


def extend_plan(plan: Plan, num_steps: int) -> Plan:
    """The plan with so many steps more at its maximum length, with as many rows as its last steps of that length.

    Raises:
        PlanError: document mode, whose steps are counted from the documents; or no step more.
    """
    if plan.mode == "document":
        raise PlanError(
            "A dataset of mode document cannot be extended: how many rows of each length there are, all documents "
            "decide together. Build it anew with more steps."
        )
    if num_steps < 1:
        raise PlanError(f"steps is {num_steps}; an extension has 1 or more.")
    rows = rows_at_end(plan)
    count = plan.num_extensions + 1
    return Plan(
        mode=plan.mode,
        max_seq_len=plan.max_seq_len,
        schedule={**plan.schedule, EXTENSIONS: count},
        phases=(*plan.phases, Phase(seq_len=plan.max_seq_len, rows_per_step=rows, num_steps=num_steps)),
        order=(*plan.order, (len(plan.phases), num_steps)),
    )


def rows_at_end(plan: Plan) -> int:
    """Rows of a step at the maximum length."""
    return next(
        plan.phases[phase].rows_per_step
        for phase, _ in reversed(plan.order)
        if plan.phases[phase].seq_len == plan.max_seq_len
    )


def read_extensions(objects: Iterable[JsonObject], plan: Plan, where: str = "build") -> tuple[Extension, ...]:
    """The lineage in a manifest: one entry per extension of the plan, in order.

    Raises:
        DataError: it contradicts the plan.
    """
    entries = []
    for o in objects:
        entries.append(
            Extension(
                parent=o.string("parent", most=80),
                first_step=o.integer("first_step", least=1),
                source=o.string("source", most=64) if "source" in o.raw else None,
            )
        )
        o.no_others()
    count = plan.num_extensions
    phases = plan.phases[len(plan.phases) - count :]
    expected, first = [], plan.total_steps - sum(phase.num_steps for phase in phases)
    for phase in phases:
        expected.append(first)
        first += phase.num_steps
    if [entry.first_step for entry in entries] != expected:
        raise DataError(
            f"{where}: extensions begin at steps {shown([entry.first_step for entry in entries])}, the plan's at "
            f"{shown(expected)}. "
            f"The manifest was edited or damaged: copy it again."
        )
    _require_ids([entry.parent for entry in entries], where)
    return tuple(entries)


def _require_ids(parents: Sequence[str], where: str) -> None:
    """People see them, and a cursor is told by them how far it is good."""
    seen: set[str] = set()
    for number, parent in enumerate(parents):
        if not DATASET_ID.fullmatch(parent) or parent in seen:
            raise DataError(
                f"{where}: the parent of extension {number} is {shown(parent)}, expected the id of a dataset, "
                f"'sha256:' and 64 digits, that no extension before it has. The manifest was edited or damaged: copy "
                f"it again."
            )
        seen.add(parent)
