"""kill -9 at any moment of a push or pull: nothing damaged is ever visible, and the same command goes on to the end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from new_text import grow
from pipeline.build import BuildResult
from travels import push

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests" / "pipeline" / "kill_transfers.py"
SCENARIOS = {
    "pull": ("pull", "pull-packed", "pull-extension", "pull-other"),
    "push": ("push", "push-extension", "push-other"),
}
FEW: dict[str, Any] = {"start_length": 8, "max_length": 16, "batch_rows": 2, "steps": 6, "validation_tokens": 20}


@pytest.fixture(scope="module")
def datasets(build_small: Callable[..., BuildResult], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Of very few shards: each is some effects, and every effect is two transfers."""
    folder = tmp_path_factory.mktemp("few")
    build_small(folder / "tiny", **FEW)
    build_small(folder / "other", **FEW, seed=1)
    shutil.copytree(folder / "tiny", folder / "longer")
    grow(folder / "longer", store=folder / "tiny.store", steps=2)
    return {name: folder / name for name in ("tiny", "other", "longer")}


@pytest.mark.parametrize("transfer", SCENARIOS)
def test_killed_at_every_effect_on_the_disk(datasets: dict[str, Path], tmp_path: Path, transfer: str) -> None:
    """A laptop that is closed, a preempted node: whoever opens the folder finds a whole dataset or none."""
    for name, dataset in datasets.items():
        shutil.copytree(dataset, tmp_path / name)
    push(datasets["tiny"], tmp_path / "packed", compress=True)
    command = [sys.executable, str(SCRIPT), str(tmp_path), *SCENARIOS[transfer]]
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "TMPDIR": str(tmp_path / "tmp")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for result in json.loads(done.stdout).values():
        assert result["wrong"] == {}
        assert result["effects"] > 15


def test_what_a_killed_push_had_packed_does_not_stay(tiny: Path, tmp_path: Path) -> None:
    """Gigabytes in TMPDIR that nobody looks for: the next command that makes something there removes them."""
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "TMPDIR": str(tmp_path / "tmp")}
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "import pipeline.sharing.departures as departures\n"
        "from travels import push\n"
        "if sys.argv[3] == 'dies':\n"
        "    done = lambda ready: [name.result() for _, name in ready]\n"
        "    departures.Departures._send = lambda *given: done(given[1]) and os.kill(os.getpid(), signal.SIGKILL)\n"
        "push(Path(sys.argv[1]), Path(sys.argv[2]), compress=True)\n"
    )
    for how, returncode, packed in (("dies", -9, True), ("lives", 0, False)):
        command = [sys.executable, "-c", code, str(tiny), str(tmp_path / "there"), how]
        assert subprocess.run(command, env=environment, check=False).returncode == returncode
        assert bool(list((tmp_path / "tmp").rglob("*.zst"))) == packed
