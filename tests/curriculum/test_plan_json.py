"""A plan survives its JSON, and a JSON object that was edited anywhere is refused."""

import copy
import json
from fractions import Fraction
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curriculum.budget import Batch, Budget
from curriculum.errors import DataError
from curriculum.plan import Plan, compile_plan
from curriculum.schedule import Pacing, parse_phases

LINEAR = Pacing(name="linear", start_length=8, max_length=1024)


def linear_plan(**change: Any) -> Plan:
    request: dict[str, Any] = {"pacing": LINEAR, "warmup": Fraction(3, 10), "batch": Batch(rows=16)}
    return compile_plan(**(request | {"budget": Budget(steps=1000)} | change))


GOOD = linear_plan(
    pacing=Pacing(name="linear", start_length=8, max_length=16), warmup=2, budget=Budget(steps=3)
).to_json()
CYCLE = compile_plan(pacing=parse_phases("8:2,16:1,8:1"), warmup=None, batch=Batch(rows=4), budget=Budget()).to_json()

DELETE = object()

HOSTILE: list[tuple[str, list[Any], Any]] = [
    ("format", ["format"], "curriculum-dataset"),
    ("version 2", ["version"], 2),
    ("version bool", ["version"], True),
    ("version text", ["version"], "1"),
    ("mode", ["mode"], "pack"),
    ("mode null", ["mode"], None),
    ("total_steps", ["total_steps"], 4),
    ("total_steps bool", ["total_steps"], True),
    ("total_tokens", ["total_tokens"], 1),
    ("total_tokens float", ["total_tokens"], 640.0),
    ("max_seq_len", ["max_seq_len"], 24),
    ("num_shapes", ["num_shapes"], 3),
    ("dropped_tokens", ["dropped_tokens"], 1),
    ("dropped_tokens negative", ["dropped_tokens"], -1),
    ("no total_steps", ["total_steps"], DELETE),
    ("no order", ["order"], DELETE),
    ("unknown key", ["comment"], "hello"),
    ("schedule list", ["schedule"], []),
    ("schedule no name", ["schedule", "name"], DELETE),
    ("schedule name", ["schedule", "name"], 7),
    ("schedule other name", ["schedule", "name"], "cosine"),
    ("schedule float", ["schedule", "degree"], 1.0),
    ("schedule bool", ["schedule", "degree"], True),
    ("schedule nested", ["schedule", "degree"], {"x": 1}),
    ("schedule start", ["schedule", "start_length"], 16),
    ("schedule max", ["schedule", "max_length"], 24),
    ("schedule multiple", ["schedule", "multiple_of"], 3),
    ("schedule warmup", ["schedule", "length_warmup_steps"], 3),
    ("schedule warmup 0", ["schedule", "length_warmup_steps"], 0),
    ("schedule huge", ["schedule", "max_length"], 2**62),
    ("schedule degree", ["schedule", "degree"], 2),
    ("phases empty", ["phases"], []),
    ("phases object", ["phases"], {}),
    ("phase number", ["phases", 0], 8),
    ("phase unknown key", ["phases", 0, "note"], 1),
    ("phase no seq_len", ["phases", 0, "seq_len"], DELETE),
    ("seq_len 0", ["phases", 0, "seq_len"], 0),
    ("seq_len negative", ["phases", 0, "seq_len"], -8),
    ("seq_len bool", ["phases", 0, "seq_len"], True),
    ("seq_len float", ["phases", 0, "seq_len"], 8.0),
    ("seq_len huge", ["phases", 0, "seq_len"], 2**31),
    ("seq_len other", ["phases", 0, "seq_len"], 12),
    ("seq_len of the other phase", ["phases", 0, "seq_len"], 16),
    ("rows huge", ["phases", 0, "rows_per_step"], 2**31 - 1),
    ("rows other", ["phases", 0, "rows_per_step"], 17),
    ("num_steps", ["phases", 0, "num_steps"], 2),
    ("num_steps null", ["phases", 0, "num_steps"], None),
    ("num_rows", ["phases", 0, "num_rows"], 17),
    ("num_rows float", ["phases", 0, "num_rows"], 16.0),
    ("num_tokens", ["phases", 0, "num_tokens"], 129),
    ("phase too many", ["phases", 2], {**GOOD["phases"][1], "seq_len": 24}),
    ("order empty", ["order"], []),
    ("order text", ["order"], "0,1"),
    ("order run text", ["order", 0], "01"),
    ("order run short", ["order", 0], [0]),
    ("order run long", ["order", 0], [0, 1, 2]),
    ("order bool index", ["order", 0], [False, 1]),
    ("order bool steps", ["order", 0], [0, True]),
    ("order index", ["order", 1], [2, 2]),
    ("order negative index", ["order", 1], [-1, 2]),
    ("order zero steps", ["order", 1], [1, 0]),
    ("order more steps", ["order", 1], [1, 3]),
    ("order absurd steps", ["order", 1], [1, 2**62 + 1]),
    ("order twice in a row", ["order"], [[0, 1], [1, 1], [1, 1]]),
    ("schedule cut short", ["schedule"], {**GOOD["schedule"], "max_length": 24, "length_warmup_steps": 4}),
    ("order not by first visit", ["order"], [[1, 2], [0, 1]]),
    ("order skips a phase", ["order"], [[0, 3]]),
]


def edited(good: dict[str, Any], path: list[Any], value: Any) -> dict[str, Any]:
    plan = copy.deepcopy(good)
    parent: Any = plan
    for key in path[:-1]:
        parent = parent[key]
    if value is DELETE:
        del parent[path[-1]]
    elif isinstance(parent, list) and path[-1] == len(parent):
        parent.append(value)
    else:
        parent[path[-1]] = value
    return plan


