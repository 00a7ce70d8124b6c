"""An environment of its own for torchtitan, which pins `datasets<4.8`: a venv that sees the packages of this one too.

1.2 GB, of which triton is 1.0: torchtitan imports it, and only CUDA builds of torch bring it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import environments

VERSION = "0.3.0"
ROOT = Path(__file__).parents[1]


def titan_python() -> Path:
    """The interpreter of the environment; skips the test where it cannot be made, and fails it in CI."""
    sees = tuple(path for path in sys.path if path.endswith(("site-packages", "dist-packages")))
    return environments.environment("torchtitan", f"torchtitan=={VERSION}", "triton", sees=sees) / "python"


def environment(**more: str) -> dict[str, str]:
    """For programs of that environment: this checkout, one thread."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def run_titan(
    python: Path, *arguments: str, more: Mapping[str, str] = {}, timeout_s: int = 240
) -> list[dict[str, Any]]:
    """Run a program there, and what it starts, with `python`; the JSON objects that it printed, one per line."""
    done = subprocess.run(
        [str(python), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env=environment(**more, PYTHON_EXEC=str(python)),
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
