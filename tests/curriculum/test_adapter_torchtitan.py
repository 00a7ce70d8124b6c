"""torchtitan 0.3, its own Trainer and classes: the plan's rows in the plan's order, and a resume on another world size.

torchtitan cannot be installed beside this environment's `datasets`: everything runs in one of its own
(`titan_environment`), in three training runs on CPU processes and one probe.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import curriculum
from curriculum.batch import Batch
from curriculum.doctor.digests import row_digests, to_hex
from packed_dataset import write_packed_dataset
from ready_python import ready_python
from titan_environment import ROOT, run_titan, titan_python

INSTALLS = titan_python
STOP_BEFORE = 4
Run = tuple[list[dict[str, Any]], list[list[dict[str, Any]]]]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 steps of 4 rows: length 8, then 16, then 8 again; labels of -100, several documents in a row, padding."""
    root = tmp_path_factory.mktemp("titan") / "dataset"
    root.mkdir()
    write_packed_dataset(root)
    return root


@pytest.fixture(scope="module")
def varying(build_small: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Constant tokens per step: 32 rows of 8, 16 of 16 ..."""
    out = tmp_path_factory.mktemp("titan") / "varying"
    build_small(out, batch_rows=None, batch_tokens=256, rows_multiple_of=4, steps=12, multiple_of=8)
    return out


@pytest.fixture(scope="module")
def python() -> Iterator[Path]:
    """torchtitan's, after the imports of the documented script."""
    with ready_python(titan_python(), "train_torchtitan") as program:
        yield program


@pytest.fixture(scope="module")
def facts(python: Path, dataset: Path, varying: Path) -> dict[str, Any]:
    """What `titan_probe` found out."""
    (found,) = run_titan(python, str(ROOT / "tests" / "titan_probe.py"), str(dataset), str(varying))
    return found


def test_without_torchtitan_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchtitan", None)
    with pytest.raises(ImportError, match=r"pip install 'torch>=2\.13' torchtitan"):
        importlib.import_module("curriculum.adapters.torchtitan")


def share(whole: Batch, rank: int, world_size: int, micro_batches: int) -> list[slice]:
    """The rows of a step that a rank takes, one slice per micro-batch: the rule of the documentation, written anew."""
    rows = len(whole) // (world_size * micro_batches)
    return [slice(first * rows, (first + 1) * rows) for first in range(rank, world_size * micro_batches, world_size)]


def digest(array: np.ndarray[Any, Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array, np.int64).tobytes()).hexdigest()


def test_every_rank_gets_its_rows_of_every_step_whatever_the_world(facts: dict[str, Any], dataset: Path) -> None:
    """A row more, less or twice would train another curriculum than the plan, without any message."""
    reader = curriculum.open(dataset)
    for found in facts["passes"]:
        whole = [(reader[step], rows) for step in range(len(reader)) for rows in share(reader[step], *found["world"])]
        assert found["inputs"] == [digest(batch.inputs[rows]) for batch, rows in whole]
        assert found["labels"] == [digest(batch.labels[rows]) for batch, rows in whole]
        assert found["positions"] == [digest(batch.varlen.position_ids[rows]) for batch, rows in whole]
        assert found["kinds"] == ["torch.int64 True"]


def test_the_cursor_of_every_step_continues_on_another_world_size(facts: dict[str, Any], dataset: Path) -> None:
    """Saved by 2 ranks, loaded by 4, and a second time from there."""
    reader = curriculum.open(dataset)
    assert [state["step"] for state, _ in facts["resumed"]] == list(range(1, len(reader)))
    for state, firsts in facts["resumed"]:
        assert state == {"dataset_id": reader.id, "step": state["step"], "row": 0}
        whole = reader[state["step"]]
        assert firsts == [digest(whole.inputs[share(whole, 1, 4, 1)[0]])] * 2


def test_it_is_a_loader_of_torchtitan_but_not_the_one_that_fixes_the_world_size(facts: dict[str, Any]) -> None:
    assert facts["is_torchtitans"] == [True, False]


def test_configure_counts_the_micro_batches_of_a_step(facts: dict[str, Any]) -> None:
    """torchtitan accumulates global_batch_size / (local_batch_size x ranks) micro-batches: 2 in both cases."""
    assert facts["settings"] == {
        "local_batch_size": 1,
        "global_batch_size": 4,
        "seq_len": 16,
        "steps": [8, 8],
        "disable_cuda_graphs": True,
    }
    assert (facts["settings_varying"]["local_batch_size"], facts["settings_varying"]["global_batch_size"]) == (1, 4)


def test_micro_batches_follow_a_step_that_changes_its_rows(facts: dict[str, Any], varying: Path) -> None:
    plan = curriculum.open(varying).plan
    rows = [plan.phases[plan.locate(step)[0]].rows_per_step for step in range(plan.total_steps)]
    assert len(set(rows)) > 1
    assert facts["rows_varying"] == [count // 4 for count in rows for _ in range(2)]


def test_positions_can_run_through_whole_rows(facts: dict[str, Any]) -> None:
    assert facts["plain_positions"] == [list(range(8))] * 4


def test_after_the_last_step_there_is_nothing_left(facts: dict[str, Any]) -> None:
    """torchtitan then says that the data ran out; starting over would train a second epoch unasked."""
    assert facts["left_at_the_end"] == 0


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("local_batch_size", "set training.local_batch_size=1 and training.global_batch_size=4"),
        ("in_a_step", "torchtitan's gradient accumulation is not the 2 micro-batches"),
        ("other_dataset", "the cursor belongs to dataset sha256:"),
        ("world_size", "Products that divide every remaining phase: 1, 2, 4."),
        ("pipeline", "pipeline_parallel_degree is 2"),
        ("sequence", "cut rows into 16 equal parts, and lengths 8 do"),
    ],
)
def test_what_would_train_other_steps_than_the_plan_is_refused(facts: dict[str, Any], case: str, says: str) -> None:
    assert says in facts["refusals"][case]


