"""A Python function as the training of a probe.

In:  `function(dataset: str, steps: int, log: str)`, found again by its name in another process.
Out: a `Training`; it is run, followed and ended as a command is.
Guarantee: the function runs in a process of its own, so that it can be ended early, crash or hang without harm. The
process finds modules as this one does. Of a script nothing below `if __name__ == "__main__":` runs again.

    training_function(train).words      python .../called.py '{"module": "mine", ...}' {dataset} {steps} {log}
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

from curriculum.errors import ConfigError
from pipeline.tuning import called
from pipeline.tuning.train_command import Training


def training_function(function: Callable[[str, int, str], object]) -> Training:
    """A function as a training.

    Raises:
        ConfigError: another process could not find it by its name.
    """
    module_name, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    module = sys.modules.get(module_name or "")
    file = getattr(module, "__file__", None) if module_name == "__main__" else None
    if name is None or module is None or not _is_found(module, name, function) or (module_name, file) == MAIN_ONLY:
        raise ConfigError(
            f"The training function is {function!r}; it is called in another process, which finds it by its name: give "
            f"a function that is defined at the top of a module or of a script, no lambda, method or partial."
        )
    call = {
        "path": sys.path,
        "module": module_name,
        "file": None if file is None else str(Path(file).absolute()),
        "name": name,
    }
    return Training(
        name=f"the training function {name}",
        words=(sys.executable, str(called.__file__), json.dumps(call), "{dataset}", "{steps}", "{log}"),
    )


MAIN_ONLY = ("__main__", None)
"""Typed into an interpreter."""


def _is_found(module: Any, name: str, function: object) -> bool:
    try:
        return reduce(getattr, name.split("."), module) is function
    except AttributeError:
        return False
