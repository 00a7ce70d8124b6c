"""An environment of its own for torchtitan, which pins `datasets<4.8`: a venv that sees the packages of this one too.

Made once, 20 seconds and 1.2 GB (of which triton is 1.0: torchtitan imports it, and only CUDA builds of torch bring
it), in a cache folder that every later run uses. Made aside and renamed, so a killed run leaves no half environment;
under a lock, so two test processes do not make it twice. Its own packages come before those of this environment.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

VERSION = "0.3.0"
ROOT = Path(__file__).parents[1]
TIMEOUT_S = 600


def titan_python() -> Path:
    """The interpreter of the environment; skips the test where it cannot be made, and fails it in CI."""
    folder, problem = _folder_and_problem()
    if problem and os.environ.get("CI") == "true":
        pytest.fail(f"torchtitan {VERSION} cannot be installed: {problem}")
    if problem:
        pytest.skip(f"torchtitan {VERSION} cannot be installed: {problem}")
    return folder / "bin" / "python"


@cache
def _folder_and_problem() -> tuple[Path, str | None]:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "curriculum-tests"
    root.mkdir(parents=True, exist_ok=True)
    sees = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    built_on = hashlib.sha256("\n".join([sys.version, version("torch"), *sees]).encode()).hexdigest()[:8]
    folder = root / f"torchtitan-{VERSION}-{built_on}"
    with (root / "torchtitan.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go when the file is closed, also by a kill
        return folder, None if folder.exists() else _make(folder, sees)


def _make(folder: Path, sees: list[str]) -> str | None:
    """Make the environment; a sentence if that is not possible."""
    for left in folder.parent.glob(f"{folder.name}.aside-*"):  # of a run that was killed: we hold the lock
        shutil.rmtree(left)
    aside = Path(tempfile.mkdtemp(prefix=f"{folder.name}.aside-", dir=folder.parent))
    try:
        venv.create(aside, symlinks=True)
        python = aside / "bin" / "python"
        (site_packages,) = aside.glob("lib/python*/site-packages")
        (site_packages / "seen_too.pth").write_text("\n".join(sees) + "\n")  # come after its own
        packages = [f"torchtitan=={VERSION}", "triton"]
        _call([sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", *packages])
        _call([str(python), "-c", "import curriculum.examples.torchtitan_on_cpu, torchtitan.trainer"])
        aside.rename(folder)
    except subprocess.TimeoutExpired:
        return f"it took more than {TIMEOUT_S} seconds"
    except subprocess.CalledProcessError as error:
        return next(reversed(error.stderr.strip().splitlines()), f"{error.cmd} failed")
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return None


def _call(command: list[str]) -> None:
    subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True, env=environment())


def environment(**more: str) -> dict[str, str]:
    """For programs of that environment: this checkout, one thread."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def run_titan(*arguments: str, more: Mapping[str, str] = {}, timeout_s: int = 240) -> list[dict[str, Any]]:
    """Run a program there; the JSON objects that it printed, one per line."""
    done = subprocess.run(
        [str(titan_python()), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env=environment(**more),
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