def test_the_plans_that_the_edits_start_from_are_accepted() -> None:
    assert GOOD["order"] == [[0, 1], [1, 2]]
    for good in (GOOD, CYCLE):
        assert Plan.from_json(json.loads(json.dumps(good))).to_json() == good


@pytest.mark.parametrize(("path", "value"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_an_edited_plan_is_refused(path: list[Any], value: Any) -> None:
    with pytest.raises(DataError) as refusal:
        Plan.from_json(edited(GOOD, path, value))
    assert str(refusal.value).startswith("plan")
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize("path", [["schedule", "max_length"], ["schedule", "multiple_of"]])
def test_an_edited_schedule_of_explicit_phases_is_refused(path: list[Any]) -> None:
    with pytest.raises(DataError):
        Plan.from_json(edited(CYCLE, path, 24))


@pytest.mark.parametrize("value", [None, [], "plan", 7, True, {}, {"format": "curriculum-plan"}])
def test_what_is_no_plan_at_all_is_refused(value: object) -> None:
    with pytest.raises(DataError):
        Plan.from_json(value)


def test_a_schedule_key_of_a_later_release_does_not_lock_readers_out() -> None:
    """Readers need phases and order only; `requires` in the manifest is how a later release locks them out."""
    later = edited(GOOD, ["schedule", "smoothness"], 8)
    assert Plan.from_json(later).schedule["smoothness"] == 8
    assert Plan.from_json(edited(GOOD, ["schedule", "name"], "grow-p2")).schedule["name"] == "grow-p2"


SHAPED = linear_plan(max_shapes=4).to_json()
STEPPED = linear_plan(pacing=Pacing(name="step", start_length=8, max_length=24, stages=2)).to_json()
CURVED = linear_plan(pacing=Pacing(name="cosine", start_length=8, max_length=24)).to_json()


def test_plans_of_every_kind_of_schedule_are_accepted() -> None:
    for good in (SHAPED, STEPPED, CURVED):
        assert Plan.from_json(json.loads(json.dumps(good))).to_json() == good


@pytest.mark.parametrize(
    ("good", "path", "value"),
    [
        (SHAPED, ["schedule", "max_shapes"], 5),
        (SHAPED, ["schedule", "max_shapes"], 1),
        (SHAPED, ["schedule", "max_shapes"], "4"),
        (SHAPED, ["schedule", "max_shapes"], 2**62),
        (SHAPED, ["schedule", "max_shapes"], DELETE),
        (SHAPED, ["schedule", "shapes_by"], DELETE),
        (SHAPED, ["schedule", "shapes_by"], "absolute"),
        (SHAPED, ["schedule", "shapes_by"], "nearest"),
        (SHAPED, ["schedule", "shapes_by"], 7),
        (SHAPED, ["schedule", "length_warmup_steps"], 301),
        (SHAPED, ["schedule", "start_length"], 1024),
        (STEPPED, ["schedule", "stages"], 3),
        (STEPPED, ["schedule", "stages"], "2"),
        (STEPPED, ["schedule", "stages"], DELETE),
        (STEPPED, ["schedule", "degree"], 1),
        (STEPPED, ["schedule", "name"], "sine"),
        (CURVED, ["schedule", "name"], "sine"),
        (CURVED, ["schedule", "stages"], 2),
        (CURVED, ["schedule", "length_warmup_steps"], 299),
    ],
)
def test_an_edited_schedule_of_any_kind_is_refused(good: dict[str, Any], path: list[Any], value: Any) -> None:
    with pytest.raises(DataError):
        Plan.from_json(edited(good, path, value))


def test_an_edited_shaped_plan_is_refused_but_for_the_steps_at_the_maximum() -> None:
    """The budget decides how many steps the maximum gets; the other runs follow from T alone."""
    longer, other = (
        linear_plan(pacing=parse_phases(text), warmup=None, budget=Budget()).to_json()
        for text in (phases_text(SHAPED, more=(0, 0, 0, 7)), phases_text(SHAPED, more=(1, -1, 0, 0)))
    )
    assert Plan.from_json({**longer, "schedule": SHAPED["schedule"]}).total_steps == SHAPED["total_steps"] + 7
    with pytest.raises(DataError, match="not what schedule 'linear' gives"):
        Plan.from_json({**other, "schedule": SHAPED["schedule"]})


def phases_text(plan: dict[str, Any], more: tuple[int, ...]) -> str:
    steps = [f"{p['seq_len']}:{p['num_steps'] + n}" for p, n in zip(plan["phases"], more, strict=True)]
    return ",".join(steps)


def test_a_schedule_that_would_take_minutes_to_check_does_not_hold_a_reader_up() -> None:
    wide = Pacing(name="linear", start_length=8, max_length=8 * 65_536).describe(10**6)
    plan = edited(GOOD, ["schedule"], {**wide, "max_shapes": 1000, "shapes_by": "relative"})
    started = perf_counter()
    assert Plan.from_json(plan).total_steps == 3
    assert perf_counter() - started < 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**63) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3),
    max_leaves=4,
)


def paths_of(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for key, child in entries for path in paths_of(child, (*at, key)))]


@given(good=st.sampled_from([GOOD, CYCLE]), where=st.integers(0, 10**6), value=json_values)
def test_any_single_edit_is_refused_or_gives_a_plan_that_writes_itself(
    good: dict[str, Any], where: int, value: Any
) -> None:
    """Nothing but DataError ever comes out of hostile input, and nothing is silently corrected."""
    paths = paths_of(good)[1:]
    obj = edited(good, list(paths[where % len(paths)]), value)
    try:
        plan = Plan.from_json(obj)
    except DataError:
        return
    assert json.dumps(plan.to_json()) == json.dumps(obj)
