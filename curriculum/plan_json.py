"""Reading a plan object that somebody else wrote.

In:  whatever a JSON parser returned.
Out: `PlanFields`: every value has its type and range. The numbers that follow from others are compared by
     `require_same_numbers` with what the plan itself computes, the schedule by `require_schedule`.

Guarantees: unknown and missing keys, `true` or 1.0 in place of 1, text, null, negative and enormous numbers,
and sums that do not add up are refused with a `DataError` that names the place.

    {"phases": [{"seq_len": true, ...}]}   ->   plan: phases[0]: seq_len is True, expected an integer ...
"""

import re
from itertools import chain
from typing import Any, NamedTuple

from curriculum.errors import DataError, PlanError
from curriculum.explicit_phases import SEPARATE
from curriculum.json_object import JsonObject
from curriculum.limits import MAX_RUNS
from curriculum.phase import EXTENSIONS
from curriculum.printable import shown
from curriculum.request import shaped_warmup
from curriculum.schedule import MAX_SEQ_LEN, MAX_TOTAL, PACING_NAMES, ExplicitPhases, Pacing

FORMAT = "curriculum-plan"
VERSION = 1
REMEDY = "The plan was damaged or edited: fetch or build it again."

MAX_PHASES = 1 << 17
"""A schedule has half as many lengths at most; extensions add some."""
MAX_KEYS = 32
"""Of a schedule: it has ten at most today."""
MAX_NAME = 256
_KEY = re.compile(r"[a-z][a-z0-9_]{0,63}")

Runs = tuple[tuple[int, int], ...]  # (seq_len, num_steps)


class PlanFields(NamedTuple):
    """The values that define a plan; everything else in the object follows from them."""

    mode: str
    max_seq_len: int
    schedule: dict[str, int | str]
    phases: tuple[tuple[int, int, int], ...]  # seq_len, rows_per_step, num_steps
    order: tuple[tuple[int, int], ...]  # phase index, num_steps


def read_plan_fields(obj: object) -> PlanFields:
    """Types, ranges, keys, format and version of a plan object."""
    plan = JsonObject(obj, "plan")
    plan.one_of("format", (FORMAT,))
    version = plan.integer("version", least=1)
    if version > VERSION:
        raise DataError(f"plan: version is {version}, this release reads {VERSION}. Install a newer release.")
    for key in ("total_steps", "total_tokens", "num_shapes", "dropped_tokens"):
        plan.integer(key, most=MAX_TOTAL)
    fields = PlanFields(
        mode=plan.string("mode", most=MAX_NAME),
        max_seq_len=plan.integer("max_seq_len", least=1, most=MAX_SEQ_LEN),
        schedule=_read_schedule(plan.value("schedule")),
        phases=tuple(_read_phase(phase) for phase in plan.objects("phases", most=MAX_PHASES)),
        order=_read_order(plan.array("order")),
    )
    plan.no_others()
    return fields


def _read_schedule(value: object) -> dict[str, int | str]:
    """Where the phases came from. Later releases may add keys; `require_schedule` judges those it knows."""
    schedule = JsonObject(value, "plan: schedule")
    schedule.string("name")
    entries: dict[str, int | str] = {}
    for key, entry in schedule.raw.items():
        if len(entries) == MAX_KEYS or not _KEY.fullmatch(key):
            raise DataError(f"plan: schedule: the key {shown(key)} is none that a schedule can have. {REMEDY}")
        text = schedule.string(key, most=MAX_NAME) if isinstance(entry, str) else ""
        if not text.isprintable():
            raise DataError(f"plan: schedule: {key} is {shown(text)}, expected printable text. {REMEDY}")
        entries[key] = text if isinstance(entry, str) else schedule.integer(key, most=MAX_TOTAL)
    return entries


def _read_phase(phase: JsonObject) -> tuple[int, int, int]:
    for key in ("num_rows", "num_tokens"):
        phase.integer(key, most=MAX_TOTAL)
    fields = (
        phase.integer("seq_len", least=1, most=MAX_SEQ_LEN),
        phase.integer("rows_per_step", least=1, most=MAX_SEQ_LEN),
        phase.integer("num_steps", least=1, most=MAX_TOTAL),
    )
    phase.no_others()
    return fields


def _read_order(runs: list[Any]) -> tuple[tuple[int, int], ...]:
    if len(runs) > MAX_RUNS:
        raise DataError(
            f"plan: order has {len(runs):,} runs, this release reads {MAX_RUNS:,} at most. Install a newer release, or "
            f"build the dataset again with a larger batch."
        )
    if set(map(type, runs)) <= {list} and set(map(len, runs)) <= {2}:
        numbers = list(chain.from_iterable(runs))
        if set(map(type, numbers)) <= {int} and (not numbers or 0 <= min(numbers) <= max(numbers) <= MAX_TOTAL):
            return tuple(zip(numbers[::2], numbers[1::2], strict=True))  # a million at once
    return tuple(_read_run(run, f"plan: order[{i}]") for i, run in enumerate(runs))


