"""What a tune tries, and what trying it tells: the seam between the search and whatever trains.

In:  a `Candidate`, how many of its first steps to train, and a function that is told each validation as it comes.
Out: a `ProbeRun`.
Guarantee: values only; who searches knows no trainer, and who trains knows no search. Numbers of numpy and torch become
plain ones, and what cannot be such a number is refused where it is given, before a state is written with it.

    def prober(candidate, num_steps, stop_now):     # any callable is a `Prober`
        losses = ...                                # train steps 0 .. num_steps - 1 of the candidate's full plan
        for step in (9, 19, 29):
            if stop_now(Evaluation(step=step, perplexity=math.exp(losses[step]))):
                break                               # nothing after it changes the judgement
        return ProbeRun(...)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import index
from typing import Any, Protocol

from curriculum.errors import BuildError
from curriculum.json_object import MAX_INTEGER
from curriculum.printable import shown


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One warmup that could be trained: where it starts, and in how many steps it reaches the full length."""

    start_length: int
    length_warmup_steps: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """One validation at full length. Perplexity may be infinite or NaN: the run diverged."""

    step: int
    """The step, from 0, after whose update the model was validated."""
    perplexity: float
    """exp(mean loss in nats per target)."""

    def __post_init__(self) -> None:
        """Refuse what is no validation.

        Raises:
            BuildError: names the value and what is allowed.
        """
        object.__setattr__(self, "step", _count(self, "step"))
        object.__setattr__(self, "perplexity", _number(self, "perplexity"))


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeRun:
    """What came of training the first steps of a candidate."""

    evaluations: tuple[Evaluation, ...]
    """By rising step, one for each step that was validated; those after a stop may be left out."""
    num_tokens: int
    """Targets trained."""
    num_steps: int
    """Steps trained."""
    stopped_early: bool
    """Whether `stop_now` ended it before its last step."""
    seconds: float
    """Wall clock, whatever it needed besides training included."""

    def __post_init__(self) -> None:
        """Refuse what says of no training how it went.

        Raises:
            BuildError: names the value and what is allowed.
        """
        object.__setattr__(self, "evaluations", _evaluations(self))
        for name in ("num_tokens", "num_steps"):
            object.__setattr__(self, name, _count(self, name))
        object.__setattr__(self, "stopped_early", bool(self.stopped_early))
        seconds = _number(self, "seconds")
        if not 0 <= seconds <= MAX_INTEGER:
            raise _wrong(self, "seconds", self.seconds, "a number of 0 or more")
        object.__setattr__(self, "seconds", seconds)


class Prober(Protocol):
    """Trains the first steps of a candidate's full plan, and says how validation went."""

    def __call__(self, candidate: Candidate, num_steps: int, stop_now: Callable[[Evaluation], bool], /) -> ProbeRun:
        """Train steps 0 to `num_steps` - 1; after each validation ask `stop_now`, and end if it says True.

        Raises:
            BuildError: the training failed, hung or wrote nothing that could be read: a sentence says what to do.
        """
        ...


def require_run(returned: object) -> ProbeRun:
    """What a prober returned, which may be one of people's own.

    Raises:
        BuildError: it is something else.
    """
    if not isinstance(returned, ProbeRun):
        raise BuildError(f"the prober returned {shown(returned)}; let it return a pipeline.tuning.ProbeRun.")
    return returned


def _evaluations(run: ProbeRun) -> tuple[Evaluation, ...]:
    given: Any = run.evaluations
    found = tuple(given) if isinstance(given, Iterable) else (given,)
    for one in found:
        if not isinstance(one, Evaluation):
            raise _wrong(run, "evaluations", one, "a pipeline.tuning.Evaluation for each validation")
    return found


def _count(of: Evaluation | ProbeRun, name: str) -> int:
    value = getattr(of, name)
    try:
        found = index(value)
    except TypeError:
        found = -1
    if not 0 <= found <= MAX_INTEGER:
        raise _wrong(of, name, value, "a whole number of 0 or more")
    return found


def _number(of: Evaluation | ProbeRun, name: str) -> float:
    value = getattr(of, name)
    try:
        if isinstance(value, str | bytes):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last is torch's, of several numbers
        raise _wrong(of, name, value, "a number") from None


def _wrong(of: Evaluation | ProbeRun, name: str, value: object, allowed: str) -> BuildError:
    return BuildError(f"{name} of a prober's {type(of).__name__} is {shown(value)}; give {allowed}.")
