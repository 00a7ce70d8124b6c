"""A Python function as the training of a probe.

In:  `function(dataset: str, steps: int, log: str)`, found again by its name in another process; it is given more of the
     placeholders of a command, such as `decay_tokens`, where it has parameters of these names.
Out: a `Training`; it is run, followed and ended as a command is.
Guarantee: the function runs in a process of its own, so that it can be ended early, crash or hang without harm. The
process finds modules as this one does. Of a script nothing below `if __name__ == "__main__":` runs again.

    def train(dataset, steps, log, decay_tokens): ...
    training_function(train).words      python called.py '{"name": "train", ...}' {dataset} {steps} {log} {decay_tokens}
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

from curriculum.errors import ConfigError
from pipeline.tuning import called
from pipeline.tuning.train_command import NEEDED, PLACEHOLDERS, Training


def training_function(function: Callable[..., object]) -> Training:
    """A function as a training.

    Raises:
        ConfigError: another process could not find it by its name, or its parameters are others.
    """
    module_name, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    module = sys.modules.get(module_name or "")
    file = getattr(module, "__file__", None) if module_name == "__main__" else None
    if name is None or module is None or not _is_found(module, name, function) or (module_name, file) == MAIN_ONLY:
        raise ConfigError(
            f"The training function is {function!r}; it is called in another process, which finds it by its name: give "
            f"a function that is defined at the top of a module or of a script, no lambda, method or partial."
        )
    takes = _taken(function, name)
    call = {
        "path": sys.path,
        "module": module_name,
        "file": None if file is None else str(Path(file).absolute()),
        "name": name,
        "takes": takes,
    }
    return Training(
        name=f"the training function {name}",
        words=(sys.executable, str(called.__file__), json.dumps(call), *(f"{{{each}}}" for each in takes)),
    )


def _taken(function: Callable[..., object], name: str) -> list[str]:
    """Names of the arguments that it is given: all that it has parameters for."""
    parameters = inspect.signature(function).parameters.values()
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        takes = list(PLACEHOLDERS)
    else:
        by_name = {each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
        takes = [placeholder for placeholder in PLACEHOLDERS if placeholder in by_name]
    missing = [placeholder for placeholder in NEEDED if placeholder not in takes]
    others = [
        each.name
        for each in parameters
        if each.default is each.empty
        and each.name not in takes
        and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    if missing or others:
        what = f"no parameter {missing[0]}" if missing else f"a parameter {others[0]} that nothing is known for"
        raise ConfigError(
            f"The training function {name} has {what}. It is called with dataset, steps and log, by these names, and "
            f"with what it has parameters for of {', '.join(each for each in PLACEHOLDERS if each not in NEEDED)}."
        )
    return takes


MAIN_ONLY = ("__main__", None)
"""Typed into an interpreter."""


def _is_found(module: Any, name: str, function: object) -> bool:
    try:
        return reduce(getattr, name.split("."), module) is function
    except AttributeError:
        return False
