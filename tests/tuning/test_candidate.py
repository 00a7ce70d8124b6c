"""What people's own probers return: plain numbers, or a sentence where they are made."""

from __future__ import annotations

from math import inf, isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curriculum.errors import BuildError
from pipeline.tuning import Candidate, Evaluation, ProbeRun
from pipeline.tuning.state import FinishedProbe, open_state, save_state

RUN: dict[str, Any] = {"evaluations": (), "num_tokens": 9, "num_steps": 3, "stopped_early": False, "seconds": 1}


def test_numbers_of_numpy_become_plain_ones() -> None:
    """Otherwise the JSON of the result would fail, after days."""
    one = Evaluation(step=np.int32(5), perplexity=np.float32(0.5))  # type: ignore[arg-type]
    assert [type(value) for value in (one.step, one.perplexity)] == [int, float]
    run = ProbeRun(
        evaluations=(one for _ in range(2)),  # type: ignore[arg-type]
        num_tokens=np.int64(7),  # type: ignore[arg-type]
        num_steps=np.uint8(3),  # type: ignore[arg-type]
        stopped_early=np.True_,  # type: ignore[arg-type]
        seconds=np.float32(0.25),  # type: ignore[arg-type]
    )
    assert repr(run) == repr(
        ProbeRun(
            evaluations=(Evaluation(step=5, perplexity=0.5),) * 2,
            num_tokens=7,
            num_steps=3,
            stopped_early=True,
            seconds=0.25,
        )
    )
    assert isnan(Evaluation(step=1, perplexity=np.float16(nan)).perplexity)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"num_tokens": -5}, "num_tokens of a prober's ProbeRun is -5; give a whole number of 0 or more"),
        ({"num_steps": 0.5}, r"num_steps of a prober's ProbeRun is 0\.5; give a whole number"),
        ({"num_steps": 2**63}, "num_steps of a prober's ProbeRun is 9223372036854775808; give"),
        ({"num_tokens": None}, "num_tokens of a prober's ProbeRun is None; give"),
        ({"seconds": nan}, "seconds of a prober's ProbeRun is nan; give a number of 0 or more"),
        ({"seconds": -1}, "seconds of a prober's ProbeRun is -1; give"),
        ({"seconds": "1"}, "seconds of a prober's ProbeRun is '1'; give a number"),
        ({"evaluations": None}, "evaluations of a prober's ProbeRun is None; give a pipeline.tuning.Evaluation for"),
        ({"evaluations": [(5, 9.0)]}, r"evaluations of a prober's ProbeRun is \[5, 9\.0\]; give"),
    ],
)
def test_what_is_no_run_is_refused_where_it_is_made(wrong: dict[str, Any], sentence: str) -> None:
    """A state that was written with it would be called damaged by the next call."""
    with pytest.raises(BuildError, match=sentence):
        ProbeRun(**{**RUN, **wrong})


@pytest.mark.parametrize(
    ("step", "perplexity", "sentence"),
    [
        (0.5, 9.0, r"step of a prober's Evaluation is 0\.5; give a whole number of 0 or more"),
        (-1, 9.0, "step of a prober's Evaluation is -1; give"),
        (1, None, "perplexity of a prober's Evaluation is None; give a number"),
        (1, "9", "perplexity of a prober's Evaluation is '9'; give"),
        (1, np.ones(2), r"perplexity of a prober's Evaluation is array.*; give"),
        (1, 10**400, "perplexity of a prober's Evaluation is .*; give"),
    ],
)
def test_what_is_no_validation_is_refused_where_it_is_made(step: Any, perplexity: Any, sentence: str) -> None:
    """Before `stop_now` would compare it."""
    with pytest.raises(BuildError, match=sentence):
        Evaluation(step=step, perplexity=perplexity)


def test_every_run_that_can_be_made_can_be_saved(tmp_path: Path) -> None:
    """Whatever comes after the validation that decided is kept, and judged by nobody."""
    seen = [5e-324, 1.0, 1.7e308, inf, -inf, -3.0, nan]
    evaluations = tuple(Evaluation(step=2**63 - 9 + i, perplexity=value) for i, value in enumerate(seen))
    run = ProbeRun(evaluations=evaluations, num_tokens=2**63 - 1, num_steps=0, stopped_early=True, seconds=2.0**62)
    save_state(tmp_path, {}, [FinishedProbe(candidate=Candidate(start_length=8, length_warmup_steps=1), run=run)])
    (before,) = open_state(tmp_path, {}, overwrite=False, say=print)
    assert repr(before.run) == repr(run)
