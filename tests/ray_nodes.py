"""A Ray cluster for tests, and builds on it, all in processes of their own: Ray's threads and warnings stay there.

In:  nothing.   Out: `RayNodes`: nodes that are killed and added, and commands that run against them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import environments

ROOT = Path(__file__).parents[1]
VERSION = "2.60.0"


def ray_python() -> str:
    """An interpreter that has Ray and all packages of this one; skips where that cannot be made, and fails in CI."""
    sees = tuple(path for path in sys.path if path.endswith(("site-packages", "dist-packages")))
    return str(environments.environment("ray", f"ray=={VERSION}", sees=sees) / "python")


def environment(**more: str) -> dict[str, str]:
    """For programs there: this checkout and the modules of the tests."""
    path = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**clean, "PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONWARNINGS": "ignore", **more}


class RayNodes:
    """Three nodes of one CPU each, unless said otherwise."""

    def __init__(self, num_nodes: int = 3) -> None:
        self.python = ray_python()
        self._host = subprocess.Popen(
            [self.python, str(ROOT / "tests" / "ray_cluster_host.py"), str(num_nodes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment(),
        )
        told = self._answer()
        self.address: str = told["address"]
        self.nodes: list[str] = told["nodes"]

    def kill(self, node: str) -> None:
        """As when the machine loses power."""
        self._tell(f"kill {node}")
        self._answer()
        self.nodes.remove(node)

    def add(self, **variables: str) -> str:
        """A node with that environment."""
        self._tell(" ".join(["add", *(f"{name}={value}" for name, value in variables.items())]))
        node = str(self._answer())
        self.nodes.append(node)
        return node

    def start(self, *arguments: str, cwd: Path | None = None, **more: str) -> subprocess.Popen[str]:
        """A program of the environment."""
        return subprocess.Popen(
            [self.python, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(**more),
            cwd=cwd,
        )

    def close(self) -> None:
        """End all nodes."""
        assert self._host.stdin is not None
        assert self._host.stdout is not None
        self._host.stdin.close()
        self._host.wait(60)
        self._host.stdout.close()

    def _tell(self, line: str) -> None:
        assert self._host.stdin is not None
        self._host.stdin.write(line + "\n")
        self._host.stdin.flush()

    def _answer(self) -> Any:
        assert self._host.stdout is not None
        return json.loads(self._host.stdout.readline())


def soon(condition: Callable[[], Any], seconds: float = 40.0) -> Any:
    """What comes true within some time; None if nothing does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    return None
