"""The borders of an epoch in the plan of a mixture, by hand."""

from __future__ import annotations

import pytest

from curriculum.errors import PlanError
from pipeline.mixed_windows import epochs_begun, number_streams
from pipeline.mixture_plan import SourceSize, plan_mixture
from pipeline.options import Options


def test_the_token_after_the_last_begins_an_epoch() -> None:
    """The target of the last input of an epoch is the first token of the next: its stream is two epochs long."""
    assert [epochs_begun(consumed, 10) for consumed in (0, 1, 9, 10, 19, 20)] == [0, 1, 1, 2, 2, 3]
    assert number_streams((10, 0, 9), (10, 7, 10), (3, 2, 4)) == ((0, 0), (20, 6), (20, 6))


def test_the_first_token_of_a_source_is_no_target() -> None:
    """400 tokens give 399 targets: 49 rows of 8, not 50."""
    sizes = [SourceSize(name="a", num_tokens=1_000, epochs=1), SourceSize(name="b", num_tokens=400, epochs=1)]
    options = Options(phases="8:*", batch_rows=2, weight=("a=0.5", "b=0.5"))
    said: list[str] = []
    plan, mixture = plan_mixture(options, sizes, 2, said.append)
    assert plan.phases[0].num_rows == 98
    assert mixture.weights == ((1, 1),)
    assert said == [
        "Source 'b' ends the plan after 49 steps: one more would take 400 tokens of it, and 1 epoch of its 400 tokens "
        "offers 399."
    ]
    with pytest.raises(PlanError, match=r"takes 400 tokens of source 'b', but 1 epoch of its 400 tokens offers 399"):
        plan_mixture(Options(phases="8:50", batch_rows=2, weight=("a=0.5", "b=0.5")), sizes, 2)
