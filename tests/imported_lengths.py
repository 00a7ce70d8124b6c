"""The length of every step of what an importer returned, through options and plan, as a build would see it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curriculum.schedule import parse_phases
from pipeline.importers import Imported
from pipeline.option_sources import load_options
from pipeline.requested_plan import compile_requested


def imported_lengths(imported: Imported, num_steps: int) -> list[int]:
    """Lengths of steps 0..num_steps-1 at least; a run is never shorter than its warmup."""
    options = imported.options
    flags = {"steps": options.get("steps", max(num_steps, _warmup_steps(options)))}
    batch = {} if "batch_tokens" in options else {"batch_rows": 1}
    plan = compile_requested(load_options(None, flags, {**batch, **options}), None)
    return expanded([(plan.phases[index].seq_len, steps) for index, steps in plan.order])


def _warmup_steps(options: dict[str, Any]) -> int:
    if "phases" in options:
        return 1 + parse_phases(options["phases"], options["multiple_of"]).total_steps
    warmup_steps: int = options.get("length_warmup_steps", 1)
    return warmup_steps


def phase_lengths(imported: Imported, num_steps: int) -> list[int]:
    """The same from the text of the phases alone: schedules of 8,000 lengths would take seconds to plan."""
    phases = parse_phases(imported.options["phases"], imported.options["multiple_of"])
    assert phases.open_length is not None
    lengths = expanded(phases.steps_by_length)
    return lengths + [phases.open_length] * (num_steps - len(lengths))


def expanded(runs: Sequence[tuple[int, int]]) -> list[int]:
    """[(8, 2), (16, 1)] -> [8, 8, 16]"""
    return [length for length, steps in runs for _ in range(steps)]


def written(folder: Path, name: str, text: str) -> Path:
    """A configuration file with this text."""
    path = folder / name
    path.write_text(text, "utf-8")
    return path
