"""The spike score is OLMo-core's where that is defined, and stays meaningful where a run diverges."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curriculum.spike_score import is_spike, spike_score, spike_scores


def series(num_steps: int, seed: int) -> tuple[list[float], list[float]]:
    """Losses and gradient norms of a run with spikes, by arithmetic alone."""
    losses, norms, state = [], [], seed
    for step in range(num_steps):
        state = (1103515245 * state + 12345) % 2**31
        noise = state / 2**31
        losses.append(2.0 + 8.0 / (1 + step / 10) + 0.2 * noise + (1.5 if step % 97 == 13 and noise > 0.3 else 0.0))
        norms.append(0.5 + 0.1 * ((state >> 7) % 1000) / 1000 + (2.0 if step % 61 == 5 else 0.0))
    return losses, norms


@pytest.mark.parametrize(
    ("num_steps", "seed", "of_loss", "of_norm", "total"),
    [(129, 1, 0, 0, 0.0), (500, 7, 4, 6, 0.02), (1000, 11, 6, 14, 0.02), (2000, 3, 11, 30, 0.0205)],
)
def test_golden_values_of_olmo_core(num_steps: int, seed: int, of_loss: int, of_norm: int, total: float) -> None:
    """Found by running StabilityMonitorCallback of OLMo-core fa6c5014 (2.5.0) on the same series."""
    losses, norms = series(num_steps, seed)
    assert spike_score(losses, "loss").num_spikes == of_loss
    assert spike_score(norms, "grad_norm").num_spikes == of_norm
    assert spike_scores(losses, norms)[:2] == (spike_score(losses, "loss"), spike_score(norms, "grad_norm"))
    assert spike_scores(losses, norms)[2].score == pytest.approx(total, abs=0)


def test_the_example_of_the_docstring() -> None:
    values = [1.0, 2.0, 3.0, 2.0, 9.0, 2.0, 2.0]
    assert is_spike(values, window=3, deviations=2.0) == [False, False, False, False, True, False, False]
    assert spike_score(values, "loss", window=3, deviations=2.0).score == 1 / 7


def test_deviations_are_of_the_population_and_a_spike_is_above_them() -> None:
    """As OLMo-core has it. 2 3 2 have a mean of 2.33 and a deviation of 0.47, a sample 0.58; 1 3 have 2 and 1."""
    assert is_spike([2.0, 3.0, 2.0, 3.25], window=3, deviations=2.0)[-1] is False
    assert is_spike([2.0, 3.0, 2.0, 3.30], window=3, deviations=2.0)[-1] is True
    assert is_spike([1.0, 3.0, 4.0], window=2, deviations=2.0)[-1] is False


def test_a_divergence_hides_no_later_spike() -> None:
    """A NaN in the window makes every mean NaN: OLMo-core is blind for 128 steps then."""
    calm = [1.0 + 0.01 * (step % 7) for step in range(200)]
    values = [*calm, math.nan, 5.0, math.inf, 5.0]
    found = spike_score(values, "loss")
    assert (found.num_spikes, found.num_values, found.num_not_finite) == (2, 202, 2)
    assert is_spike(values)[200:] == [None, True, None, True]


def test_too_few_values_are_a_sentence_not_a_zero() -> None:
    """A score of 0 would pass for a stable run."""
    found = spike_score([1.0] * 128 + [math.nan] + [None], "loss")
    assert (found.score, found.num_values, found.num_not_finite) == (None, 128, 1)
    assert found.why_none == "128 steps have a finite loss; more than 128 are needed."
    assert spike_score([1.0] * 129, "loss").score == 0.0
    assert spike_score([1.0], "loss").why_none == "1 step has a finite loss; more than 128 are needed."


def test_two_short_series_are_no_long_one() -> None:
    """125 losses, and 125 gradient norms in other steps: nothing was judged, so there is no spike score of 0 either."""
    losses = [1.0 + step % 3 if step % 2 else None for step in range(250)]
    norms = [None if step % 2 else 1.0 + step % 3 for step in range(250)]
    found = spike_scores(losses, norms)[2]
    assert (found.score, found.num_values) == (None, 250)
    assert found.why_none == "neither loss nor grad_norm is finite in more than 128 steps."
    enough = spike_scores([1.0 + step % 3 for step in range(129)], [1.0] + [None] * 128)[2]
    assert (enough.score, enough.why_none) == (0.0, None)


def test_large_values_are_judged() -> None:
    """Squares of a gradient norm before a divergence can be more than a float."""
    assert spike_score([1e299 * (1 + step % 2) for step in range(128)] + [1e301], "grad_norm").num_spikes == 1


def test_equal_values_judge_nothing() -> None:
    """Their standard deviation is 0, and any rise would be infinitely many of it."""
    assert spike_score([1.0] * 128 + [100.0], "loss").num_spikes == 0


def test_a_step_with_one_of_both_counts_once() -> None:
    losses = [1.0, 2.0, 1.0, 9.0, None, 1.0]
    norms = [1.0, 2.0, 1.0, 9.0, 9.0, None]
    found = spike_scores(losses, norms, window=3, deviations=2.0)[2]
    assert (found.num_spikes, found.num_values) == (1, 6)


@given(st.lists(st.floats(0, 1e300), min_size=4, max_size=40), st.integers(2, 3))
def test_a_spike_is_above_everything_that_is_not_far(values: list[float], window: int) -> None:
    """At 6 deviations no value of a window can be a spike of it, and one that is lies above them all."""
    for place, spike in enumerate(is_spike(values, window=window, deviations=6.0)):
        if spike:
            assert values[place] > max(values[place - window : place])