def train(python: Path, dataset: Path, name: str, processes: int, checkpoint: Path, *options: str) -> Run:
    """One run of the documented script: what it printed, and what `curriculum.doctor.record` noted on each rank."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    script = ["-m", "curriculum.examples.train_torchtitan", str(dataset), "--checkpoint", str(checkpoint)]
    folder = checkpoint.parent
    lines = run_titan(python, *launch, *script, *options, more={"CURRICULUM_DOCTOR_LOG": str(folder / name)})
    of_ranks = [(folder / name / f"rank-{rank:05d}.jsonl").read_text().splitlines() for rank in range(processes)]
    return lines, [[json.loads(line) for line in of] for of in of_ranks]


def rows_of(run: Run, first_step: int, micro_batches: int) -> dict[int, str]:
    """Digests of the rows that reached the model, per step, in the order of micro-batch and rank."""
    steps: dict[int, str] = {}
    for call, of_ranks in enumerate(zip(*run[1], strict=True)):
        step = first_step + call // micro_batches
        steps[step] = steps.get(step, "") + "".join(record["inputs"] for record in of_ranks)
    return steps


def test_the_trainer_trains_the_plan_and_resumes_on_two_ranks_or_one(
    python: Path, dataset: Path, tmp_path: Path
) -> None:
    """The documented script: 2 ranks to the middle, on with 2 and accumulation, and from the same checkpoint with 1."""
    saved = tmp_path / "checkpoint"
    first = train(python, dataset, "log-first", 2, saved, "--stop-before", str(STOP_BEFORE))
    shutil.copytree(saved, tmp_path / "copy")
    on_two = train(python, dataset, "log-two", 2, saved, "--micro-batches", "2")
    on_one = train(python, dataset, "log-one", 1, tmp_path / "copy")

    reader = curriculum.open(dataset)
    wanted = {step: to_hex(row_digests(np.asarray(reader[step].inputs, np.int64))) for step in range(len(reader))}
    rest = {step: rows for step, rows in wanted.items() if step >= STOP_BEFORE}
    assert rows_of(first, 0, 1) | rest == wanted
    assert rows_of(on_two, STOP_BEFORE, 2) == rest
    assert rows_of(on_one, STOP_BEFORE, 1) == rest

    # Weights and optimizer came back too: however the rows were shared, the losses are the same.
    losses = [[line["loss"] for line in run[0]] for run in (first, on_two, on_one)]
    assert [line["step"] for line in first[0] + on_two[0]] == list(range(len(reader)))
    assert losses[1] == pytest.approx(losses[2], rel=1e-3)
    assert losses[1][-1] < losses[0][0]

    # The first loss is plain cross-entropy of the labels: not of labels shifted twice, nor with -100 as a target.
    begin = [of_rank[0] for of_rank in first[1]]
    for record in begin:
        assert record["loss"] == pytest.approx(record["cross_entropy"], rel=1e-4)
        # Before any training the two may be near each other by chance; the loss is the one and not the other.
        error, of_shifted = (abs(record["loss"] - record[f"cross_entropy{of}"]) for of in ("", "_of_shifted"))
        assert of_shifted > 10 * error, (error, of_shifted)
    targets = [int((reader[0].labels[rows] >= 0).sum()) for rows in (slice(0, 2), slice(2, 4))]
    mean = sum(record["loss"] * count for record, count in zip(begin, targets, strict=True)) / sum(targets)
    assert losses[0][0] == pytest.approx(mean, rel=1e-4)
