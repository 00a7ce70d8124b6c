"""The training script of docs/trainers.md, run as it stands there on the default corpus."""

from __future__ import annotations

import contextlib
import io
import json
import runpy
import warnings
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

import curriculum
from pipeline.build import build
from pipeline.option_sources import load_options
from pipeline.progress import Silent

PAGE = Path(__file__).parents[1] / "docs" / "trainers.md"
BUILD = "curriculum build --max-length 128 --steps 300"

Step = dict[str, Any]


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first Python block of the page, a whole script, as a file."""
    text = PAGE.read_text("utf-8").split("```python\n")[1].split("```")[0]
    path = tmp_path_factory.mktemp("script") / "train.py"
    path.write_text(text, "utf-8")
    return path


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the page's build command writes."""
    assert BUILD in PAGE.read_text("utf-8")
    out = tmp_path_factory.mktemp("default") / "curriculum-data"
    options = {"out": str(out), "max_length": 128, "steps": 300, "keep_store": False}
    build(load_options(None, options), Silent())
    return out


def run(script: Path, *arguments: object) -> list[Step]:
    """Run the script in this process, which has imported torch already; one object per line that it printed."""
    torch.set_num_threads(1)  # two threads wait for each other by spinning: ten times slower beside other work
    output = io.StringIO()
    with (
        patch("sys.argv", [str(script), *map(str, arguments)]),
        contextlib.redirect_stdout(output),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("error")
        runpy.run_path(str(script), run_name="__main__")
    return [json.loads(line) for line in output.getvalue().splitlines()]


@pytest.fixture(scope="module")
def uninterrupted(script: Path, dataset: Path) -> list[Step]:
    """The whole run on one rank."""
    return run(script, dataset)


def mean_loss(steps: list[Step]) -> float:
    return sum(step["loss"] for step in steps) / len(steps)


def test_the_loss_falls(uninterrupted: list[Step]) -> None:
    """Rows in the right order with the right targets can be learned from; shuffled or unshifted ones could not."""
    assert uninterrupted[0]["loss"] == pytest.approx(9.01, abs=0.05), "ln(8192): nothing is known yet"
    first, middle, last = (uninterrupted[i : i + 20] for i in (0, 140, 280))
    assert mean_loss(last) < mean_loss(middle) - 0.1 < mean_loss(first) - 1.0
    assert mean_loss(last) < 5.5


def test_lengths_grow_exactly_as_planned(uninterrupted: list[Step], dataset: Path) -> None:
    """Step s trains at clamp(floor8(8 + 120 * (s + 1) // 90)): the schedule's formula, not what the reader says."""
    assert [step["step"] for step in uninterrupted] == list(range(300))
    expected = [min(8 + 120 * (step + 1) // 90, 128) // 8 * 8 for step in range(300)]
    assert [step["seq_len"] for step in uninterrupted] == expected
    assert expected[:6] == [8, 8, 8, 8, 8, 16]
    assert (expected[88], expected[89]) == (120, 128)
    plan = curriculum.open(dataset).plan
    assert plan.total_tokens == sum(16 * length for length in expected)


def test_a_run_resumed_on_another_world_size_sees_the_same_batches(
    script: Path, dataset: Path, uninterrupted: list[Step], tmp_path: Path
) -> None:
    """Stopped on two ranks, continued on four: the same rows in every step, so nearly the same losses.

    Nearly: four ranks add gradients in another order than one, and Adam makes full steps out of tiny differences (2 %
    of the loss were seen). A model that was not restored would be off by 20 %.
    """
    checkpoint = tmp_path / "checkpoint.pt"
    before = run(script, dataset, "--world-size", 2, "--checkpoint", checkpoint, "--stop-before", 60)
    after = run(script, dataset, "--world-size", 4, "--checkpoint", checkpoint, "--stop-before", 70)
    steps = before + after
    assert [step["step"] for step in steps] == list(range(70))
    assert [step["batch"] for step in steps] == [step["batch"] for step in uninterrupted[:70]]
    assert len({step["batch"] for step in steps}) == 70
    expected = [step["loss"] for step in uninterrupted[:70]]
    assert [step["loss"] for step in steps] == pytest.approx(expected, rel=0.05)
