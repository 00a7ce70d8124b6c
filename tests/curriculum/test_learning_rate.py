"""The rule "warm up by steps, decay by tokens": numbers worked out by hand, and what torch's LambdaLR makes of it."""

from __future__ import annotations

import copy
import io
import pickle
from itertools import pairwise
from math import cos, pi
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curriculum.budget import Batch, Budget
from curriculum.errors import ConfigError, CursorError
from curriculum.extension import extend_plan
from curriculum.learning_rate import SCHEDULES, LearningRate, lr_factor
from curriculum.plan import Plan, compile_plan
from curriculum.schedule import parse_phases


def plan_of(phases: str, rows: int = 1) -> Plan:
    """A plan of explicit phases."""
    return compile_plan(pacing=parse_phases(phases), warmup=None, batch=Batch(rows=rows), budget=Budget())


SHORT = plan_of("8:2,16:2")
"""Trained before each step: 0, 8, 16, 32; 48 at the end."""
GROWING = plan_of("8:100,16:100,64:100", rows=4)
"""3,200 and 6,400 and 25,600 tokens; a third of the steps trains a thirteenth of them."""


def factors(plan: Plan, **options: Any) -> list[float]:
    return [lr_factor(plan, step, **options) for step in range(plan.total_steps + 1)]


def test_the_example_of_the_module() -> None:
    """Linear to 0 by tokens: a step of 16 tokens takes twice as much of the rate as one of 8."""
    assert factors(SHORT, schedule="linear", final=0.0) == pytest.approx([1, 5 / 6, 2 / 3, 1 / 3, 0])
    assert factors(SHORT, schedule="linear", final=0.5) == pytest.approx([1, 11 / 12, 5 / 6, 2 / 3, 0.5])


def test_warm_up_counts_steps_and_the_decay_begins_where_it_ends() -> None:
    """Step 0 trains at 1/W, never at 0 (it would train nothing); step W - 1 and step W at the peak."""
    assert factors(SHORT, schedule="linear", final=0.0, warmup_steps=2) == pytest.approx([1 / 2, 1, 1, 1 / 2, 0])
    found = factors(GROWING, warmup_steps=50)
    assert found[:50] == pytest.approx([(step + 1) / 50 for step in range(50)])
    assert found[49] == found[50] == 1 > found[51]


def test_cosine_is_that_of_gpt_3() -> None:
    """Half of a cosine over the tokens after the warm-up, down to a tenth of the peak."""
    found = factors(GROWING)
    for step, trained in ((100, 3_200), (200, 9_600), (250, 22_400)):
        assert found[step] == pytest.approx(0.1 + 0.9 * (1 + cos(pi * trained / 35_200)) / 2)
    assert found[300] == pytest.approx(0.1)


def test_a_third_of_the_steps_takes_a_small_part_of_the_rate() -> None:
    """The point of decaying by tokens: by steps, the rate would be down to 0.78 when 9 % of the tokens are trained."""
    assert lr_factor(GROWING, 100) > 0.98
    assert 0.1 + 0.9 * (1 + cos(pi / 3)) / 2 == pytest.approx(0.775)


def test_wsd_stays_at_the_peak_and_falls_over_the_last_tenth_of_the_tokens() -> None:
    """35,200 tokens: stable to 31,680, then linear; the steps of 256 tokens are the last 100."""
    found = factors(GROWING, schedule="wsd", warmup_steps=10, final=0.0)
    stable = 200 + (31_680 - 9_600) // 256
    assert set(found[10 : stable + 1]) == {1.0}
    assert found[stable + 2] < 1
    assert found[299] == pytest.approx(256 / 3_520)
    assert found[300] == 0
    assert factors(GROWING, schedule="wsd", decay_frac=1.0) == pytest.approx(factors(GROWING, schedule="linear"))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_decay_to_the_peak_is_a_constant_rate(schedule: str) -> None:
    """`final=1` is how to compare with a run without decay; it is the end of what is allowed, and allowed."""
    assert factors(SHORT, schedule=schedule, final=1.0) == [1.0] * 5
    assert factors(SHORT, schedule=schedule, final=1.0, warmup_steps=2) == [0.5, 1.0, 1.0, 1.0, 1.0]


def test_the_decay_may_end_before_or_after_the_run() -> None:
    """GPT-3 decayed over 260 of 300 billion tokens and trained the rest at a tenth; a run may also be continued."""
    assert factors(SHORT, schedule="linear", decay_tokens=16)[2:] == pytest.approx([0.1] * 3)
    assert lr_factor(SHORT, 4, schedule="linear", final=0.0, decay_tokens=96) == pytest.approx(0.5)


