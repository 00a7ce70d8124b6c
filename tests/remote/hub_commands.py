"""Runs commands as a client of a Hub of its own: clients take its address from the environment when they are imported.

In:  argument lists and environment variables.   Out: exit code, stdout and stderr of each.
Guarantee: they run one after the other in one process, as a shell would run them: `datasets` takes a second to load.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RUN = """
import json, sys
from click.testing import CliRunner
from pipeline.cli import main
for arguments in json.loads(sys.argv[1]):
    done = CliRunner().invoke(main, arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    print(json.dumps([done.exit_code, done.stdout, done.stderr]), flush=True)
"""


@dataclass(frozen=True, kw_only=True)
class Done:
    """A command that ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def answer(self) -> Any:
        """What `--json` printed."""
        assert self.code == 0, self.stderr
        return json.loads(self.stdout)


def run(commands: list[list[str]], variables: Mapping[str, str]) -> list[Done]:
    """Run them all, whatever their exit codes are."""
    done = subprocess.run(command(commands), env=environment(variables), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [Done(code=code, stdout=out, stderr=err) for code, out, err in lines]


def command(commands: list[list[str]]) -> list[str]:
    """What runs them."""
    return [sys.executable, "-c", RUN, json.dumps(commands)]


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment that they run in."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
