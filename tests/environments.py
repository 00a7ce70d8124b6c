"""Environments of their own for servers and trainers of the tests: made once, in a cache folder that later runs use.

In:  a name and pinned packages.   Out: the folder `bin` of a venv that has them.
Guarantee: made under a lock and marked when complete, so neither a killed run nor two at once leave half of one. Where
that is not possible the test is skipped, and fails in CI.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import pytest

TIMEOUT_SECONDS = 600
MARK = "complete"


@cache
def environment(name: str, *packages: str, sees: tuple[str, ...] = ()) -> Path:
    """The folder `bin` of a venv with these packages.

    Args:
        sees: folders of packages that come after its own: the running environment's, to have no second torch.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "curriculum-tests"
    root.mkdir(parents=True, exist_ok=True)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = root / f"{name}-python{version}"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go when the file is closed, also by a kill
        mark, content = folder / MARK, "\n".join((sys.version, *packages, *sees))
        if not mark.exists() or mark.read_text() != content:
            shutil.rmtree(folder, ignore_errors=True)  # scripts name the folder: it cannot be made elsewhere and moved
            problem = _make(folder, packages, sees)
            if problem and os.environ.get("CI") == "true":
                pytest.fail(f"{name} cannot be installed: {problem}")
            if problem:
                pytest.skip(f"{name} cannot be installed: {problem}")
            mark.write_text(content)
    return folder / "bin"


def _make(folder: Path, packages: tuple[str, ...], sees: tuple[str, ...]) -> str | None:
    """Make a venv; a sentence if that is not possible."""
    problem = _run(sys.executable, "-m", "venv", "--without-pip", str(folder))  # a pip of its own costs 4 s
    if problem:
        return problem
    (site_packages,) = folder.glob("lib/python*/site-packages")
    if sees:
        (site_packages / "seen_too.pth").write_text("\n".join(sees) + "\n")
    pip = (sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"))
    return _run(*pip, "install", "--quiet", "--no-compile", *packages)  # what is imported is compiled then


def _run(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"it took more than {TIMEOUT_SECONDS} seconds"
    return next(reversed(done.stderr.strip().splitlines()), "it failed") if done.returncode else None


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes], seconds: float = 60.0) -> None:
    """Until somebody listens there."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended"
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"nobody listens on port {port} after {seconds} s")
