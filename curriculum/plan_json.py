"""Reading a plan object that somebody else wrote.

In:  whatever a JSON parser returned.
Out: `PlanFields`: every value has its type and range. The numbers that follow from others are compared by
     `require_same_numbers` with what the plan itself computes, the schedule by `require_schedule`.

Guarantees: unknown and missing keys, `true` or 1.0 in place of 1, text, null, negative and enormous numbers,
and sums that do not add up are refused with a `DataError` that names the place.

    {"phases": [{"seq_len": true, ...}]}   ->   plan: phases[0]: seq_len is True, expected an integer ...
"""

from typing import Any, NamedTuple

from curriculum.errors import DataError, PlanError
from curriculum.json_object import JsonObject
from curriculum.schedule import MAX_SEQ_LEN, MAX_TOTAL, ExplicitPhases, Pacing

FORMAT = "curriculum-plan"
VERSION = 1
REMEDY = "The plan was damaged or edited: fetch or build it again."


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
        mode=plan.string("mode"),
        max_seq_len=plan.integer("max_seq_len", least=1, most=MAX_SEQ_LEN),
        schedule=_read_schedule(plan.value("schedule")),
        phases=tuple(_read_phase(phase) for phase in plan.objects("phases")),
        order=tuple(_read_run(run, f"plan: order[{i}]") for i, run in enumerate(plan.array("order"))),
    )
    plan.no_others()
    return fields


def _read_schedule(value: object) -> dict[str, int | str]:
    """Where the phases came from. Later releases may add keys; `require_schedule` judges those it knows."""
    schedule = JsonObject(value, "plan: schedule")
    schedule.string("name")
    entries = value if isinstance(value, dict) else {}
    return {
        key: schedule.string(key) if isinstance(entry, str) else schedule.integer(key, most=MAX_TOTAL)
        for key, entry in entries.items()
    }


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


def _read_run(value: object, where: str) -> tuple[int, int]:
    pair = value if isinstance(value, list) and len(value) == 2 else [value]
    numbers = [n for n in pair if isinstance(n, int) and not isinstance(n, bool) and 0 <= n <= MAX_TOTAL]
    if len(numbers) != 2:
        raise DataError(f"{where} is not [phase index, number of steps], two integers. {REMEDY}")
    return numbers[0], numbers[1]


def require_schedule(schedule: dict[str, int | str], runs: tuple[tuple[int, int], ...]) -> None:
    """A schedule whose every key this release knows must give exactly these `(seq_len, num_steps)` runs."""
    entries: dict[str, Any] = dict(schedule)
    warmup_steps = entries.pop("length_warmup_steps", 1)
    total_steps = sum(num_steps for _, num_steps in runs)
    try:
        if set(entries) == {"name", "max_length", "multiple_of"} and entries["name"] == ExplicitPhases.NAME:
            phases = ExplicitPhases(steps_by_length=runs, multiple_of=entries["multiple_of"])
            expected, described = phases.runs, phases.describe()
        elif set(entries) in ({*_PACING_KEYS}, {*_PACING_KEYS, "degree"}):
            pacing = Pacing(**entries)
            expected, described = pacing.runs(total_steps, warmup_steps), pacing.describe(warmup_steps)
        else:
            return
    except (PlanError, TypeError) as error:
        raise DataError(f"plan: schedule cannot work: {error} {REMEDY}") from error
    if expected != runs or described != schedule or warmup_steps > total_steps:
        raise DataError(f"plan: phases and order are not what schedule {entries['name']!r} gives. {REMEDY}")


_PACING_KEYS = ("name", "start_length", "max_length", "multiple_of")


def require_same_numbers(found: object, expected: object, where: str = "plan") -> None:
    """Both are plan objects whose values have the right types; the first number that differs is named."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for key, value in expected.items():
            require_same_numbers(found[key], value, f"{where}: {key}")
    elif isinstance(found, list) and isinstance(expected, list):
        for i, (left, right) in enumerate(zip(found, expected, strict=True)):
            require_same_numbers(left, right, f"{where}[{i}]")
    elif found != expected:
        raise DataError(f"{where} is {found}, but the phases and the order give {expected}. {REMEDY}")
