"""A pacing function of one's own: any installed package offers it by an entry point.

In:  the name of an entry point of the group `curriculum.pacing`.
Out: the function f(x: float) -> float that it names: growing on [0, 1] to f(1) = 1; length = start + D * f(t / T).

Guarantees: it is loaded only when a schedule asks for it by name, never because a plan or a manifest mentions it; a
function that is not what it must be is refused in a sentence. Whether its values are equal on two machines is its own
matter: the plan holds the lengths, so a dataset never needs the function again.

    # pyproject.toml of the package that offers it
    [project.entry-points."curriculum.pacing"]
    slow-start = "my_package.curves:slow_start"         # def slow_start(x: float) -> float: return x * x * x
"""

from collections.abc import Callable, Collection
from math import isfinite
from numbers import Real
from typing import Any

from curriculum.errors import PlanError

GROUP = "curriculum.pacing"
GRID = 1024


def load_pacing_function(name: str, built_in: Collection[str] = ()) -> Callable[[float], float]:
    """The checked function of that name; `built_in` are the names that need none, for the error message.

    Raises:
        PlanError: no package or two offer the name, it cannot be loaded, or it is not a growing function.
    """
    from importlib.metadata import entry_points  # 20 ms that no plan without such a function should pay

    found = {(entry.value, entry.dist and entry.dist.name): entry for entry in entry_points(group=GROUP, name=name)}
    if not found:
        installed = ", ".join(sorted({entry.name for entry in entry_points(group=GROUP)})) or "none"
        raise PlanError(
            f"schedule is {name!r}; choose one of {', '.join(built_in)}. "
            f"Installed entry points of group {GROUP!r}: {installed}."
        )
    if len(found) > 1:
        packages = " and ".join(sorted(str(package) for _, package in found))
        raise PlanError(f"schedule {name!r} is offered by {packages}; uninstall all but one, or rename one.")
    [((value, package), entry)] = found.items()
    try:
        loaded = entry.load()
    except (Exception, SystemExit) as error:  # whatever a foreign module raises at import
        raise PlanError(
            f"schedule {name!r} cannot be loaded from {value!r} of {package}: {type(error).__name__}: {error}. "
            f"Repair or reinstall that package."
        ) from error
    function = _guarded(name, loaded)
    _require_growing(name, function)
    return function


def _guarded(name: str, loaded: Any) -> Callable[[float], float]:
    """The function with its failures as sentences; its value must be a float from 0 to 1."""

    def guarded(x: float) -> float:
        try:
            found = loaded(x)
            if not isinstance(found, Real):
                raise TypeError(f"{type(found).__name__} instead of a number")
            value = float(found)
        except (Exception, SystemExit) as error:
            raise PlanError(
                f"the pacing function of schedule {name!r} fails at x = {x}: {type(error).__name__}: {error}. "
                f"It must give a number for every x from 0 to 1."
            ) from error
        if not isfinite(value) or not 0 <= value <= 1:
            raise PlanError(
                f"the pacing function of schedule {name!r} gives {value} at x = {x}; it must be from 0 to 1."
            )
        return value

    return guarded


def _require_growing(name: str, function: Callable[[float], float]) -> None:
    before = 0.0
    for i in range(GRID + 1):
        value = function(i / GRID)
        if value < before:
            raise PlanError(
                f"the pacing function of schedule {name!r} falls from {before} to {value} at x = {i / GRID}; "
                f"a pacing function must never fall."
            )
        before = value
    if before != 1:
        raise PlanError(f"the pacing function of schedule {name!r} gives {before} at x = 1; it must reach 1 there.")
