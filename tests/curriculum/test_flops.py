"""FLOPs of a plan: the published formula, in integers, against constant length."""

from fractions import Fraction

import pytest

from curriculum.errors import PlanError
from curriculum.flops import ModelSize, plan_flops
from curriculum.plan import Phase, Plan

TINY = ModelSize(params=1000, layers=2, hidden=4)


def plan(*phases: tuple[int, int, int], mode: str = "segment") -> Plan:
    """(seq_len, rows_per_step, num_steps), each visited once."""
    return Plan(
        mode=mode,
        max_seq_len=max(seq_len for seq_len, _, _ in phases),
        schedule={"name": "phases"},
        phases=tuple(Phase(seq_len=n, rows_per_step=r, num_steps=s) for n, r, s in phases),
        order=tuple((index, phase[2]) for index, phase in enumerate(phases)),
    )


def test_the_formula_of_palm() -> None:
    """6 N + 12 L H s: 6,000 + 96 s for the tiny model; GPT-2 1.5B at 1024 spends 9.2 % on attention."""
    assert TINY.flops_per_token(8) == 6_000 + 96 * 8
    gpt2 = ModelSize(params=1_558_000_000, layers=48, hidden=1600)
    assert gpt2.flops_per_token(1024) == 10_291_718_400
    assert round(gpt2.attention_flops_per_token(1024) / gpt2.flops_per_token(1024), 3) == 0.092


def test_two_phases_by_hand() -> None:
    """160 tokens at length 8 and 320 at length 32; all at 32 would cost 480 * 9,072."""
    flops = plan_flops(plan((8, 4, 5), (32, 2, 5)), TINY)
    assert [(phase.seq_len, phase.num_tokens, phase.per_token) for phase in flops.phases] == [
        (8, 160, 6_768),
        (32, 320, 9_072),
    ]
    assert [phase.total for phase in flops.phases] == [1_082_880, 2_903_040]
    assert flops.total == 3_985_920
    assert flops.constant_length == 4_354_560
    assert flops.saved == 368_640
    assert flops.saved_share == float(Fraction(368_640, 4_354_560))
    assert flops.attention == 96 * (8 * 160 + 32 * 320)
    assert flops.attention_share == 1_105_920 / 3_985_920


def test_constant_length_saves_nothing() -> None:
    """The control run is its own baseline."""
    flops = plan_flops(plan((32, 2, 5)), TINY)
    assert (flops.total, flops.saved, flops.saved_share) == (flops.constant_length, 0, 0.0)


def test_truncated_tokens_cost_nothing() -> None:
    """What truncation drops is not computed on: both modes train, and pay for, the same tokens."""
    assert plan_flops(plan((8, 4, 5), (32, 2, 5), mode="truncate"), TINY) == plan_flops(
        plan((8, 4, 5), (32, 2, 5)), TINY
    )


def test_json_has_whole_integers() -> None:
    """Trillions of tokens of a large model: 10**26 FLOPs to the last digit, no float in between."""
    big = ModelSize(params=540_350_000_000, layers=118, hidden=12_288)
    flops = plan_flops(plan((2048, 2048, 1_000_003)), big)
    obj = flops.to_json()
    assert obj["total"] == 2048 * 2048 * 1_000_003 * (6 * 540_350_000_000 + 12 * 118 * 12_288 * 2048)
    assert set(obj) == {
        "total", "constant_length", "saved", "saved_share", "attention", "attention_share", "phases",
    }  # fmt: skip
    assert obj["phases"] == [
        {
            "seq_len": 2048,
            "num_tokens": 2048 * 2048 * 1_000_003,
            "per_token": obj["total"] // (2048 * 2048 * 1_000_003),
            "total": obj["total"],
            "attention": obj["attention"],
        }
    ]


@pytest.mark.parametrize("name", ["params", "layers", "hidden"])
@pytest.mark.parametrize("value", [0, -1, True, 1.5e9, "124M"])
def test_a_size_that_is_no_size_is_refused(name: str, value: object) -> None:
    """`--params 1.5e9` must not become a float: the message names the flag."""
    sizes = {"params": 1000, "layers": 2, "hidden": 4} | {name: value}
    with pytest.raises(PlanError, match=f"^{name} is "):
        ModelSize(**sizes)  # type: ignore[arg-type]
