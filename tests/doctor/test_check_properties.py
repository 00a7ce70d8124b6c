"""Correct runs are always fine, and one wrong micro-batch is always found, whatever the world size and the restarts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import curriculum
from curriculum.cursor import Cursor
from curriculum.doctor.digests import from_hex, row_digests, to_hex
from curriculum.doctor.planned_rows import PlannedRows
from curriculum.reader import Reader
from doctor.fake_runs import Ranks, check, kinds, ranks_of
from packed_dataset import write_packed_dataset

STEPS = 8


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """8 steps of 4 rows; a length that comes back."""
    root = tmp_path_factory.mktemp("packed") / "dataset"
    root.mkdir()
    write_packed_dataset(root)
    return curriculum.open(root)


@st.composite
def shares(draw: st.DrawFn) -> dict[str, Any]:
    """World size and micro-batches that divide 4 rows, fixed or by tokens."""
    world_size = draw(st.sampled_from([1, 2, 4]))
    if draw(st.booleans()):
        return {"world_size": world_size, "micro_tokens": draw(st.sampled_from([16, 32, 64]))}
    return {
        "world_size": world_size,
        "micro_batches": draw(st.sampled_from([n for n in (1, 2, 4) if 4 % (n * world_size) == 0])),
    }


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, int, dict[str, Any]]]:
    """(start, stop, share) of one run and up to two resumes; a resume may train steps again."""
    runs, start, reached = [], 0, 0
    for _ in range(draw(st.integers(1, 3))):
        stop = draw(st.integers(start + 1, STEPS))
        runs.append((start, stop, draw(shares())))
        reached = max(reached, stop)
        start = draw(st.integers(1, min(reached, STEPS - 1)))
    return runs


def _ranks(reader: Reader, history: list[tuple[int, int, dict[str, Any]]]) -> list[Ranks]:
    return [ranks_of(reader, start=start, stop=stop, **share) for start, stop, share in history]


@given(history=histories(), told=st.booleans())
def test_a_correct_run_is_fine(reader: Reader, history: list[tuple[int, int, dict[str, Any]]], told: bool) -> None:
    """Any stops and restarts, other world sizes and micro-batches after them; told where, or not."""
    starts, stops, _ = zip(*history, strict=True)
    options = {"resumed_at": starts[1:], "stop_steps": stops} if told else {}
    report = check(reader, *_ranks(reader, history), **options)
    assert [run.start for run in report.runs] == [(start, 0) for start in starts]
    assert [run.stop for run in report.runs] == [(stop, 0) for stop in stops]
    assert kinds(report) == []


@settings(max_examples=300)
@given(history=histories(), data=st.data())
def test_one_wrong_micro_batch_is_found(
    reader: Reader, history: list[tuple[int, int, dict[str, Any]]], data: st.DataObject
) -> None:
    """Swapped with another, left out, given twice, or one token of it changed: of any rank, anywhere."""
    runs = _ranks(reader, history)
    of_run = data.draw(st.integers(0, len(runs) - 1))
    examples = data.draw(st.sampled_from(runs[of_run]))
    at = data.draw(st.integers(0, len(examples) - 1))
    match data.draw(st.sampled_from(["swap", "drop", "twice", "input", "label"])):
        case "swap":
            other = data.draw(st.integers(0, len(examples) - 1))
            assume(not np.array_equal(examples[at]["input_ids"], examples[other]["input_ids"]))
            examples[at], examples[other] = examples[other], examples[at]
        case "drop":
            del examples[at]
        case "twice":
            examples.insert(at, examples[at])
        case what:
            key = {"input": "input_ids", "label": "labels"}[what]
            array = examples[at][key].copy()
            place = data.draw(st.integers(0, array.size - 1))
            array.flat[place] = 7 if array.flat[place] != 7 else 8
            examples[at] = {**examples[at], key: array}
    starts, stops, _ = zip(*history, strict=True)
    report = check(reader, *runs, resumed_at=starts[1:], stop_steps=stops)
    assert of_run in {finding.run for finding in report.findings}


@given(world_size=st.sampled_from([1, 2]), step=st.integers(0, STEPS - 1))
def test_a_resume_inside_a_step_is_fine_where_a_micro_batch_had_ended(
    reader: Reader, world_size: int, step: int
) -> None:
    """The same world size and micro-batches: the trainer kept its gradients."""
    share = {"world_size": world_size, "micro_batches": 2}
    middle = Cursor(reader.id, step, 2)
    report = check(reader, ranks_of(reader, stop=middle, **share), ranks_of(reader, start=middle, **share))
    assert kinds(report) == []
    assert report.runs[1].start == (step, 2)


def test_rows_are_numbered_in_training_order(reader: Reader) -> None:
    """Exhaustive: number and place are inverse, digests are those of the batches, also across steps."""
    planned = PlannedRows(reader)
    assert len(planned) == 32
    flat = [(step, row) for step in range(STEPS) for row in range(4)]
    assert [planned.place(number) for number in range(32)] == flat
    assert [planned.number(step, row) for step, row in flat] == list(range(32))
    assert planned.place(33) == (8, 1)
    every = np.concatenate([row_digests(reader[step].inputs) for step in range(STEPS)])
    for start in range(32):
        for stop in range(start + 1, 33):
            found = planned.digests(start, stop - start)
            assert found is not None
            assert found.tolist() == every[start:stop].tolist()
    assert planned.digests(31, 2) is None
    assert planned.find(every[9:12], near=0) == 9


def test_digests_are_stable() -> None:
    """Literal values: logs of one version are compared with datasets by another."""
    digests = row_digests(np.array([[5, 6], [6, 5], [5, 6]], np.uint16))
    assert to_hex(digests) == "d64ce308ef1df3cdb43b244683e842a5d64ce308ef1df3cd"
    assert row_digests(np.array([[5, 6]], np.int64)).tolist() == digests[:1].tolist()
    assert row_digests(np.array([[5, 6, 0]])).tolist() != digests[:1].tolist()
    assert from_hex(to_hex(digests)).tolist() == digests.tolist()


@given(st.data())
def test_a_digest_sees_every_token(data: st.DataObject) -> None:
    """One token changed, two tokens swapped, a token more: another digest; -100 is a value like any other."""
    tokens = st.integers(-100, 70_000)
    row = np.array(data.draw(st.lists(tokens, min_size=1, max_size=40)))
    at, value = data.draw(st.integers(0, len(row) - 1)), data.draw(tokens)
    assume(row[at] != value)
    other = row.copy()
    other[at] = value
    [first, second] = row_digests(np.stack([row, other]))
    assert first != second
    assert row_digests(np.append(row, 0)[None])[0] != first


def test_many_rows_are_hashed_like_few() -> None:
    """The chunks that keep temporaries in the cache change nothing."""
    rows = np.arange(3000 * 1000, dtype=np.uint32).reshape(3000, 1000)
    assert row_digests(rows)[[0, 1049, 1048, 2999]].tolist() == row_digests(rows[[0, 1049, 1048, 2999]]).tolist()
