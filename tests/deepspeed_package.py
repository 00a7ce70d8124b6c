"""The real DeepSpeed scheduler class, from the source distributions on PyPI.

0.19.6 is the last release before PR #8334 (the lower clamp), 0.19.8 has it. Downloaded once into a cache folder; only
`curriculum_scheduler.py` and the constants beside it are run, because the whole package needs a GPU toolchain.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import subprocess
import sys
import tarfile
import tempfile
import types
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

SHA256 = {
    "0.19.6": "31593acffbe4794c74446094122b1bc29d8c73a137e37aff899ca4a6480df2d8",
    "0.19.8": "9e491abd0827ea5c389dd702e15e11e13d83d904bac4a20d6c2a4cb37207a9af",
}
FOLDER = "deepspeed/runtime/data_pipeline"


@cache
def curriculum_scheduler(version: str) -> type[Any]:
    """`CurriculumScheduler` of a release; skips the test where there is no network, and fails it in CI."""
    folder = _sources(version)
    package = types.ModuleType(f"deepspeed_{version.replace('.', '_')}")
    package.__path__ = [str(folder)]
    stubs = {
        package.__name__: package,
        "deepspeed": types.ModuleType("deepspeed"),
        "deepspeed.utils": types.ModuleType("deepspeed.utils"),
    }
    stubs["deepspeed.utils"].logger = logging.getLogger("deepspeed")  # type: ignore[attr-defined]
    with mock.patch.dict(sys.modules, stubs):
        spec = importlib.util.spec_from_file_location(
            f"{package.__name__}.curriculum_scheduler", folder / "curriculum_scheduler.py"
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    scheduler: type[Any] = module.CurriculumScheduler
    return scheduler


def _sources(version: str) -> Path:
    """The folder with the two files, taken from the cache or downloaded into it."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    archive = Path(root) / "curriculum" / "tests" / f"deepspeed-{version}.tar.gz"
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=archive.parent) as aside:
            _download(version, Path(aside))
            Path(aside, archive.name).replace(archive)
    data = archive.read_bytes()
    assert hashlib.sha256(data).hexdigest() == SHA256[version], f"{archive}: not the file on PyPI; delete it."
    folder = archive.with_name(f"deepspeed-{version}")
    folder.mkdir(exist_ok=True)
    with tarfile.open(archive) as files:
        for name in ("curriculum_scheduler.py", "constants.py"):
            source = files.extractfile(f"deepspeed-{version}/{FOLDER}/{name}")
            assert source is not None
            text = source.read()
            if not (folder / name).exists() or (folder / name).read_bytes() != text:
                (folder / name).write_bytes(text)
    return folder


def _download(version: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    command += ["--no-build-isolation", "--dest", str(folder), f"deepspeed=={version}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        problem = "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["pip failed"])[-1]
    except subprocess.TimeoutExpired:
        problem = "pip took more than 300 seconds"
    if problem and os.environ.get("CI") == "true":
        pytest.fail(f"DeepSpeed {version} cannot be downloaded: {problem}")
    if problem:
        pytest.skip(f"DeepSpeed {version} cannot be downloaded: {problem}")
