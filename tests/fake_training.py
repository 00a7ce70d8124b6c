"""Trainers of a few lines for probes: what they write and how they end is all that a test needs of them."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from curriculum.errors import BuildError
from pipeline.tuning.run_training import Trained
from pipeline.tuning.train_command import Training, training_command

START = "import json, math, os, subprocess, sys, time\nlog = open(sys.argv[3], 'a', buffering=1)\n"
"""What every fake trainer begins with; its arguments are dataset, steps and log."""
TEN_STEPS = """
for step in range(int(sys.argv[2])):
    line = {"step": step, "loss": 5.0}
    if step % 2:
        line["validation_loss"] = 4.0 - step / 10
    log.write(json.dumps(line) + "\\n")
"""
EVERY_THIRD = TEN_STEPS.replace("range(int(sys.argv[2]))", "[2, 5, 8]").replace("step % 2", "True")
"""Complete, for a trainer that writes a line for every third step."""


def fake(code: str) -> Training:
    """A training that runs this code, with the interpreter's least start."""
    return training_command(shlex.join([sys.executable, "-S", "-c", START + code, "{dataset}", "{steps}", "{log}"]))


def failure(probe: Callable[..., Trained], code: str, **limits: float) -> str:
    """The sentence that a training with this code ends in."""
    with pytest.raises(BuildError) as error:
        probe(fake(code), **limits)
    return str(error.value)


def ended(started: Path) -> None:
    """All processes that a file names have ended, or do within some seconds."""
    for pid in map(int, started.read_text().split()):
        for _ in range(200):
            if not runs(pid):
                break
            time.sleep(0.05)
        assert not runs(pid), pid


def runs(pid: int) -> bool:
    """Whether a process of that number runs and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except FileNotFoundError:
        return False
