"""JAX: the plan's rows as int32 arrays and as global arrays, in one process and in two; a resume on another number."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import curriculum
from curriculum.adapters.jax import CurriculumLoader, rows_of_process
from curriculum.doctor.digests import row_digests, to_hex
from curriculum.errors import ConfigError, CursorError
from packed_dataset import write_packed_dataset
from ready_python import ready_python

ROOT = Path(__file__).parents[2]
STOP_BEFORE = 4


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 steps of 4 rows: length 8, then 16, then 8 again; labels of -100, several documents in a row, padding."""
    root = tmp_path_factory.mktemp("jax")
    write_packed_dataset(root)
    return root


@pytest.fixture(scope="module")
def python() -> Iterator[Path]:
    """After the imports of the documented script: JAX, which has looked for no device yet, and torchrun."""
    with ready_python(sys.executable, "train_jax", {**os.environ, "JAX_PLATFORMS": "cpu"}) as program:
        yield program


@pytest.fixture(scope="module")
def facts(python: Path, packed: Path) -> dict[str, Any]:
    """What `jax_probe` found out on four devices."""
    four = "--xla_force_host_platform_device_count=4"
    program = [str(python), str(ROOT / "tests" / "jax_probe.py"), str(packed)]
    (found,) = run(program, XLA_FLAGS=four, JAX_PLATFORMS="cpu")
    return found


@pytest.mark.parametrize(("world_size", "micro_batches"), [(1, 1), (2, 1), (2, 2), (1, 4)])
def test_the_ranks_together_get_every_row_of_every_step_once(packed: Path, world_size: int, micro_batches: int) -> None:
    reader = curriculum.open(packed)
    loaders = [
        CurriculumLoader(reader, rank=rank, world_size=world_size, micro_batches=micro_batches)
        for rank in range(world_size)
    ]
    assert {len(loader) for loader in loaders} == {8 * micro_batches}
    parts = iter([batch for batches in zip(*loaders, strict=True) for batch in batches])
    for step in range(len(reader)):
        of_step = [next(parts) for _ in range(world_size * micro_batches)]
        together = {name: np.concatenate([part[name] for part in of_step]) for name in of_step[0]}
        np.testing.assert_array_equal(together["inputs"], reader[step].inputs)
        np.testing.assert_array_equal(together["targets"], reader[step].targets)
        np.testing.assert_array_equal(together["mask"], reader[step].labels != -100)
        assert [together[name].dtype for name in ("inputs", "targets", "mask")] == [np.int32, np.int32, np.bool_]
    assert next(parts, None) is None


def test_arrays_are_the_callers_to_change(packed: Path) -> None:
    """JAX may keep numpy's memory: a later batch, or the mapped file, must not lie in it."""
    batches = list(CurriculumLoader(packed))
    for batch in batches:
        for array in batch.values():
            array[:] = 0
    assert next(iter(CurriculumLoader(packed)))["inputs"].any()


@pytest.mark.parametrize("cut", [{"micro_batches": 2}, {"micro_tokens": 16}])
def test_every_state_continues_with_the_next_batch_twice_in_a_row(packed: Path, cut: dict[str, int]) -> None:
    straight = list(CurriculumLoader(packed, **cut))
    reading = CurriculumLoader(packed, **cut)
    for index, _ in enumerate(reading, start=1):
        for _ in range(2):
            again = CurriculumLoader(packed, **cut)
            again.load_state_dict(json.loads(json.dumps(reading.state_dict())))
            rest = list(again) if index + 1 >= len(straight) else [next(iter(again))]
            wanted = straight[index : index + 1]
            assert [batch["inputs"].tolist() for batch in rest] == [batch["inputs"].tolist() for batch in wanted]


def test_a_state_at_a_step_border_fits_another_world_size(packed: Path) -> None:
    reader = curriculum.open(packed)
    saving = CurriculumLoader(reader, rank=1, world_size=4)
    for step, _ in enumerate(saving, start=1):
        if step == len(reader):
            break
        loading = CurriculumLoader(reader, rank=1, world_size=2, micro_batches=2)
        loading.load_state_dict(saving.state_dict())
        np.testing.assert_array_equal(next(iter(loading))["inputs"], reader[step].inputs[1:2])


