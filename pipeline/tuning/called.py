"""Call a training function in a process of its own: what `run_callable.py` runs.

In:  a JSON object: the path that modules are found by, where the function is, the names of its arguments; then those.
Out: whatever the function writes; an exception is printed and ends in exit code 1.
Guarantee: the script, or the module of `python -m`, that began the tune is loaded as what it is and under another name
than `__main__`, so that it does not begin itself. Then it is the main module here, as in a worker of `multiprocessing`:
the function may start workers of its own by spawn, who look there for what they are to run.

    called.py '{..., "module": "mine.training", "name": "train", "takes": ["dataset", "steps", "log"]}' D 300 LOG
"""

from __future__ import annotations

import importlib
import json
import runpy
import sys
from functools import reduce
from types import ModuleType
from typing import Any

LOADED_AS = "__mp_main__"
"""As in the processes of `multiprocessing`."""
PATHS = ("dataset", "log", "out")
"""Arguments that are no integers."""


def main(where: str, *values: str) -> None:
    """Find the function and call it."""
    call = json.loads(where)
    sys.path[:] = call["path"]
    sys.argv[1:] = []
    function: Any = reduce(getattr, call["name"].split("."), _module(call))
    function(
        **{name: value if name in PATHS else int(value) for name, value in zip(call["takes"], values, strict=True)}
    )


def _module(call: dict[str, Any]) -> Any:
    if "module" in call:
        return importlib.import_module(call["module"])
    if "script" in call:
        found = runpy.run_path(call["script"], run_name=LOADED_AS)
    else:  # alter_sys: a dataclass looks its module up in sys.modules; of run_path it is there always
        found = runpy.run_module(call["program"], run_name=LOADED_AS, alter_sys=True)
    loaded = ModuleType(LOADED_AS)
    vars(loaded).update(found)
    sys.modules["__main__"] = sys.modules[LOADED_AS] = loaded
    return loaded


if __name__ == "__main__":
    main(*sys.argv[1:])