def _read_run(value: object, where: str) -> tuple[int, int]:
    pair = value if isinstance(value, list) and len(value) == 2 else [value]
    numbers = [n for n in pair if isinstance(n, int) and not isinstance(n, bool) and 0 <= n <= MAX_TOTAL]
    if len(numbers) != 2:
        raise DataError(f"{where} is not [phase index, number of steps], two integers. {REMEDY}")
    return numbers[0], numbers[1]


def require_schedule(schedule: dict[str, int | str], runs: Runs) -> None:
    """A schedule whose every key this release knows must give exactly these `(seq_len, num_steps)` runs.

    Names of later releases, of installed pacing functions (never loaded because a file says so) and of document mode
    are left alone: readers need phases and order only.
    """
    if EXTENSIONS in schedule:
        extensions = schedule[EXTENSIONS]
        if not isinstance(extensions, int) or extensions < 1:
            raise DataError(
                f"plan: schedule: extensions is {shown(extensions)}, expected 1 or more, or no such key. {REMEDY}"
            )
        schedule = {key: value for key, value in schedule.items() if key != EXTENSIONS}
        runs = runs[: len(runs) - extensions]
    name, keys = schedule["name"], set(schedule)
    try:
        if name == ExplicitPhases.NAME and keys - {SEPARATE} == {"name", "max_length", "multiple_of"}:
            expected, described = _explicit(dict(schedule), runs)
        elif name in PACING_NAMES and _ENDS <= keys <= _ENDS | _OPTIONAL:
            expected, described = _paced(dict(schedule), runs)
        else:
            return
    except (PlanError, TypeError) as error:
        raise DataError(f"plan: schedule cannot work: {error} {REMEDY}") from error
    if expected != runs or described != schedule:
        raise DataError(f"plan: phases and order are not what schedule {name!r} gives. {REMEDY}")


_ENDS = {"name", "start_length", "max_length", "multiple_of"}
_OPTIONAL = {"degree", "stages", "length_warmup_steps", "max_shapes", "shapes_by"}
_MOST_COSTS = 2_000_000  # about a second of the dynamic program


def _explicit(entries: dict[str, Any], runs: Runs) -> tuple[Runs, dict[str, int | str]]:
    phases = ExplicitPhases(steps_by_length=runs, multiple_of=entries["multiple_of"], separate=SEPARATE in entries)
    return phases.runs, phases.describe()


def _paced(entries: dict[str, Any], runs: Runs) -> tuple[Runs, dict[str, int | str]]:
    """The runs and the schedule object that a pacing gives, for as many steps as `runs` have."""
    warmup_steps = entries.pop("length_warmup_steps", 1)
    shapes = {key: entries.pop(key) for key in ("max_shapes", "shapes_by") if key in entries}
    pacing = Pacing(**entries)
    described: dict[str, int | str] = pacing.describe(warmup_steps) | shapes
    total_steps = sum(num_steps for _, num_steps in runs)
    if not shapes:
        if warmup_steps > total_steps:
            raise PlanError(f"length_warmup_steps {warmup_steps} is above the total of {total_steps} steps.")
        return pacing.runs(total_steps, warmup_steps), described
    if len(shapes) == 1:
        raise PlanError("max_shapes and shapes_by stand together or not at all.")
    num_lengths, max_shapes = len(pacing.lengths), shapes["max_shapes"]
    if max_shapes < num_lengths and num_lengths.bit_length() * num_lengths * max_shapes > _MOST_COSTS:
        return runs, described  # opening a dataset must not take minutes because its manifest says so
    # Only the number of steps at the maximum is free: the budget decided it.
    *before, (top, _) = shaped_warmup(pacing, warmup_steps, **shapes)
    return (*before, (top, total_steps - sum(num_steps for _, num_steps in before))), described


def require_same_numbers(found: object, expected: object, where: str = "plan") -> None:
    """Both are plan objects whose values have the right types; the first number that differs is named."""
    if found == expected:
        return
    if isinstance(found, dict) and isinstance(expected, dict):
        for key, value in expected.items():
            require_same_numbers(found[key], value, f"{where}: {key}")
    elif isinstance(found, list) and isinstance(expected, list):
        for i, (left, right) in enumerate(zip(found, expected, strict=True)):
            require_same_numbers(left, right, f"{where}[{i}]")
    elif found != expected:
        raise DataError(f"{where} is {found}, but the phases and the order give {expected}. {REMEDY}")
