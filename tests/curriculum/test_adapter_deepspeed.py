"""DeepSpeed resumes exactly, after every micro-batch, with other accumulation steps; other rows are refused.

The engines of this file are real and alone: a process group of one, on the CPU. Nothing is imported before a test asks,
because DeepSpeed chooses its accelerator when it is imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import curriculum
from curriculum.doctor.check import check_runs
from curriculum.doctor.run_log import load_run
from curriculum.errors import ConfigError, CursorError
from curriculum.reader import Reader
from packed_dataset import write_packed_dataset
from pipeline.build import BuildResult
from ready_python import ready_python

pytestmark = [
    pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed"),
    pytest.mark.filterwarnings("ignore:.torch.distributed.* is deprecated:FutureWarning"),  # ZeRO 3 on torch 2.13
    pytest.mark.filterwarnings("ignore:.torch.jit.script.* is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script.* is not supported in Python 3.14:DeprecationWarning"),
]
STEPS = 8
"""Of the packed dataset: 4 rows each, of 8, 16 and again 8 tokens."""
VOCAB_SIZE = 257


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """Rows with unequal numbers of labels: a mean of means would show."""
    root = tmp_path_factory.mktemp("packed") / "dataset"
    write_packed_dataset(root)
    return curriculum.open(root)


@pytest.fixture(scope="module")
def deepspeed() -> Iterator[Any]:
    """The library, with a process group of this process alone."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"DS_ACCELERATOR": "cpu", "LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1"}.items():
            patch.setenv(name, value)
        import deepspeed
        import deepspeed.ops
        from deepspeed.utils import groups

        patch.setattr(deepspeed.ops, "__compatible_ops__", {}, raising=False)  # nothing is compiled
        patch.setattr(torch.nn.functional, "linear", torch.nn.functional.linear)  # ZeRO 3 puts its own there, for good
        torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        yield deepspeed
        torch.distributed.destroy_process_group()
        deepspeed.comm.comm.cdb = None
        groups._WORLD_GROUP = None


@pytest.fixture
def new_engine(deepspeed: Any) -> Callable[..., Any]:
    """An engine of a fresh model; every call gives the same weights."""

    def initialize(accumulate: int = 1, stage: int = 0, **config: Any) -> Any:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(VOCAB_SIZE, 32), nn.Linear(32, VOCAB_SIZE))
        settings = {
            "train_micro_batch_size_per_gpu": 4 // accumulate,
            "gradient_accumulation_steps": accumulate,
            "zero_optimization": {"stage": stage},
            "zero_allow_untested_optimizer": True,
        }
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        return deepspeed.initialize(model=model, optimizer=optimizer, config=settings | config)[0]

    return initialize


class Run:
    """What a loop trained on, and its losses."""

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []
        self.losses: list[float] = []


def train(engine: Any, dataset: Any, after_batch: Callable[[int], None] = lambda number: None) -> Run:
    """To the end. The number of labels of a step comes from the reader: this process has them all."""
    run = Run()
    for number, batch in enumerate(dataset, start=1):
        num_labels = int((dataset.reader[dataset.state_dict()["step"]].labels >= 0).sum())
        logits = engine(batch["input_ids"])
        loss = cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), reduction="sum") / num_labels
        engine.backward(loss, scale_wrt_gas=False)
        if dataset.cursor.row == 0 or engine.managed_gradient_accumulation():
            engine.step()
        run.seen.append(batch["input_ids"].clone())
        run.losses.append(loss.item())
        after_batch(number)
    return run


def assert_rows(seen: list[torch.Tensor], reader: Reader, start: int, micro_batches: int) -> None:
    """Exactly the micro-batches of the steps from there to the end."""
    expected = [batch.inputs for batch in reader.steps(start, micro_batches=micro_batches)]
    assert len(seen) == len(expected)
    assert all(np.array_equal(one.numpy(), other) for one, other in zip(seen, expected, strict=True))