def test_another_datasets_state_is_refused_with_both_ids(packed: Path, small_dataset: Path) -> None:
    loader, other = CurriculumLoader(packed), CurriculumLoader(small_dataset)
    with pytest.raises(CursorError) as refused:
        loader.load_state_dict(other.state_dict())
    assert loader.reader.id in str(refused.value)
    assert other.reader.id in str(refused.value)


def test_segments_and_positions_are_those_of_the_documents(packed: Path) -> None:
    """Segment numbers from 1 in every row, positions from 0 in every segment: what MaxText's attention masks by."""
    reader = curriculum.open(packed)
    several = 0
    for step, batch in enumerate(CurriculumLoader(reader, documents=True)):
        np.testing.assert_array_equal(batch["positions"], reader[step].varlen.position_ids)
        for positions, segments in zip(batch["positions"].tolist(), batch["segments"].tolist(), strict=True):
            number = 0
            for position, segment in zip(positions, segments, strict=True):
                number += position == 0
                assert segment == number
            several += number > 1
        assert batch["segments"].dtype == batch["positions"].dtype == np.int32
    assert several > 10


def test_a_jitted_step_is_compiled_once_for_each_shape(facts: dict[str, Any]) -> None:
    """`shapes` says beforehand how often, for compiling ahead of time; length 8 comes a second time after 16."""
    assert facts["shapes"] == [[[2, 8], [2, 16]]] * 2


@pytest.mark.parametrize("mesh", ["rows", "backwards", "rows and model", "rows and tokens", "replicated"])
def test_a_global_array_is_the_step_in_its_order_however_devices_are_ordered(
    facts: dict[str, Any], packed: Path, mesh: str
) -> None:
    reader = curriculum.open(packed)
    assert facts["global"][mesh]["inputs"] == [reader[step].inputs.tolist() for step in range(4)]
    assert facts["global"][mesh]["sharded"]
    assert facts["global"][mesh]["dtypes"] == ["int32", "int32", "bool"]


def test_the_rows_of_a_process_can_be_read_back_from_its_devices(facts: dict[str, Any], packed: Path) -> None:
    """What `curriculum doctor` compares with the plan."""
    assert facts["global"]["local"] == curriculum.open(packed)[0].inputs.tolist()


