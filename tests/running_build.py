"""A build as a process group of its own, to be signalled, killed or starved in the middle of a stage.

In:  the options of a small build and the stage to wait for.   Out: the process, and what it said.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from small_corpus import real_texts

ROOT = Path(__file__).parents[1]
OPTIONS = ("--tokenizer", "bytes", "--backend", "tokenizers", "--start-length", "8", "--max-length", "64")
SIZES = ("--unit-bytes", "120000", "--shuffle-window", "50000", "--shard-bytes", "100000", "--workers", "2")


def write_slow_corpus(folder: Path, num_bytes: int = 1_500_000) -> None:
    """A dozen units, which take two workers a second or two with the slow tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = [text for text in real_texts() if text]
    written = 0
    with (folder / "a.jsonl").open("w") as file:
        while written < num_bytes:
            written += sum(file.write(json.dumps({"text": f"{written} {text}"}) + "\n") for text in texts)


def start(place: Path, *more: str, tokenizer_options: tuple[str, ...] = OPTIONS) -> subprocess.Popen[str]:
    """`curriculum build` of `place`/corpus into `place`/out."""
    command = [sys.executable, "-m", "pipeline.cli", "build", str(place / "corpus"), "--out", str(place / "out")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(place / "cache")}
    return subprocess.Popen(
        [*command, *tokenizer_options, *SIZES, *more],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


STAGES: dict[str, Callable[[Path], bool]] = {
    "start": lambda place: (place / "out" / ".build" / "request.json").exists(),
    "encode": lambda place: any((place / "out.store").glob("parts/*/*.arrow")),
    "cut": lambda place: any((place / "out" / ".build" / "windows").glob("*.json")),
}
"""What tells that a stage is under way."""


def wait_for(place: Path, stage: str, build: subprocess.Popen[str]) -> None:
    """Until the build is in the middle of a stage ("more": has encoded one unit more); it must not end before."""
    num_parts = _num_parts(place)
    reached = STAGES.get(stage, lambda place: _num_parts(place) > num_parts)
    deadline = time.monotonic() + 60
    while not reached(place):
        assert build.poll() is None, build.communicate()
        assert time.monotonic() < deadline, stage
        time.sleep(0.005)


def _num_parts(place: Path) -> int:
    return len(list((place / "out.store").glob("parts/*/*.arrow")))


def workers_of(build: subprocess.Popen[str]) -> list[int]:
    """Process ids of its workers."""
    children = Path(f"/proc/{build.pid}/task/{build.pid}/children").read_text().split()
    return [int(pid) for pid in children if "--multiprocessing-fork" in _command_line(pid)]


def _command_line(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def end(build: subprocess.Popen[str], seconds: float = 60) -> tuple[int, str]:
    """Exit code and stderr of a build, and that no process of it is left."""
    _, said = build.communicate(timeout=seconds)
    deadline = time.monotonic() + 5
    while _group_lives(build.pid):
        assert time.monotonic() < deadline, "a process of the build is left"
        time.sleep(0.01)
    return build.returncode, said


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, signal.SIG_DFL)  # 0: only asks
    except ProcessLookupError:
        return False
    return True


def finish(place: Path, *more: str, **keywords: Any) -> dict[str, bytes]:
    """Run the same command to its end; the bytes of the dataset."""
    code, said = end(start(place, *more, **keywords))
    assert code == 0, said
    return dataset_bytes(place)


def dataset_bytes(place: Path) -> dict[str, bytes]:
    """Every file that two equal builds share."""
    out = place / "out"
    files = [path for path in out.rglob("*") if path.is_file() and path.name != "build-log.json"]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}
