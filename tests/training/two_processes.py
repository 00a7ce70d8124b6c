"""What torchrun starts twice in a test: a command, and then what only one of the processes finds wrong.

In:  a folder, a dataset, the words of a `curriculum train`.   Out: FOLDER/heard-RANK.json, what was refused there.

    torchrun --standalone --nproc-per-node 2 two_processes.py FOLDER DATASET train DATASET --out RUN --json
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

from curriculum.errors import CurriculumError
from curriculum.training import Settings, train
from pipeline.cli import main as command_line


def refusal(dataset: str, **values: Any) -> str:
    """What a run that cannot be says on this process."""
    try:
        train(Settings(dataset=dataset, layers=1, width=16, heads=2, lr=1e-2, lr_warmup_steps=3, **values))
    except CurriculumError as error:
        return str(error)
    return "nothing"


def main(folder: str, dataset: str, *command: str) -> None:
    """Run the command, then what is refused."""
    rank = os.environ["RANK"]
    command_line.main(list(command), standalone_mode=False)
    heard = [
        refusal(dataset, out=f"{folder}/machine-{rank}"),  # as of machines that share no disk
        refusal(dataset, out=dataset),
    ]
    if rank == "0":  # as on a disk that is full after the first lines of the log
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    heard.append(refusal(dataset, out=f"{folder}/full"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    Path(folder, f"heard-{rank}.json").write_text(json.dumps(heard))


if __name__ == "__main__":
    main(*sys.argv[1:])
