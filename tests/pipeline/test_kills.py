"""kill -9, or a failing disk, at any moment: the same command continues, ends in the same bytes, leaves no rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import curriculum
from small_corpus import dataset_files, real_texts

ROOT = Path(__file__).parents[2]


@contextmanager
def folder_in_memory() -> Iterator[Path]:
    """Where the system has memory for files: a thousand small builds would wait for a real disk."""
    place = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=place if os.access(place, os.W_OK) else None) as folder:
        yield Path(folder)


def write_corpus(folder: Path, scenario: str) -> None:
    """A dozen short documents in two units, and some new ones beside them."""
    folder.mkdir(parents=True)
    texts = real_texts()
    key = "body" if scenario.startswith("skip") else "text"
    lines = [json.dumps({key: text[:300]}) for text in texts[:12]]
    if scenario.startswith("skip"):
        lines.append("{broken")
    (folder / "a.jsonl").write_text("\n".join(lines))
    for i in range(3):
        (folder / f"{i}.txt").write_text(texts[20 + i][:200])
    (folder.parent / "new").mkdir()
    more = [json.dumps({"text": text[:200]}) for text in texts[40:50]]
    (folder.parent / "new" / "n.jsonl").write_text("\n".join(more))


SCENARIOS = ["fresh", "overwrite-finished", "overwrite-unfinished", "skip-and-drop-store", "packed", "new-text"]


Disturb = Callable[[str, str, int], None]


@pytest.fixture(scope="module")
def disturb() -> Iterator[Disturb]:
    """Try every `stride`-th effect of a scenario, in a process that has imported everything."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("disturbed_builds.py"))],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
        with process as server:
            assert server.stdin is not None
            assert server.stdout is not None

            def run(how: str, scenario: str, stride: int) -> None:
                with folder_in_memory() as folder:
                    write_corpus(folder / "corpus", scenario)
                    server.stdin.write(json.dumps([how, str(folder), scenario, stride]) + "\n")
                    server.stdin.flush()
                    answer = server.stdout.readline()
                said.seek(0)
                assert answer, said.read()[-2000:]
                result = json.loads(answer)
                assert result["wrong"] == {}
                assert result["effects"] > 40

            yield run
            server.stdin.close()


@pytest.mark.parametrize("scenario", [*SCENARIOS, "mixture"])
def test_killed_at_every_effect_on_the_disk(disturb: Disturb, scenario: str) -> None:
    """Preempted nodes are daily life: a rerun must neither differ, nor stop, nor leave half-written files."""
    disturb("kill", scenario, 1)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_effect_on_the_disk_fails(disturb: Disturb, scenario: str) -> None:
    """A full, broken, read-only disk, a quota, or SIGTERM, there: one sentence with a path, nothing half-written, and
    the rerun gives the same bytes."""
    disturb("fail", scenario, 1 if scenario == "fresh" else 3)


def test_killed_with_workers_at_any_time(tmp_path: Path, small_dataset: Path, corpus: Path) -> None:
    """The parent dies, its workers follow, and the next run finds whatever they left."""
    code = (
        "import sys\n"
        "from conftest import SMALL\n"
        "from pipeline.build import build\n"
        "from pipeline.option_sources import load_options\n"
        "from pipeline.progress import Silent\n"
        "if __name__ == '__main__':\n"
        "    own = {'corpus': (sys.argv[1],), 'out': sys.argv[2], 'workers': 2, 'validation_tokens': 6_000}\n"
        "    build(load_options(None, {**SMALL, **own, 'unit_bytes': 20_000}), Silent())\n"
    )
    script = tmp_path / "build.py"
    script.write_text(code)
    command = [sys.executable, str(script), str(corpus), str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    for seconds in (0.9, 1.1, 1.3, 1.5, 1.8, 2.2):  # each run goes on where the one before it was killed
        child = subprocess.Popen(command, env=environment)
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    subprocess.run(command, env=environment, check=True)
    assert dataset_files(tmp_path / "out") == dataset_files(small_dataset)
    assert curriculum.open(tmp_path / "out", check=True).id == curriculum.open(small_dataset).id
