"""A small real corpus and small builds of it, shared by all tests."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from default_build import DefaultBuild, default_build
from new_text import grow
from pipeline.build import BuildResult, build
from pipeline.option_sources import load_options
from pipeline.progress import Silent
from small_corpus import real_texts
from suite_order import Groups, install_meanwhile, sort_tests

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads of torch wait for each other by spinning
settings.register_profile("any machine", deadline=None)  # a busy machine is no failure
settings.load_profile("any machine")

# Hundreds of processes start in these tests, some with Ray or a server: what one has compiled the next one loads.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

MEMORY = Path("/dev/shm")
if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 4 << 30:
    # `tmp_path` is in memory: small builds wait for a disk, fsync after fsync, twice as long as they work.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

# A shell ignores SIGINT for what runs in its background, nohup SIGHUP; what tests start would inherit that.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long ones first."""
    sort_tests(items)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Groups:
    """What workers get."""
    return Groups(config, log)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin with what some of the chosen tests will need."""
    install_meanwhile(session.items)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The texts in several formats and folders."""
    folder = tmp_path_factory.mktemp("corpus")
    texts = real_texts()
    lines = [json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(texts)]
    (folder / "a.jsonl").write_text("".join(lines[:60]), "utf-8")
    (folder / "sub").mkdir()
    with gzip.open(folder / "sub" / "b.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("".join(lines[60:90]))
    for i, text in enumerate(texts[90:]):
        (folder / "sub" / f"{i:02d}.txt").write_bytes(text.encode())
    return folder


@pytest.fixture(scope="session")
def by_default(tmp_path_factory: pytest.TempPathFactory) -> DefaultBuild:
    """A build that is told nothing; read-only but for the store, on which builds must take turns."""
    return default_build(tmp_path_factory.mktemp("default"))


SMALL: dict[str, Any] = {
    "tokenizer": "bytes",
    "start_length": 8,
    "max_length": 64,
    "batch_rows": 8,
    "shuffle_window": 30_000,
    "shard_bytes": 8_000,
    "workers": 1,
}
"""Several windows, several shards per phase, a few seconds at most."""


@pytest.fixture(scope="session")
def build_small(corpus: Path) -> Callable[..., BuildResult]:
    """Build the small corpus into a folder; keyword arguments override `SMALL`."""

    def run(out: Path, **options: Any) -> BuildResult:
        values = {**SMALL, "corpus": (str(corpus),), "out": str(out), **options}
        return build(load_options(None, values), Silent())

    return run


@pytest.fixture(scope="session")
def small_dataset(build_small: Callable[..., BuildResult], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished dataset: segment mode, held-out documents; treat it as read-only."""
    out = tmp_path_factory.mktemp("small") / "dataset"
    build_small(out, validation_tokens=6_000)
    return out


TINY: dict[str, Any] = {
    "start_length": 8,
    "max_length": 16,
    "batch_rows": 2,
    "steps": 16,
    "shard_bytes": 300,
    "validation_tokens": 40,
}
"""Small enough to be moved hundreds of times."""


@pytest.fixture(scope="session")
def tiny(build_small: Callable[..., BuildResult], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 steps in two phases, a dozen shards, held-out rows; treat it as read-only."""
    out = tmp_path_factory.mktemp("tiny") / "dataset"
    build_small(out, **TINY)
    return out


@pytest.fixture(scope="session")
def other(build_small: Callable[..., BuildResult], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another order of the same: names and sizes of all training shards are those of `tiny`."""
    out = tmp_path_factory.mktemp("other") / "dataset"
    build_small(out, **TINY, seed=1)
    return out


@pytest.fixture(scope="session")
def longer(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny`, extended by eight steps."""
    out = tmp_path_factory.mktemp("longer") / "dataset"
    shutil.copytree(tiny, out)
    grow(out, store=tiny.with_name("dataset.store"), steps=8)
    return out
