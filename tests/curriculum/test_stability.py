"""What a log says of a run's stability: literal values, and a sentence where nothing can be said."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curriculum.correlation import correlation
from curriculum.loss_ratio import peaks
from curriculum.stability import VARIANCES, At, LossRatio, as_typed, diverged, summarize


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
    """Else one bad hour fills the list of the worst; so would a spike that fades for long, its waves included."""
    losses = [2.0, 2.2, 3.0, 2.4, 1.9, 1.95, 1.8, 3.6]
    found = summarize([{**record, "seq_len": 8} for record in records(losses)])
    assert [(at.step, round(at.value, 4), at.seq_len) for at in found.worst] == [
        (7, 2.0, 8),
        (2, 1.5, 8),
        (5, 1.0263, 8),
    ]
    fading = [1 + 4 * 0.97**step * (1.0 if step % 2 else 1.2) for step in range(200)]
    assert peaks([1.0, 1.1, *fading]) == [(5.8, 2)]


def test_a_spike_begins_at_twice_what_the_ratio_had_fallen_to_and_ends_at_half_its_peak() -> None:
    """Up to there it is the noise of a level above 1, or the spike before: `curriculum stability` names each once."""
    assert peaks([1.5, 1.25, 1.5]) == [(1.5, 0)]
    assert peaks([1.5, 1.25, 1.625]) == [(1.5, 0), (1.625, 2)]
    assert peaks([1.5, 1.375, 1.625]) == [(1.625, 2)]


def test_a_lucky_batch_hides_no_spike() -> None:
    """It sets the lowest loss, and all that follows is above 1: still each spike has a step to look at."""
    losses = [3.5 + 0.03 * (step % 3 - 1) for step in range(1000)]
    losses[60] = 3.0
    for step, loss in ((300, 9.0), (301, 8.0), (500, 8.5), (700, 8.2), (900, 7.0)):
        losses[step] = loss
    assert [at.step for at in summarize(records(losses)).worst[:4]] == [300, 500, 700, 900]


@given(st.lists(st.sampled_from([None, math.nan, 0.9, 1.0, 1.1, 1.2, 1.5, 2.0, 9.0]), max_size=40))
def test_peaks_are_told_apart_by_a_fall_to_half(ratios: list[float | None]) -> None:
    """Between neighbouring peaks the ratio has been at half of either's height over 1, or lower; none above 1 is
    lost: the highest is a peak."""
    found = peaks(ratios)
    for (one, start), (other, stop) in itertools.pairwise(found):
        between = [ratio for ratio in ratios[start:stop] if ratio is not None and math.isfinite(ratio)]
        assert min(between) - 1 <= (min(one, other) - 1) / 2
    above = [ratio for ratio in ratios if ratio is not None and ratio > 1]
    assert max((ratio for ratio, _ in found), default=None) == max(above, default=None)


def test_correlation_is_pearsons() -> None:
    """Of each of the four measures: those of the root say something else than those of the variance."""
    losses = [4.0 - 0.1 * step + (1.0 if step % 5 == 4 else 0.0) for step in range(20)]
    columns = {
        "variance_l1": [0.01 * step + (3.0 if step % 5 == 4 else 0.0) for step in range(20)],
        "variance_max": [1.0] * 20,
        "variance_sqrt_l1": [float(step) for step in range(20)],
        "variance_sqrt_max": [-loss for loss in losses],
    }
    found = summarize(records(losses, **columns)).correlations
    ratios = [losses[step] / min(losses[:step]) for step in range(1, 20)]
    assert found["variance_l1"].pearson == pytest.approx(0.9792, abs=1e-4)
    for key in ("variance_l1", "variance_sqrt_l1", "variance_sqrt_max"):
        assert found[key].pearson == pytest.approx(statistics.correlation(ratios, columns[key][1:]))
    assert found["variance_max"].pearson is None
    assert found["variance_max"].why_none == "it or the loss ratio is the same in all steps."


@pytest.mark.parametrize("size", [1e308, 1e200, 1e-200])
def test_correlation_does_not_depend_on_the_size(size: float) -> None:
    """Squares of such values are no floats: a run that is about to diverge would correlate with nothing."""
    ratios, values = [1.0, 1.1, 1.0, 2.0] * 8, [0.1, 0.2, 0.1, 1.0] * 8
    expected = statistics.correlation(ratios, values)
    assert correlation(ratios, [size * value for value in values]).pearson == pytest.approx(expected)


def test_steps_without_a_finite_pair_are_left_out_of_the_correlation() -> None:
    """One NaN would make it NaN, although the run went on."""
    losses: list[float | None] = [4.0, 5.0, 3.0, 4.5] * 10
    variances: list[float | None] = [1.0, 2.0, 1.0, 2.0] * 10
    broken = [*losses, math.nan, 4.0, math.inf]
    found = summarize(records(broken, variance_l1=[*variances, 1.0, math.inf, None]))
    whole = summarize(records(losses, variance_l1=variances))
    assert found.correlations["variance_l1"] == whole.correlations["variance_l1"]
    assert found.correlations["variance_l1"].num_steps == 39


def test_too_few_steps_for_a_correlation() -> None:
    found = summarize(records([3.0, 2.0, 4.0], variance_l1=[1.0, 2.0, 3.0]))
    assert found.correlations["variance_l1"].why_none == "2 steps have both it and a loss ratio; 16 are needed."


def test_missing_measures_are_named() -> None:
    """A log of another trainer: what is there is used."""
    found = summarize(records([3.0, 2.0], grad_norm=[1.0, 1.0]))
    assert found.missing == ("seq_len", *VARIANCES, "validation_loss")
    only_ratios = summarize([{"step": 0, "loss_ratio": None}, {"step": 1, "loss_ratio": 1.3}])
    assert only_ratios.steps_above[1.2] == 1
    assert "loss" in only_ratios.missing


def test_a_run_of_nothing_but_nan() -> None:
    found = summarize(records([math.nan] * 200, grad_norm=[math.nan] * 200))
    assert (found.divergences, found.max_ratio, found.lowest_loss) == (200, None, None)
    assert (found.any_spikes.score, found.variances) == (None, {})
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["last_loss"] == "NaN"


def test_a_ratio_that_is_nan_is_a_divergence_without_a_loss() -> None:
    """Also where the loss is there and null."""
    found = summarize([{"step": 0, "loss": None, "loss_ratio": math.nan}, {"step": 1, "loss": 1.0}])
    assert (found.divergences, found.first_divergence) == (1, 0)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"loss": 3.0, "validation_loss": math.nan}, True),
        ({"validation_loss": math.inf}, True),
        ({"loss": -math.inf, "validation_loss": 3.0}, True),
        ({"loss": None, "loss_ratio": math.inf}, True),
        ({"loss": 3.0, "variance_sqrt_max": math.nan}, True),
        ({"loss": 0.0, "grad_norm": math.nan}, True),
        ({"loss": 0.0, "grad_norm": 1.0}, False),
        ({"loss": 3.0, "loss_ratio": math.nan, "validation_loss": None, "grad_norm": math.nan}, False),
        ({}, False),
    ],
)
def test_what_a_divergence_is(record: dict[str, Any], expected: bool) -> None:
    """A finite loss before an update that broke the weights is followed by a validation or a variance that is NaN; one
    that is NaN itself, Trainer calls 0 by default. A gradient norm alone is what fp16 skips."""
    assert diverged(record) is expected
    assert summarize([{"step": 0, "loss": 4.0}, {"step": 7, **record}]).first_divergence == (7 if expected else None)


def test_the_zeros_of_trainer_are_no_lowest_loss() -> None:
    """The best of all runs was the one that broke, and nothing after such a 0 had a ratio. A true 0 has that effect."""
    losses: list[float | None] = [4.0, 0.0, 5.0, 0.0, 4.5]
    found = summarize(records(losses, grad_norm=[1.0, math.nan, 1.0, math.inf, 1.0]))
    assert found.lowest_loss == At(value=4.0, step=0, seq_len=None)
    assert (found.max_ratio, found.steps_above[1.1]) == (At(value=1.25, step=2, seq_len=None), 2)
    assert (found.divergences, found.first_grad_norm_not_finite, found.steps_without_ratio) == (2, 1, 0)
    assert (found.last_loss, found.loss_spikes.num_not_finite) == (4.5, 2)
    assert math.isnan(summarize(records([4.0, 0.0], grad_norm=[1.0, math.nan])).last_loss or 0)
    zeros = summarize(records(losses, grad_norm=[1.0] * 5))
    assert (zeros.divergences, zeros.first_grad_norm_not_finite, zeros.steps_without_ratio) == (0, None, 3)


def test_the_last_validation_is_no_earlier_one() -> None:
    """It would be a value of weights that are gone."""
    found = summarize(records([4.0] * 4, validation_loss=[3.0, None, math.nan, None]))
    assert found.best_validation == At(value=3.0, step=0, seq_len=None)
    assert found.to_json()["last_validation"] == {"value": "NaN", "step": 2, "seq_len": None}
    assert summarize(records([4.0], validation_loss=[None])).last_validation is None


def test_only_what_is_above_counts() -> None:
    """A ratio at a threshold is not above it, and losses that only fall have no worst step."""
    found = summarize(records([4.0, 5.0]), [1.25])
    assert found.steps_above == {1.25: 0}
    assert summarize(records([4.0, 3.0, 2.0])).worst == ()
    assert summarize(records([4.0, 4.0])).worst == ()


def test_extremes_and_ends() -> None:
    """Each with the first step that has it; what was last is last."""
    found = summarize(
        records(
            [5.0, 3.0, 3.0, 4.0],
            tokens=[8, 16, 24, None],
            variance_sqrt_l1=[1.0, 7.0, 7.0, math.inf],
            validation_loss=[None, 2.0, 1.0, 1.5],
        )
    )
    assert (found.last_loss, found.tokens) == (4.0, 24)
    assert found.lowest_loss == At(value=3.0, step=1, seq_len=None)
    assert found.variances == {"variance_sqrt_l1": At(value=7.0, step=1, seq_len=None)}
    assert found.best_validation == At(value=1.0, step=2, seq_len=None)
    assert found.last_validation == At(value=1.5, step=3, seq_len=None)


def test_thresholds_that_are_nearly_equal_are_both_told() -> None:
    found = summarize(records([4.0, 6.0]), [1.1, 1.1000001, 2])
    assert found.to_json()["steps_above"] == {"1.1": 1, "1.1000001": 1, "2": 0}
    assert [as_typed(threshold) for threshold in (1.1, 2.0, 1e300)] == ["1.1", "2", "1e+300"]
