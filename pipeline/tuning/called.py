"""Call a training function in a process of its own: what `run_callable.py` runs.

In:  a JSON object: the path that modules are found by, where the function is, the names of its arguments; then those.
Out: whatever the function writes; an exception is printed and ends in exit code 1.

    called.py '{..., "module": "mine.training", "name": "train", "takes": ["dataset", "steps", "log"]}' D 300 LOG
"""

from __future__ import annotations

import importlib
import json
import runpy
import sys
from functools import reduce
from types import SimpleNamespace
from typing import Any

PATHS = ("dataset", "log", "out")
"""Arguments that are no integers."""


def main(where: str, *values: str) -> None:
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
    function(
        **{name: value if name in PATHS else int(value) for name, value in zip(call["takes"], values, strict=True)}
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