@pytest.fixture(scope="module")
def expected_losses(packed: Reader) -> list[float]:
    """Of each step: a loop in plain torch over the global batches."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(VOCAB_SIZE, 32), nn.Linear(32, VOCAB_SIZE))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for step in range(STEPS):
        logits = model(torch.from_numpy(packed[step].inputs.astype(np.int64)))
        loss = cross_entropy(logits.flatten(0, 1), torch.from_numpy(packed[step].labels).flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # DeepSpeed does so unless told otherwise
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def of_steps(losses: list[float], micro_batches: int) -> list[float]:
    """Sums over the micro-batches of each step."""
    return [sum(losses[first : first + micro_batches]) for first in range(0, len(losses), micro_batches)]


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("accumulate", [1, 4])
def test_losses_are_those_of_plain_cross_entropy(
    packed: Reader, new_engine: Callable[..., Any], expected_losses: list[float], stage: int, accumulate: int
) -> None:
    """The first shows a double shift, the others gradients divided by the wrong number, at every ZeRO stage."""
    from curriculum.adapters.deepspeed import dataset_for

    engine = new_engine(accumulate, stage)
    run = train(engine, dataset_for(engine, packed))
    assert_rows(run.seen, packed, 0, accumulate)
    assert of_steps(run.losses, accumulate) == pytest.approx(expected_losses, rel=1e-4)
    assert engine.global_steps == STEPS


def test_a_checkpoint_after_any_micro_batch_resumes_exactly(
    packed: Reader, new_engine: Callable[..., Any], expected_losses: list[float], tmp_path: Path
) -> None:
    """Batches 1, 3, 5 ... lie inside a step: its gradients are not in the checkpoint, so the step is done again."""
    from curriculum.adapters.deepspeed import dataset_for

    engine = new_engine(2)
    dataset = dataset_for(engine, packed)

    def save(number: int) -> None:
        engine.save_checkpoint(tmp_path, tag=str(number), client_state={"curriculum": dataset.state_dict()})

    train(engine, dataset, after_batch=save)
    for number in range(1, 2 * STEPS + 1):
        for accumulate in (1, 2, 4):
            resumed = new_engine(accumulate)
            _, saved = resumed.load_checkpoint(tmp_path, tag=str(number))
            rest = dataset_for(resumed, packed)
            rest.load_state_dict(saved["curriculum"])
            run = train(resumed, rest)
            assert_rows(run.seen, packed, number // 2, accumulate)
            assert of_steps(run.losses, accumulate) == pytest.approx(expected_losses[number // 2 :], rel=1e-4)


def test_resuming_twice_in_a_row_from_weights_alone(
    packed: Reader, new_engine: Callable[..., Any], tmp_path: Path
) -> None:
    """An engine that loads only the module counts its steps from 0; the cursor does not."""
    from curriculum.adapters.deepspeed import dataset_for

    step = 0
    for stop in (3, 5, STEPS):
        engine = new_engine(2)
        dataset = dataset_for(engine, packed)
        if step:
            _, saved = engine.load_checkpoint(tmp_path, load_module_only=True)
            dataset.load_state_dict(saved["curriculum"])
            assert dataset.state_dict() == saved["curriculum"], "also before the first batch"
        seen = []
        for batch in dataset:
            seen.append(batch["input_ids"])
            engine.backward(engine(batch["input_ids"]).mean())
            engine.step()
            if dataset.state_dict()["step"] == stop:
                break
        assert len(seen) == 2 * (stop - step)
        assert np.array_equal(seen[0].numpy(), packed[step].inputs[:2])
        engine.save_checkpoint(tmp_path, client_state={"curriculum": dataset.state_dict()})
        step = stop


def test_a_state_that_was_loaded_is_the_state_until_batches_are_asked_for(
    packed: Reader, new_engine: Callable[..., Any]
) -> None:
    """A run that goes back after a bad loss and is saved at once: the state is where it went back to."""
    from curriculum.adapters.deepspeed import dataset_for

    engine = new_engine()
    dataset = dataset_for(engine, packed)
    batches = iter(dataset)
    for _ in range(3):
        engine.backward(engine(next(batches)["input_ids"]).mean())
        engine.step()
    assert dataset.state_dict()["step"] == 3
    loaded = {"dataset_id": packed.id, "step": 1, "row": 0}
    dataset.load_state_dict(loaded)
    assert dataset.state_dict() == loaded
    assert np.array_equal(next(iter(dataset))["input_ids"].numpy(), packed[1].inputs)
    assert dataset.state_dict() == loaded


def test_samples_are_counted_where_phases_have_other_rows(
    build_small: Callable[..., BuildResult], new_engine: Callable[..., Any], tmp_path: Path
) -> None:
    """With --batch-tokens steps of 8 tokens have many rows; DeepSpeed's batch size is one number."""
    from curriculum.adapters.deepspeed import dataset_for

    build_small(tmp_path / "dataset", batch_rows=None, batch_tokens=512, rows_multiple_of=2, steps=12)
    reader = curriculum.open(tmp_path / "dataset")
    assert len({phase.rows_per_step for phase in reader.plan.phases}) > 1
    engine = new_engine(2)
    for batch in dataset_for(engine, reader):
        engine.backward(engine(batch["input_ids"]).mean())
        engine.step()
    assert engine.global_samples == sum(phase.num_rows for phase in reader.plan.phases)
    assert engine.global_steps == len(reader)


