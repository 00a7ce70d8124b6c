"""The first command of the README, run once: what a newcomer gets who has no corpus.

In:  an empty folder.   Out: the dataset and the token store that it leaves there, and what it said.
It tokenizes 32 MB, Python's standard library, which takes as long as a hundred small builds; the zoo takes the tokens
from there.

    default_build(folder).store     folder/curriculum-data.store
"""

from __future__ import annotations

import shlex
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner

from pipeline.cli import main

COMMAND = "curriculum build --schedule linear --frac 0.3"


@dataclass(frozen=True, kw_only=True, slots=True)
class DefaultBuild:
    """What it left."""

    dataset: Path
    store: Path
    stderr: str


def default_build(folder: Path) -> DefaultBuild:
    """Run the command there."""
    with chdir(folder):
        result = CliRunner().invoke(main, shlex.split(COMMAND)[1:])
    assert result.exit_code == 0, result.output
    return DefaultBuild(
        dataset=folder / "curriculum-data", store=folder / "curriculum-data.store", stderr=result.stderr
    )
