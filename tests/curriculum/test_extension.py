"""A finished run that goes on: nothing of it changes, and the plan says where it was extended."""

from __future__ import annotations

from typing import Any

import pytest

from curriculum.errors import DataError, PlanError
from curriculum.extension import Extension, added_sources, extend_plan, lone_sources, read_extensions
from curriculum.json_object import JsonObject
from curriculum.plan import Batch, Budget, Plan, compile_plan
from curriculum.schedule import Pacing, parse_phases

A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


def small_plan() -> Plan:
    return compile_plan(
        pacing=Pacing(name="linear", start_length=8, max_length=24, multiple_of=8),
        warmup=4,
        batch=Batch(tokens=96, rows_multiple_of=1),
        budget=Budget(steps=7),
    )


def test_new_steps_are_a_phase_of_their_own() -> None:
    """The shards of the old ones must not be touched, so their phases must not grow."""
    plan = small_plan()
    longer = extend_plan(extend_plan(plan, 5), 2)
    assert longer.phases[:3] == plan.phases
    assert [(p.seq_len, p.rows_per_step, p.num_steps) for p in longer.phases[3:]] == [(24, 4, 5), (24, 4, 2)]
    assert longer.order == (*plan.order, (3, 5), (4, 2))
    assert (longer.total_steps, longer.num_shapes, longer.num_extensions) == (14, 3, 2)
    assert longer.schedule == {**plan.schedule, "extensions": 2}
    for step in range(plan.total_steps):
        assert longer.locate(step) == plan.locate(step)
    assert longer.locate(7) == (3, 0)
    assert Plan.from_json(longer.to_json()) == longer


@pytest.mark.parametrize("text", ["8:3,16:2,8:3", "16:5,8:2"])
def test_schedules_that_do_not_end_at_the_maximum_are_extended_there(text: str) -> None:
    """Cyclic and falling schedules too go on at the maximum length."""
    plan = compile_plan(pacing=parse_phases(text), warmup=None, batch=Batch(rows=2), budget=Budget())
    longer = extend_plan(plan, 4)
    assert (longer.phases[-1].seq_len, longer.phases[-1].num_steps) == (16, 4)
    assert Plan.from_json(longer.to_json()) == longer


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schedule": {"extensions": 0}}, "equal seq_len"),
        ({"schedule": {"extensions": "1"}}, "equal seq_len"),
        ({"schedule": {"extensions": 4}}, "extensions"),
        ({"schedule": {"extensions": None}}, "equal seq_len"),
        ({"order": [[0, 2], [1, 1], [3, 5], [2, 4]]}, "order"),
    ],
)
def test_a_damaged_extension_is_refused(change: dict[str, Any], message: str) -> None:
    """A plan that lies about where it was extended would make verify prove the wrong windows."""
    obj = extend_plan(small_plan(), 5).to_json()
    for key, value in change.items():
        if isinstance(value, dict):
            obj[key] = {name: entry for name, entry in {**obj[key], **value}.items() if entry is not None}
        else:
            obj[key] = value
    with pytest.raises(DataError, match=message):
        Plan.from_json(obj)


def test_what_cannot_be_extended_says_so() -> None:
    with pytest.raises(PlanError, match="1 or more"):
        extend_plan(small_plan(), 0)


def test_the_lineage_follows_the_plan() -> None:
    """A cursor of the dataset before is good only up to where that one ended."""
    longer = extend_plan(extend_plan(small_plan(), 5), 2)
    entries = [{"parent": A, "first_step": 7}, {"parent": B, "first_step": 12}]
    expected = (Extension(parent=A, first_step=7), Extension(parent=B, first_step=12))
    assert read_extensions([JsonObject(entry, "build") for entry in entries], longer) == expected
    with pytest.raises(DataError, match=r"begin at steps \[7\], the plan's at \[7, 12\]"):
        read_extensions([JsonObject(entries[0], "build")], longer)


@pytest.mark.parametrize("parent", ["a", "sha256:a", f"{B}\n", f"sha256:{'B' * 64}", A])
def test_parents_are_ids_and_all_different(parent: str) -> None:
    """They are shown on cards and terminals, and looked up by the cursors of the datasets before."""
    longer = extend_plan(extend_plan(small_plan(), 5), 2)
    entries = [{"parent": A, "first_step": 7}, {"parent": parent, "first_step": 12}]
    with pytest.raises(DataError, match=r"the parent of extension 1 is '.*, expected the id of a dataset"):
        read_extensions([JsonObject(entry, "build") for entry in entries], longer)


ADDED = (
    Extension(parent="a", first_step=7),
    Extension(parent="b", first_step=9, source="new"),
    Extension(parent="c", first_step=12),
    Extension(parent="d", first_step=13, source="more"),
    Extension(parent="e", first_step=15, source="new"),
)


def test_phases_know_which_source_they_are_cut_from() -> None:
    """Built from one source, all phases are cut from one alone; built from several, only those of new text."""
    assert added_sources(ADDED) == ("new", "more")
    assert lone_sources(ADDED, ["corpus", "new", "more"], 7) == (0, 0, 0, 1, 0, 2, 1)
    assert lone_sources(ADDED, ["a", "b", "new", "more"], 7) == (None, None, None, 2, None, 3, 2)
    assert lone_sources((), ["corpus"], 3) == (0, 0, 0)
    assert lone_sources((), ["a", "b"], 3) == (None, None, None)


def test_a_source_is_written_only_where_there_is_one() -> None:
    """The ids of datasets that were extended before there was new text stay what they are."""
    longer = extend_plan(extend_plan(small_plan(), 5), 2)
    entries = [{"parent": A, "first_step": 7}, {"parent": B, "first_step": 12, "source": "new"}]
    read = read_extensions([JsonObject(entry, "build") for entry in entries], longer)
    assert [entry.to_json() for entry in read] == entries
    with pytest.raises(DataError, match="source is 5"):
        read_extensions([JsonObject({**entries[1], "source": 5}, "build")], longer)
