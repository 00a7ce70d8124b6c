"""Run an example script as a user would, and the digests of the rows that reached its model.

In:  the name of a script of `curriculum.examples`, a dataset, a number of processes.
Out: `Recorded`: digests of all rows in the order of their step, and the lines that the script printed.
Guarantee: a real torchrun launch; it ends by itself or by its own process id.

    with ready_python(sys.executable, "train_hf") as python:
        run_example(python, "train_hf", dataset, checkpoint, tmp_path / "log", processes=2, stop_before=3)
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import curriculum
from curriculum.doctor.planned_rows import PlannedRows
from curriculum.doctor.run_log import RunLog, load_run


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """What one run trained on."""

    rows: list[int]
    """digests, micro-batch after micro-batch and, in one, rank after rank: the order of a step's rows"""
    steps: list[dict[str, Any]]
    """step, seq_len and loss, as rank 0 printed them"""
    log: RunLog


def run_example(
    python: Path,
    name: str,
    dataset: Path,
    checkpoint: Path,
    log: Path,
    *,
    processes: int,
    stop_before: int | None = None,
    micro_batches: int = 1,
) -> Recorded:
    """Start it and wait; `python` also starts what torchrun starts."""
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    command = [str(python), "-m", *(launcher if processes > 1 else []), f"curriculum.examples.{name}", str(dataset)]
    command += ["--checkpoint", str(checkpoint), "--micro-batches", str(micro_batches)]
    command += [] if stop_before is None else ["--stop-before", str(stop_before)]
    environment = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    environment |= {"OMP_NUM_THREADS": "1", "CURRICULUM_DOCTOR_LOG": str(log), "PYTHON_EXEC": str(python)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-4_000:]
    recorded = load_run(log)
    calls = zip(*recorded.calls, strict=True)  # every rank calls its model equally often
    rows = [int(digest) for of_ranks in calls for call in of_ranks for digest in call.inputs]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return Recorded(rows=rows, steps=lines, log=recorded)


def planned(dataset: Path, start: int, stop: int) -> list[int]:
    """Digests of the rows of steps start to stop."""
    rows = PlannedRows(curriculum.open(dataset))
    digests = rows.digests(rows.number(start), rows.number(stop) - rows.number(start))
    assert digests is not None
    return [int(digest) for digest in digests]


def assert_losses_are_cross_entropy(recorded: Recorded) -> None:
    """The model compared each logit with the token after it, and not with the one after that."""
    for call in (call for calls in recorded.log.calls for call in calls):
        assert call.loss is not None
        assert call.cross_entropy is not None
        assert abs(call.loss - call.cross_entropy) < 1e-4