def test_unmanaged_accumulation_takes_micro_batches_bounded_by_tokens(
    packed: Reader, new_engine: Callable[..., Any], expected_losses: list[float]
) -> None:
    """16 tokens: 2 rows of 8 at once, 1 of 16; engine.step() is called where the cursor says that a step ends."""
    from curriculum.adapters.deepspeed import dataset_for

    engine = new_engine(managed_gradient_accumulation=False)
    run = train(engine, dataset_for(engine, packed, micro_tokens=16))
    assert [seen.shape[0] for seen in run.seen] == [2] * 6 + [1] * 12 + [2] * 4
    assert of_steps(run.losses[:6], 2) == pytest.approx(expected_losses[:3], rel=1e-4)
    assert of_steps(run.losses[6:18], 4) == pytest.approx(expected_losses[3:6], rel=1e-4)
    assert engine.global_samples == 4 * STEPS


def test_settings_that_would_feed_other_rows_are_refused(packed: Reader, new_engine: Callable[..., Any]) -> None:
    """Each of them runs without an error in DeepSpeed."""
    from deepspeed.runtime.pipe.engine import PipelineEngine

    from curriculum.adapters.deepspeed import dataset_for

    own_sampling = {"enabled": True, "data_sampling": {"enabled": False}, "data_routing": {"enabled": False}}
    with pytest.raises(ConfigError, match="data_efficiency is enabled"):
        dataset_for(new_engine(data_efficiency=own_sampling), packed)
    with pytest.raises(ConfigError, match=r"engine\.reset_activation_shape"):
        dataset_for(PipelineEngine.__new__(PipelineEngine), packed)
    for sizes in ({"micro_batches": 4}, {"micro_tokens": 64}):
        with pytest.raises(ConfigError, match="has gradient_accumulation_steps 2"):
            dataset_for(new_engine(2), packed, **sizes)
    engine = new_engine(2)
    engine.training_dataloader = engine.deepspeed_io(torch.arange(8))  # what initialize(training_data=...) does
    with pytest.raises(ConfigError, match="Leave training_data out"):
        dataset_for(engine, packed)
    with pytest.raises(CursorError, match="does not divide the 4 rows"):
        iter(dataset_for(new_engine(3), packed))


