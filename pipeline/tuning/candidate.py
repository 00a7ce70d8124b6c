"""What a tune tries, and what trying it tells: the seam between the search and whatever trains.

In:  a `Candidate`, how many of its first steps to train, and a function that is told each validation as it comes.
Out: a `ProbeRun`.   Guarantee: values only; who searches knows no trainer, and who trains knows no search.

    def prober(candidate, num_steps, stop_now):     # any callable is a `Prober`
        losses = ...                                # train steps 0 .. num_steps - 1 of the candidate's full plan
        for step in (9, 19, 29):
            if stop_now(Evaluation(step=step, perplexity=math.exp(losses[step]))):
                break                               # nothing after it changes the judgement
        return ProbeRun(...)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from curriculum.errors import BuildError
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
    wrong = [one for one in returned.evaluations if not isinstance(one, Evaluation)]
    if wrong:
        raise BuildError(
            f"among the evaluations of the ProbeRun is {shown(wrong[0])}; give a "
            f"pipeline.tuning.Evaluation(step=..., perplexity=...) for each validation."
        )
    return returned