def test_a_run_that_goes_on_keeps_its_rate_with_the_tokens_of_the_plan_before() -> None:
    """An extension makes the plan longer, and the decay with it: the rate of the next step would jump up."""
    longer, trained = extend_plan(GROWING, 100), GROWING.total_tokens
    assert factors(GROWING)[300] == pytest.approx(0.1)
    assert factors(longer)[300] > 0.4
    kept = factors(longer, decay_tokens=trained)
    assert kept[:301] == factors(GROWING)
    assert kept[300:] == pytest.approx([0.1] * 101)
    before, after = factors(GROWING, schedule="wsd"), factors(longer, schedule="wsd")
    resumed = next(step for step, factor in enumerate(before) if factor < 1) - 1
    assert after[: resumed + 1] == before[: resumed + 1], "a checkpoint from before its decay goes on at the peak"
    assert after[resumed + 1] == 1


@given(
    st.sampled_from(SCHEDULES),
    st.integers(0, 200),
    st.floats(0, 1),
    st.integers(1, 100),
    st.integers(10, 100),
)
def test_factors_rise_to_the_peak_and_then_never_rise(
    schedule: str, warmup_steps: int, final: float, percent: int, end: int
) -> None:
    """Whatever the numbers: between 0 and 1, one peak, `final` at the end of the decay."""
    options = {
        "schedule": schedule,
        "warmup_steps": warmup_steps,
        "final": final,
        "decay_frac": percent / 100,
        "decay_tokens": 35_200 * end // 100,
    }
    try:
        found = factors(GROWING, **options)
    except ConfigError:
        stop = 35_200 * end // 100
        warm = GROWING.tokens_at(warmup_steps)
        assert stop <= warm or (schedule == "wsd" and stop * (1 - percent / 100) < warm)
        return
    assert all(0 <= factor <= 1 for factor in found)
    warm_up, decay = found[:warmup_steps], found[warmup_steps:]
    assert warm_up == sorted(warm_up)
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(decay))
    assert decay[0] == 1
    assert decay[-1] == pytest.approx(final, abs=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "sine"}, "schedule is 'sine'; choose one of cosine, linear, wsd"),
        ({"warmup_steps": 4}, "warmup_steps is 4; the plan has 4 steps, so give 0 to 3"),
        ({"warmup_steps": -1}, "warmup_steps is -1"),
        ({"final": 1.5}, "final is 1.5; it is a fraction"),
        ({"decay_frac": 0.0}, "decay_frac is 0.0"),
        ({"warmup_steps": 2, "decay_tokens": 16}, "decay_tokens is 16; the 2 warm-up steps alone train 16"),
        ({"schedule": "wsd", "warmup_steps": 3, "decay_frac": 0.5}, "before the end of the 3 warm-up steps at 32"),
    ],
    ids=str,
)
def test_numbers_without_a_meaning_are_refused_before_the_first_step(options: dict[str, Any], message: str) -> None:
    """A division by zero at the end of the warm-up would come days later."""
    with pytest.raises(ConfigError, match=message):
        LearningRate(plan=SHORT, **options)


def test_a_step_beyond_the_plan_is_refused() -> None:
    """It is a loop that does not end with its data."""
    with pytest.raises(CursorError, match="step 5 is outside this plan"):
        lr_factor(SHORT, 5)


def test_lambda_lr_follows_it_and_resumes_from_a_checkpoint_of_plain_values() -> None:
    """`torch.load` refuses objects by default; and a state that held the plan would outlive a change of it."""
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'seqlen-curriculum[torch]'")
    from curriculum.adapters.pytorch import lr_lambda

    def run(stop: int, saved: bytes | None = None) -> tuple[list[float], bytes]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_lambda(SHORT, schedule="linear", final=0.0))
        if saved is not None:
            states = torch.load(io.BytesIO(saved), weights_only=True)
            optimizer.load_state_dict(states[0])
            scheduler.load_state_dict(states[1])
        rates = []
        for _ in range(scheduler.last_epoch, stop):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        file = io.BytesIO()
        torch.save([optimizer.state_dict(), scheduler.state_dict()], file)
        return rates, file.getvalue()

    whole, _ = run(4)
    assert whole == pytest.approx([2, 5 / 3, 4 / 3, 2 / 3])
    for stop in range(5):
        before, saved = run(stop)
        assert before + run(4, saved)[0] == whole


def test_a_schedule_pickles_and_copies() -> None:
    """Trainers that spawn processes send it; Accelerate copies it."""
    pytest.importorskip("torch", reason="torch is not installed: pip install 'seqlen-curriculum[torch]'")
    from curriculum.adapters.pytorch import lr_lambda

    schedule = lr_lambda(SHORT, schedule="wsd", warmup_steps=1, decay_frac=0.25)
    for other in (pickle.loads(pickle.dumps(schedule)), copy.deepcopy(schedule)):
        assert [other(step) for step in range(5)] == [schedule(step) for step in range(5)]
        assert other.__dict__ == schedule.__dict__ == {}
