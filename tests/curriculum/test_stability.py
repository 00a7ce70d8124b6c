"""What a log says of a run's stability: literal values, and a sentence where nothing can be said."""

from __future__ import annotations

import json
import math
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curriculum.stability import At, LossRatio, summarize


def records(losses: list[float | None], **columns: list[float | None]) -> list[dict[str, Any]]:
    """A log with one record per loss."""
    return [
        {"step": step, "loss": loss, **{key: values[step] for key, values in columns.items()}}
        for step, loss in enumerate(losses)
    ]


def test_the_example_of_the_docstring() -> None:
    found = summarize(records([4.0, 5.0, 3.0, 3.45, math.nan]))
    assert found.steps_above == {1.1: 2, 1.2: 1, 1.5: 0, 2.0: 0}
    assert found.max_ratio == At(value=1.25, step=1, seq_len=None)
    assert (found.divergences, found.first_divergence, found.num_steps) == (1, 4, 5)
    assert found.lowest_loss == At(value=3.0, step=2, seq_len=None)


def test_ratios_are_of_losses_that_a_model_can_have() -> None:
    """A loss of 0 divides by zero; one that is NaN or infinite must not become the lowest."""
    ratio = LossRatio()
    assert [ratio.of(loss) for loss in (math.inf, 4.0, -math.inf, 2.0, None, 0.0, 1.0)] == [
        None,
        None,
        -math.inf,
        0.5,
        None,
        0.0,
        None,
    ]


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=50))
def test_ratios_are_those_of_the_definition(losses: list[float]) -> None:
    ratio = LossRatio()
    found = [ratio.of(loss) for loss in losses]
    assert found == [None] + [losses[step] / min(losses[:step]) for step in range(1, len(losses))]


def test_a_spike_of_several_steps_is_named_once() -> None:
    """Else one bad hour fills the list of the worst."""
    losses = [2.0, 2.2, 3.0, 2.4, 1.9, 1.95, 1.8, 3.6]
    found = summarize([{**record, "seq_len": 8} for record in records(losses)])
    assert [(at.step, round(at.value, 4), at.seq_len) for at in found.worst] == [
        (7, 2.0, 8),
        (2, 1.5, 8),
        (5, 1.0263, 8),
    ]


def test_correlation_is_pearsons() -> None:
    losses = [4.0 - 0.1 * step + (1.0 if step % 5 == 4 else 0.0) for step in range(20)]
    variances = [0.01 * step + (3.0 if step % 5 == 4 else 0.0) for step in range(20)]
    found = summarize(records(losses, variance_l1=variances, variance_max=[1.0] * 20))
    ratios = [losses[step] / min(losses[:step]) for step in range(1, 20)]
    assert found.correlation_l1.pearson == pytest.approx(statistics.correlation(ratios, variances[1:]))
    assert found.correlation_l1.pearson == pytest.approx(0.9792, abs=1e-4)
    assert found.correlation_max.pearson is None
    assert found.correlation_max.why_none == "loss ratio or variance_max is the same in all steps."


def test_steps_without_a_finite_pair_are_left_out_of_the_correlation() -> None:
    """One NaN would make it NaN, although the run went on."""
    losses: list[float | None] = [4.0, 5.0, 3.0, 4.5] * 10
    variances: list[float | None] = [1.0, 2.0, 1.0, 2.0] * 10
    broken = [*losses, math.nan, 4.0, math.inf]
    found = summarize(records(broken, variance_l1=[*variances, 1.0, math.inf, None]))
    assert found.correlation_l1.num_steps == 39
    assert found.correlation_l1.pearson == summarize(records(losses, variance_l1=variances)).correlation_l1.pearson


def test_too_few_steps_for_a_correlation() -> None:
    found = summarize(records([3.0, 2.0, 4.0], variance_l1=[1.0, 2.0, 3.0]))
    assert found.correlation_l1.why_none == "2 steps have both a loss ratio and variance_l1; 16 are needed."


def test_missing_measures_are_named() -> None:
    """A log of another trainer: what is there is used."""
    found = summarize(records([3.0, 2.0], grad_norm=[1.0, 1.0]))
    assert found.missing == ("seq_len", "variance_l1", "variance_max", "validation_loss")
    only_ratios = summarize([{"step": 0, "loss_ratio": None}, {"step": 1, "loss_ratio": 1.3}])
    assert only_ratios.steps_above[1.2] == 1
    assert "loss" in only_ratios.missing


def test_a_run_of_nothing_but_nan() -> None:
    found = summarize(records([math.nan] * 200, grad_norm=[math.nan] * 200))
    assert (found.divergences, found.max_ratio, found.lowest_loss) == (200, None, None)
    assert found.any_spikes.score is None
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["last_loss"] == "NaN"


def test_a_ratio_that_is_nan_is_a_divergence_without_a_loss() -> None:
    """Also where the loss is there and null."""
    found = summarize([{"step": 0, "loss": None, "loss_ratio": math.nan}, {"step": 1, "loss": 1.0}])
    assert (found.divergences, found.first_divergence) == (1, 0)


def test_only_what_is_above_counts() -> None:
    """A ratio at a threshold is not above it, and losses that only fall have no worst step."""
    found = summarize(records([4.0, 5.0]), [1.25])
    assert found.steps_above == {1.25: 0}
    assert summarize(records([4.0, 3.0, 2.0])).worst == ()
    assert summarize(records([4.0, 4.0])).worst == ()