def test_the_first_loss_is_plain_cross_entropy(facts: dict[str, Any], packed: Path) -> None:
    """-100 as an index would silently be the 100th id from the end; the mask leaves those inputs out."""
    labels = curriculum.open(packed)[0].labels
    logits = np.random.default_rng(0).normal(size=(*labels.shape, 257))
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    losses = [
        -log_p[row, column, label]
        for row, of_row in enumerate(labels.tolist())
        for column, label in enumerate(of_row)
        if label != -100
    ]
    assert len(losses) < labels.size
    assert facts["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)


@dataclass(frozen=True)
class Devices:
    """A sharding of four devices: which rows of four each holds, and which devices are this process's."""

    rows: tuple[tuple[int, int], ...]
    mine: tuple[int, ...]
    device_set: frozenset[int] = frozenset(range(4))

    def addressable_devices_indices_map(self, shape: tuple[int, ...]) -> dict[int, tuple[slice, slice]]:
        assert shape == (4, 4)
        return {device: (slice(*self.rows[device]), slice(None)) for device in self.mine}

    def devices_indices_map(self, shape: tuple[int, ...]) -> dict[int, tuple[slice, slice]]:
        return Devices(self.rows, tuple(range(4))).addressable_devices_indices_map(shape)


FOUR = ((0, 1), (1, 2), (2, 3), (3, 4))


@pytest.mark.parametrize(
    ("rows", "mine", "rank_and_world"),
    [
        (FOUR, (2, 3), (1, 2)),  # two processes of two devices
        (FOUR, (0, 1), (0, 2)),
        (FOUR, (3,), (3, 4)),  # one device each
        (FOUR[::-1], (0, 1), (1, 2)),  # the mesh runs the other way: process 0 holds the last rows
        (((0, 2), (2, 4), (0, 2), (2, 4)), (0, 1), (0, 1)),  # a model over two processes: each holds all rows
        (((0, 2), (0, 2), (2, 4), (2, 4)), (2, 3), (1, 2)),  # a model over the devices of a process
        (((0, 4),) * 4, (1,), (0, 1)),  # replicated
    ],
)
def test_the_sharding_says_which_rows_a_process_reads(
    rows: Any, mine: tuple[int, ...], rank_and_world: tuple[int, int]
) -> None:
    """By process number alone, a mesh in another order would put rows where the plan has others."""
    assert rows_of_process(Devices(rows, mine)) == rank_and_world


def test_rows_that_are_not_neighbours_are_refused() -> None:
    with pytest.raises(ConfigError, match="rows 0 to 1, 2 to 3 of every 4"):
        rows_of_process(Devices(FOUR, (0, 2)))


def test_more_devices_than_rows_are_refused_before_the_first_step(packed: Path) -> None:
    """In place of an error of XLA at the first batch that does not divide."""
    with pytest.raises(CursorError, match="have 2 rows, and the sharding cuts rows into 4 parts"):
        CurriculumLoader(packed, sharding=Devices(FOUR, (0, 1)), micro_batches=2)


def test_a_rank_beside_a_sharding_is_refused(packed: Path) -> None:
    with pytest.raises(ConfigError, match="the sharding says which rows"):
        CurriculumLoader(packed, rank=1, world_size=2, sharding=Devices(FOUR, (0, 1)))


def test_numpy_alone_imports_neither_jax_nor_torch(packed: Path) -> None:
    program = (
        "import sys; from curriculum.adapters.jax import CurriculumLoader;"
        "next(iter(CurriculumLoader(sys.argv[1]))); assert not {'jax', 'torch'} & set(sys.modules)"
    )
    run([sys.executable, "-c", program, str(packed)])


def run(command: list[str], **variables: str) -> list[dict[str, Any]]:
    """The JSON objects that a program printed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def train(
    python: Path, folder: Path, dataset: Path, name: str, processes: int, checkpoint: str, *options: str
) -> tuple[list[dict[str, Any]], list[list[dict[str, Any]]]]:
    """One run of the documented script: what it printed, and what the devices of each process held, call by call."""
    launch = [str(python)]
    if processes > 1:
        launch += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    script = ["-m", "curriculum.examples.train_jax", str(dataset), "--checkpoint", str(folder / checkpoint)]
    variables = {"CURRICULUM_DOCTOR_LOG": str(folder / name), "JAX_PLATFORMS": "cpu", "PYTHON_EXEC": str(python)}
    lines = run([*launch, *script, *options], **variables)
    return lines, [list(records(folder / name / f"rank-{rank:05d}.jsonl")) for rank in range(processes)]


def records(log: Path) -> Iterator[dict[str, Any]]:
    return map(json.loads, log.read_text().splitlines())


def rows_of(of_ranks: list[list[dict[str, Any]]], first_step: int, micro_batches: int) -> dict[int, str]:
    """Digests of the rows that reached the model, per step, in the order of micro-batch and rank."""
    steps: dict[int, str] = {}
    for call, together in enumerate(zip(*of_ranks, strict=True)):
        step = first_step + call // micro_batches
        steps[step] = steps.get(step, "") + "".join(record["inputs"] for record in together)
    return steps


def test_two_processes_train_the_plan_and_resume_on_two_or_one(python: Path, packed: Path, tmp_path: Path) -> None:
    """The documented script: 2 processes to the middle, on with 2 and accumulation, from the same file with 1."""
    first = train(python, tmp_path, packed, "log-first", 2, "checkpoint", "--stop-before", str(STOP_BEFORE))
    shutil.copytree(tmp_path / "checkpoint", tmp_path / "copy")
    on_two = train(python, tmp_path, packed, "log-two", 2, "checkpoint", "--micro-batches", "2")
    on_one = train(python, tmp_path, packed, "log-one", 1, "copy")

    reader = curriculum.open(packed)
    wanted = {step: to_hex(row_digests(np.asarray(reader[step].inputs, np.int64))) for step in range(len(reader))}
    rest = {step: rows for step, rows in wanted.items() if step >= STOP_BEFORE}
    assert rows_of(first[1], 0, 1) | rest == wanted
    assert rows_of(on_two[1], STOP_BEFORE, 2) == rest
    assert rows_of(on_one[1], STOP_BEFORE, 1) == rest

    losses = [[line["loss"] for line in lines] for lines, _ in (first, on_two, on_one)]
    assert [line["step"] for line in first[0] + on_two[0]] == list(range(len(reader)))
    assert losses[1] == pytest.approx(losses[2], rel=1e-4)
    assert losses[1][-1] < losses[0][0]
    for record in [of_rank[0] for of_rank in first[1]]:
        assert record["loss"] == pytest.approx(record["cross_entropy"], rel=1e-5)
