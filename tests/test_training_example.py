"""The plain PyTorch script of docs/trainers.md: it learns, at the planned lengths, and resumes on other ranks.

Runs on one process happen in this one, which has imported torch already; one run has two processes under torchrun.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import runpy
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install 'seqlen-curriculum[torch]'")
import torch

import curriculum
from curriculum.doctor.recorder import close_logs
from pipeline.build import build
from pipeline.option_sources import load_options
from pipeline.progress import Silent
from ready_python import ready_python

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "curriculum" / "examples" / "train_torch.py"
TIMEOUT_S = 240

Step = dict[str, Any]


def built(out: Path, **options: Any) -> Path:
    """A dataset of the standard library's sources, byte by byte: an id is a byte, 256 ends a document."""
    values = {"out": str(out), "tokenizer": "bytes", "max_length": 64, "keep_store": False, **options}
    build(load_options(None, values), Silent())
    return out


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """Rows of pieces: ranks and micro-batches of a step differ in how many targets they have."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    lines = [line for line in (ROOT / "README.md").read_text("utf-8").splitlines() if line]
    (corpus / "lines.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines * 8), "utf-8")
    options = {"corpus": (str(corpus),), "mode": "best-fit", "batch_rows": 8, "steps": 24, "max_length": 32}
    return built(tmp_path / "packed", **options)


def environment(log: Path | None, **more: str) -> dict[str, str]:
    """Without what a launcher around these tests may have set; with `log`, the script records what it trains on."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("TORCHELASTIC")}
    mine |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), mine.get("PYTHONPATH", "")]), **more}
    return mine | ({"CURRICULUM_DOCTOR_LOG": str(log)} if log else {})


def run_here(*arguments: object, log: Path | None = None) -> list[Step]:
    """The script as the only process of its world; one object per line that it printed."""
    torch.set_num_threads(1)  # two threads wait for each other by spinning: ten times slower beside other work
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    output = io.StringIO()
    with (
        patch.dict(os.environ, environment(log, **alone)),
        patch("sys.argv", [str(SCRIPT), *map(str, arguments)]),
        contextlib.redirect_stdout(output),
        warnings.catch_warnings(),
        torch.random.fork_rng(),
    ):
        warnings.simplefilter("error")
        try:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        finally:
            close_logs()  # a process of its own would end here
    return [json.loads(line) for line in output.getvalue().splitlines()]


def run_on_two(*arguments: object, log: Path) -> list[Step]:
    """The script under torchrun; what rank 0 printed."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = ["-m", "curriculum.examples.train_torch", *map(str, arguments)]
    with ready_python(sys.executable, "train_torch") as python:
        process = subprocess.Popen(
            [python, *launch, *script],
            env=environment(log, PYTHON_EXEC=str(python)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=log.parent,
        )
        try:
            output, errors = process.communicate(timeout=TIMEOUT_S)
        finally:
            process.terminate()  # torchrun ends its workers
    assert process.returncode == 0, errors
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def digests_of_steps(log: Path, world_size: int, micro_batches: int) -> list[str]:
    """What was recorded of the rows of each step, in the order that makes the global batch of any world size."""
    files = [log / f"rank-{rank:05d}.jsonl" for rank in range(world_size)]
    ranks = [[json.loads(line) for line in file.read_text().splitlines()] for file in files]
    micros = [of_micro["inputs"] + of_micro["labels"] for of_all in zip(*ranks, strict=True) for of_micro in of_all]
    rows = world_size * micro_batches
    assert len(micros) % rows == 0
    split = [(text[: len(text) // 2], text[len(text) // 2 :]) for text in micros]
    steps = [split[at : at + rows] for at in range(0, len(split), rows)]
    return ["".join(part[0] for part in step) + "".join(part[1] for part in step) for step in steps]


def mean_loss(steps: list[Step]) -> float:
    return sum(step["loss"] for step in steps) / len(steps)


def entropy(counts: np.ndarray[Any, Any]) -> float:
    """In nats, of counts that are made frequencies."""
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())


def test_it_learns_more_than_byte_pairs_give_at_exactly_the_planned_lengths(tmp_path: Path) -> None:
    """Rows in the right order with the right targets can be learned from; shuffled or unshifted ones could not.

    Frequencies of the dataset's own bytes give 3.0 nats at best, the byte before each 2.0: less takes context, that is
    rows whose tokens belong together. Step s trains at clamp(floor8(8 + 56 * (s + 1) // 60)): the schedule's formula,
    not what the reader says.
    """
    dataset = built(tmp_path / "dataset", steps=200)  # curriculum build --tokenizer bytes --max-length 64 --steps 200
    steps = run_here(dataset)

    assert [step["step"] for step in steps] == list(range(200))
    expected = [min(8 + 56 * (step + 1) // 60, 64) // 8 * 8 for step in range(200)]
    assert [step["seq_len"] for step in steps] == expected
    assert expected[:9] == [8, 8, 8, 8, 8, 8, 8, 8, 16]
    assert (expected[58], expected[59]) == (56, 64)
    reader = curriculum.open(dataset)
    assert reader.plan.total_tokens == sum(16 * length for length in expected)

    pairs = np.zeros((257, 257), np.int64)
    for batch in reader:
        np.add.at(pairs, (batch.inputs, batch.targets), 1)
    of_byte = entropy(pairs.sum(axis=0))
    given_last_byte = entropy(pairs.ravel()) - entropy(pairs.sum(axis=1))
    assert 1.9 < given_last_byte < of_byte - 0.8
    assert steps[0]["loss"] == pytest.approx(np.log(257), abs=0.3), "nothing is known yet"
    first, middle, last = (steps[i : i + 20] for i in (0, 90, 180))
    assert mean_loss(last) < mean_loss(middle) - 0.1 < mean_loss(first) - 1.0
    assert mean_loss(last) < given_last_byte


def test_a_run_resumed_on_another_world_size_sees_the_same_batches(packed: Path, tmp_path: Path) -> None:
    """Stopped on two ranks with two micro-batches, continued on one with four: the same rows in every step, so nearly
    the same losses. At step 0 they are the same: divided by the targets of all ranks, which rows of pieces have
    unequal numbers of.

    Nearly: more parts add gradients in another order, and Adam makes full steps out of tiny differences. A model that
    was not restored would be off by far more, and so would one with the learning rate of a new run.
    """
    expected = run_here(packed, log=tmp_path / "whole")
    checkpoint = ["--checkpoint", tmp_path / "checkpoint"]
    before = run_on_two(packed, *checkpoint, "--stop-before", 10, "--micro-batches", 2, log=tmp_path / "before")
    after = run_here(packed, *checkpoint, "--micro-batches", 4, log=tmp_path / "after")
    steps = before + after
    assert [step["step"] for step in steps] == [step["step"] for step in expected] == list(range(24))
    assert [step["seq_len"] for step in steps] == [step["seq_len"] for step in expected]
    seen = digests_of_steps(tmp_path / "before", 2, 2) + digests_of_steps(tmp_path / "after", 1, 4)
    assert seen == digests_of_steps(tmp_path / "whole", 1, 1)
    assert len(set(seen)) == 24
    losses, wanted = ([step["loss"] for step in of_run] for of_run in (steps, expected))
    assert losses[0] == pytest.approx(wanted[0], rel=1e-6)
    assert losses == pytest.approx(wanted, rel=0.01)
    assert run_here(packed, *checkpoint) == [], "a run that reached its end has nothing left to do"
