"""Run a small build, killed at its n-th effect on the disk, for every n; then run it again and compare.

In:  a folder with a corpus, and a scenario.   Out: number of effects, and what was wrong after which of them.
Runs in the process of disturbed_builds.py. An effect is a new file or folder, a write, rename or removal; after a kill
at an fsync the files are those of a kill at the next effect. A kill at a write leaves half of its data behind. Each
attempt is a forked copy of that process, which has imported everything and started no thread: a thousand attempts would
else cost as many imports.
"""

from __future__ import annotations

import gc
import hashlib
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy.random  # noqa: F401 - a build imports it, and tokenizers, when it needs them
import tokenizers  # noqa: F401
from effects import THREADS, Effects

import pipeline.backends
import pipeline.build
import pipeline.build_log
import pipeline.extend
import pipeline.jsonl
from curriculum.reader import Reader
from pipeline.longer_plan import Extent
from pipeline.option_sources import load_options
from pipeline.progress import Silent

BASE: dict[str, Any] = {
    "tokenizer": "bytes",
    "backend": "tokenizers",
    "start_length": 8,
    "max_length": 16,
    "batch_rows": 2,
    "steps": 60,
    "shuffle_window": 1,
    "shard_bytes": 1200,
    "validation_tokens": 40,
    "workers": 1,
}
OTHER = {"seed": 1, "steps": 70}
SKIP = {"on_bad_record": "skip", "text_key": "body", "tokenizer": "train:300", "keep_store": False}
SCENARIOS: dict[str, tuple[dict[str, Any], dict[str, Any] | None, int | None]] = {
    # The build that is killed everywhere; one before it that prepares the folder; the effect that one is killed at.
    "fresh": ({}, None, None),
    "overwrite-finished": ({"overwrite": True}, OTHER, None),
    "overwrite-unfinished": ({"overwrite": True}, OTHER, 70),  # one window is finished, the manifest is not there
    "skip-and-drop-store": (SKIP, None, None),
    "packed": ({"mode": "best-fit"}, {}, None),  # on the token store of that one: "fresh" makes the same
    "new-text": ({"extend_by": 12}, {}, None),
    "mixture": ({"mixture": ("lines=a.jsonl", "texts=*.txt"), "epochs": 9, "shard_bytes": 10_000}, None, None),
}


def import_all() -> None:
    """What every attempt would else look up again, or copy because the collector touches it."""
    pipeline.build_log.package_versions()
    gc.collect()
    gc.freeze()


def run_build(folder: Path, options: dict[str, Any], fatal: int | None, counted: type[Effects] = Effects) -> int:
    """Build in a forked process; its number of effects, or -1 if it was killed."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        effects = counted(fatal)
        effects.install()
        values = {**BASE, **options, "out": str(folder / "out")}
        if "extend_by" in options:
            _extend(folder, values)
            os.write(write_end, str(effects.count).encode())
            os._exit(0)
        if "mixture" in options:
            pairs = [entry.split("=") for entry in values.pop("mixture")]
            values["source"] = tuple(f"{name}={folder / 'corpus' / path}" for name, path in pairs)
        else:
            values["corpus"] = (str(folder / "corpus"),)
        pipeline.build.build(load_options(None, values), Silent())
        os.write(write_end, str(effects.count).encode())
        os._exit(0)
    os.close(write_end)
    _, status = os.waitpid(child, 0)
    count = os.read(read_end, 20)
    os.close(read_end)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return -1
    assert os.waitstatus_to_exitcode(status) == 0, "the build failed: see stderr"
    return int(count)


def _extend(folder: Path, values: dict[str, Any]) -> None:
    """The dataset that is there goes on with new text."""
    own = {"out": values["out"], "backend": "tokenizers", "workers": 1, "source": (f"new={folder / 'new'}",)}
    pipeline.extend.extend(load_options(None, own), Extent(steps=values["extend_by"]), Silent())


def snapshot(folder: Path) -> dict[str, str]:
    """Digest of every file of output and store; of those that may differ between runs only the name."""
    digests = {}
    for path in sorted([*(folder / "out").rglob("*"), *(folder / "out.store").rglob("*")]):
        name = str(path.relative_to(folder))
        if path.name == "checked.json":  # a memory that no build depends on; it holds inodes and times
            continue
        volatile = path.is_dir() or path.name == "build-log.json"
        digests[name] = "" if volatile else hashlib.sha256(path.read_bytes()).hexdigest()
    return digests


def prepare(folder: Path, scenario: str) -> None:
    """The folder as the build that is to be disturbed finds it: made once, then copied."""
    _, before, before_killed_at = SCENARIOS[scenario]
    for name in ("out", "out.store"):
        shutil.rmtree(folder / name, ignore_errors=True)
    if before is None:
        return
    prepared = folder / "prepared"
    if not prepared.exists():
        prepared.mkdir()
        run_build(folder, before, before_killed_at)
        assert (folder / "out" / "manifest.json").exists() == (before_killed_at is None)
        assert before_killed_at is None or any((folder / "out" / ".build" / "windows").iterdir())
        if scenario == "packed":
            shutil.rmtree(folder / "out")
        else:
            shutil.copytree(folder / "out", prepared / "out")
        shutil.copytree(folder / "out.store", prepared / "out.store")
    else:
        shutil.copytree(prepared, folder, dirs_exist_ok=True)


def attempt(folder: Path, scenario: str, fatal: int | None) -> int:
    """Prepare, and run the build that is to be killed; its number of effects."""
    prepare(folder, scenario)
    return run_build(folder, SCENARIOS[scenario][0], fatal)


def disturb(folder: Path, scenario: str, stride: int) -> dict[str, Any]:
    """Try every `stride`-th n of a scenario."""
    total = attempt(folder, scenario, None)
    expected = snapshot(folder)
    wrong = {}
    for fatal in range(1, total + 1, stride):
        if attempt(folder, scenario, fatal) == -1:
            if scenario == "new-text":  # whoever trains on the dataset meanwhile finds it whole
                Reader(folder / "out", check=True)
            run_build(folder, SCENARIOS[scenario][0], None)
        elif fatal < total - THREADS:
            wrong[fatal] = "the build was not killed"
            continue
        found = snapshot(folder)
        if found != expected:
            names = {*found, *expected}
            wrong[fatal] = ", ".join(sorted(n for n in names if found.get(n) != expected.get(n)))
    return {"effects": total, "wrong": wrong}
