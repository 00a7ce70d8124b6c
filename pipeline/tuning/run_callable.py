"""A Python function as the training of a probe.

In:  `function(dataset: str, steps: int, log: str)`, found again by its name in another process; it is given more of the
     placeholders of a command, such as `decay_tokens`, where it has parameters of these names.
Out: a `Training`; it is run, followed and ended as a command is.
Guarantee: the function runs in a process of its own, so that it can be ended early, crash or hang without harm. The
process finds modules as this one does. Of a script, or of a module that `python -m` runs, nothing below
`if __name__ == "__main__":` runs again.

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
    module_name, name = getattr(function, "__module__", None) or "", getattr(function, "__qualname__", None)
    if module_name == called.LOADED_AS:
        raise ConfigError(
            f"The tune was begun again by a process that only looks for its training function {name}: put the call of "
            f"the tune below `if __name__ == '__main__':`."
        )
    where = _where(module_name)
    if name is None or where is None or not _is_found(sys.modules[module_name], name, function):
        raise ConfigError(
            f"The training function is {function!r}; it is called in another process, which finds it by its name: "
            f"define it in a file, at the top of a module or of a script; nothing from a notebook, an interpreter or "
            f"standard input is found there, nor is a lambda, a method or a partial."
        )
    takes = _taken(function, name)
    call = {"path": sys.path, **where, "name": name, "takes": takes}
    return Training(
        name=f"the training function {name}",
        words=(sys.executable, str(called.__file__), json.dumps(call), *(f"{{{each}}}" for each in takes)),
    )


def _where(module_name: str) -> dict[str, str] | None:
    """How another process finds a module; None: it cannot, as with what was typed into an interpreter."""
    module = sys.modules.get(module_name)
    if module is None or module_name != "__main__":
        return None if module is None else {"module": module_name}
    if module.__spec__ is not None and module.__spec__.name != "__main__":  # by `python -m`
        return {"program": module.__spec__.name}
    file = getattr(module, "__file__", None)
    return {"script": str(Path(file).absolute())} if file is not None and Path(file).is_file() else None


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


def _is_found(module: Any, name: str, function: object) -> bool:
    try:
        return reduce(getattr, name.split("."), module) is function
    except AttributeError:
        return False
