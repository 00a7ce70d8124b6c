"""Adam's variance in four numbers: those of a loop over every element, at a cost that a step does not notice."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from curriculum.adapters import adam_moments
from curriculum.adapters.adam_moments import measure

NAMES = ("variance_l1", "variance_max", "variance_sqrt_l1", "variance_sqrt_max")


def adam_with(moments: list[torch.Tensor]) -> torch.optim.Optimizer:
    """An optimizer whose second moments are these."""
    parameters = [nn.Parameter(torch.zeros_like(moment)) for moment in moments]
    optimizer = torch.optim.Adam(parameters)
    for parameter, moment in zip(parameters, moments, strict=True):
        optimizer.state[parameter] = {"step": torch.tensor(1.0), "exp_avg_sq": moment}
    return optimizer


def element_by_element(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """The definition, in float64."""
    values = [x for state in optimizer.state.values() for x in state["exp_avg_sq"].double().flatten().tolist()]
    roots = [math.sqrt(x) for x in values]
    return dict(zip(NAMES, (math.fsum(values), max(values), math.fsum(roots), max(roots)), strict=True))


def test_the_example_of_the_docstring() -> None:
    found = measure(adam_with([torch.tensor([0.25, 0.04]), torch.tensor(0.01)]), loss=torch.tensor(3.5), lr=0.5)
    assert found == pytest.approx(
        {"loss": 3.5, "lr": 0.5, **dict(zip(NAMES, (0.3, 0.25, 0.8, 0.5), strict=True))}, rel=1e-6
    )


@given(st.lists(st.lists(st.floats(0, 1e4, width=32), max_size=9), min_size=1, max_size=5))
@settings(max_examples=60)
def test_any_moments(values: list[list[float]]) -> None:
    """Tensors of no element among them; on the way of a GPU too, which the CPU can go."""
    moments = [torch.tensor(of_one, dtype=torch.float32) for of_one in values]
    found = measure(adam_with(moments))
    if not any(values):
        assert found == {}
        return
    expected = element_by_element(adam_with(moments))
    assert found == pytest.approx(expected, rel=1e-5)
    filled = [moment for moment in moments if moment.numel()]
    _, l1, sqrt_l1, largest = adam_moments._by_tensors(filled).tolist()
    assert (l1, largest) == pytest.approx((expected["variance_l1"], expected["variance_max"]), rel=1e-5)
    assert sqrt_l1 == pytest.approx(expected["variance_sqrt_l1"], rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_large_moments_are_added_without_loss(dtype: torch.dtype) -> None:
    """float32 added one after the other is percents off at this size; bfloat16 stops growing at 256 elements."""
    moment = (torch.rand(3_000_000, generator=torch.Generator().manual_seed(0)) * 1e-8).to(dtype)
    found = measure(adam_with([moment.view(3, -1).T]))
    exact = moment.double()
    assert found["variance_l1"] == pytest.approx(exact.sum().item(), rel=1e-6)
    assert found["variance_sqrt_l1"] == pytest.approx(exact.sqrt().sum().item(), rel=1e-6)
    assert found["variance_max"] == exact.max().item()


@pytest.mark.parametrize(
    "options", [{"fused": True}, {"foreach": True}, {"capturable": False}, {"amsgrad": True}, {"maximize": True}]
)
def test_all_ways_of_stepping(options: dict[str, Any]) -> None:
    """Two groups, a parameter that never had a gradient, and the wrapper of Accelerate and Lightning around it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(50, 8), nn.Linear(8, 8), nn.Linear(8, 4))
    optimizer = torch.optim.AdamW(
        [{"params": model[0].parameters(), "weight_decay": 0.0}, {"params": model[1:].parameters()}], **options
    )
    assert measure(optimizer, loss=1.0) == {"loss": 1.0}, "no step, no moments"
    for _ in range(3):
        model[:2](torch.arange(50)).square().mean().backward()
        optimizer.step()
    assert len(optimizer.state) == 3
    assert measure(optimizer) == pytest.approx(element_by_element(optimizer), rel=1e-6)

    class Wrapper:
        def __init__(self, inside: Any) -> None:
            self.optimizer = inside
            self.param_groups = inside.param_groups

    assert measure(Wrapper(Wrapper(optimizer))) == measure(optimizer)  # type: ignore[arg-type]


def test_floats_are_left_as_they_are() -> None:
    """A learning rate of 0.05 stood in logs as 0.05000000074505806."""
    assert measure(adam_with([torch.tensor([0.25])]), learning_rate=0.05)["learning_rate"] == 0.05


def test_a_norm_that_was_not_taken_is_left_out() -> None:
    """DeepSpeed's is None before its first step: the loop of docs/stability.md broke there."""
    assert measure(adam_with([torch.tensor([0.25])]), grad_norm=None).keys() == set(NAMES)


def test_nan_and_infinity_are_seen() -> None:
    """A run that breaks must show it."""
    found = measure(adam_with([torch.tensor([1.0, math.nan]), torch.tensor([1.0])]))
    assert all(math.isnan(value) for value in found.values())
    found = measure(adam_with([torch.tensor([1.0, math.inf]), torch.tensor([1.0])]))
    assert list(found.values()) == [math.inf] * 4


def quantized() -> torch.optim.Optimizer:
    """As 8-bit optimizers keep them: integers and a table."""
    optimizer = adam_with([torch.tensor([0.25])])
    optimizer.state[nn.Parameter(torch.zeros(1))] = {"exp_avg_sq": torch.zeros(1, dtype=torch.uint8)}
    return optimizer


def muon() -> torch.optim.Optimizer:
    """Adam for some, something else for others."""
    optimizer = adam_with([torch.tensor([0.25])])
    optimizer.state[nn.Parameter(torch.zeros(1))] = {"momentum_buffer": torch.zeros(1)}
    return optimizer


def adafactor() -> torch.optim.Optimizer:
    parameter = nn.Parameter(torch.ones(4, 4))
    parameter.grad = torch.ones(4, 4)
    optimizer = torch.optim.Adafactor([parameter])
    optimizer.step()
    return optimizer


def sgd() -> torch.optim.Optimizer:
    """Keeps nothing at all, as Adam does before its first step."""
    return torch.optim.SGD([nn.Parameter(torch.ones(1))])


@pytest.mark.parametrize("make", [quantized, muon, adafactor, sgd])
def test_numbers_of_a_part_of_the_model_are_not_given(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    """They would pass for those of all of it."""
    adam_moments._unmeasured.clear()
    optimizer = make()
    assert measure(optimizer, loss=2.0) == {"loss": 2.0}
    assert measure(optimizer) == {}
    assert "does not keep exp_avg_sq in floating point for every parameter" in caplog.text
    assert caplog.text.count("goes without Adam's variance") == 1, "said once, not in every step"


def test_the_host_waits_once() -> None:
    """On a GPU each value that is taken to the host alone makes it wait for the device."""
    optimizer = adam_with([torch.rand(7, 3) for _ in range(100)])
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiled:
        measure(optimizer, loss=torch.tensor(1.0), grad_norm=torch.tensor(2.0))
    called = {event.key: event.count for event in profiled.key_averages()}
    assert called["aten::sum"] >= 100, "the profiler saw it"
    assert not {"aten::item", "aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal"} & called.keys()


def test_moments_are_left_as_they_are() -> None:
    moment = torch.rand(100)
    before = moment.clone()
    measure(adam_with([moment]))
    assert torch.equal(moment, before)