def test_an_engine_inside_a_step_is_refused(packed: Reader, new_engine: Callable[..., Any]) -> None:
    """It would step after the first micro-batch of every step."""
    from curriculum.adapters.deepspeed import dataset_for

    engine = new_engine(2)
    dataset = dataset_for(engine, packed)
    batches = iter(dataset)
    engine.backward(engine(next(batches)["input_ids"]).mean())
    engine.step()
    with pytest.raises(ConfigError, match="accumulated 1 of 2 micro-batches"):
        iter(dataset)
    with pytest.raises(CursorError, match="inside step 3, at row 2"):
        dataset.load_state_dict({"dataset_id": packed.id, "step": 3, "row": 2})
    engine.set_train_batch_size(8)  # DeepSpeed: the same rows at once, twice the accumulation steps
    with pytest.raises(ConfigError, match="gradient_accumulation_steps went from 2 to 4"):
        next(batches)


def test_another_dataset_is_refused_with_both_ids(
    packed: Reader, small_dataset: Path, new_engine: Callable[..., Any]
) -> None:
    from curriculum.adapters.deepspeed import dataset_for

    other, engine = curriculum.open(small_dataset), new_engine()
    with pytest.raises(CursorError) as refused:
        dataset_for(engine, other).load_state_dict(dataset_for(engine, packed).state_dict())
    assert packed.id in str(refused.value)
    assert other.id in str(refused.value)


def launch(python: Path, dataset: str, processes: int, saved: Path, log: Path, *arguments: str) -> list[dict[str, Any]]:
    """Run the example under torchrun; its JSON lines."""
    command = [str(python), "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command += ["-m", "curriculum.examples.train_deepspeed", dataset, "--checkpoint", str(saved), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "CURRICULUM_DOCTOR_LOG": str(log)}
    environment["CUDA_VISIBLE_DEVICES"] = ""  # one GPU would not do for two processes
    environment |= {"PYTHONPATH": str(Path(curriculum.__file__).parent.parent), "PYTHON_EXEC": str(python)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]


def test_the_example_on_two_processes_then_on_one(packed: Reader, expected_losses: list[float], tmp_path: Path) -> None:
    """The rows that reached the model are the plan's, the losses those of plain torch. ZeRO stage 0 loads anywhere."""
    saved = tmp_path / "saved"
    with ready_python(
        sys.executable, "train_deepspeed", {**os.environ, "CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
    ) as python:
        lines = launch(python, packed.where, 2, saved, tmp_path / "log-1", "--stop-before", "3", "--micro-batches", "2")
        lines += launch(python, packed.where, 1, saved, tmp_path / "log-2", "--micro-batches", "4")
    assert [line["step"] for line in lines] == list(range(STEPS))
    assert [line["seq_len"] for line in lines] == [8] * 3 + [16] * 3 + [8] * 2
    assert [line["loss"] for line in lines] == pytest.approx(expected_losses, rel=1e-4)
    report = check_runs(
        packed,
        [load_run(tmp_path / f"log-{number}") for number in (1, 2)],
        resumed_at=[3],
        stop_steps=[3, STEPS],
    )
    assert report.ok, report.findings


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_adams_variance_is_found_inside_the_engine(packed: Reader, new_engine: Callable[..., Any], stage: int) -> None:
    """ZeRO wraps the optimizer and keeps moments in one flat, padded tensor."""
    from curriculum.adapters.adam_moments import measure
    from curriculum.adapters.deepspeed import dataset_for

    engine = new_engine(1, stage)
    train(engine, dataset_for(engine, packed))
    plain = new_engine(1, 0)
    train(plain, dataset_for(plain, packed))
    moments = [state["exp_avg_sq"].double() for state in plain.optimizer.state.values()]
    assert measure(engine.optimizer) == pytest.approx(
        {
            "variance_l1": sum(moment.sum().item() for moment in moments),
            "variance_sqrt_l1": sum(moment.sqrt().sum().item() for moment in moments),
            "variance_max": max(moment.max().item() for moment in moments),
            "variance_sqrt_max": max(moment.sqrt().max().item() for moment in moments),
        },
        rel=1e-4,
    )
