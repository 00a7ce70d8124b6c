"""Call a training function in a process of its own: what `run_callable.py` runs.

In:  a JSON object: the path that modules are found by, and where the function is; then what it is given.
Out: whatever the function writes; an exception is printed and ends in exit code 1.

    called.py '{"path": [...], "module": "mine.training", "file": null, "name": "train"}' DATASET STEPS LOG
"""

from __future__ import annotations

import importlib
import json
import runpy
import sys
from functools import reduce
from types import SimpleNamespace
from typing import Any


def main(where: str, dataset: str, steps: str, log: str) -> None:
    """Find the function and call it."""
    call = json.loads(where)
    sys.path[:] = call["path"]
    sys.argv[1:] = []
    module: Any
    if call["file"] is not None:  # a script: under another name than `__main__`, so that it does not begin itself
        module = SimpleNamespace(**runpy.run_path(call["file"], run_name="__mp_main__"))
    else:
        module = importlib.import_module(call["module"])
    function = reduce(getattr, call["name"].split("."), module)
    function(dataset, int(steps), log)


if __name__ == "__main__":
    main(*sys.argv[1:])
