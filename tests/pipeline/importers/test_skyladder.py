"""SkyLadder's attention windows, block 8193 and 100,000 steps: the golden table, and the names that it misreads."""

from __future__ import annotations

import pytest

from curriculum.errors import ConfigError
from imported_lengths import imported_lengths, phase_lengths
from pipeline.importers import import_schedule, import_skyladder
from pipeline.importers.skyladder import _window

STEPS = (0, 8, 100, 1000, 8000, 16_000, 32_000, 40_000, 64_000, 65_288)
GOLDEN = {
    "dm1": (32, 40, 132, 1032, 8032, 8193, 8193, 8193, 8193, 8193),
    "dm8": (32, 33, 44, 157, 1032, 2032, 4032, 5032, 8032, 8193),
    "sin8": (32, 33, 51, 228, 1593, 3096, 5712, 6728, 8189, 8193),
    "exp8": (32, 32, 32, 34, 63, 124, 484, 956, 7343, 8193),
    "lin80p": (32, 32, 42, 134, 848, 1664, 3296, 4112, 6560, 6692),
    "dm8inc1024": (32, 32, 32, 32, 1024, 1024, 3072, 4096, 7168, 8192),
    "cos8": (32, 32, 32, 41, 629, 2333, 7940, 8193, 8193, 8193),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_windows_are_the_golden_ones(name: str) -> None:
    """Steps count from 0; the block of 8193 is a row of 8192 inputs, so 8193 is 8192 in options."""
    window = _window(name, 8192, 100_000)
    assert tuple(window.length(step) for step in STEPS) == GOLDEN[name]
    lengths = phase_lengths(import_skyladder(name, steps=100_000), 80_001)
    assert tuple(lengths[step] for step in STEPS) == tuple(min(8192, length) for length in GOLDEN[name])
    assert lengths[80_000] == 8192


def test_when_the_maximum_is_reached() -> None:
    """README of SkyLadder: about 64k steps for dm8, 8k for dm1; lin80p at 80 % of the run, 9 steps early at 8192."""
    for name, step in (("dm8", 65_280), ("dm1", 8160), ("lin80p", 79_991)):
        assert phase_lengths(import_skyladder(name, steps=100_000), 100_000).index(8192) == step


def test_starts_and_model_names() -> None:
    """st64 starts at 64; a model's name brings its own length."""
    assert phase_lengths(import_skyladder("dm1st64"), 4)[:4] == [64, 65, 66, 67]
    whole = import_skyladder("tiny_LLaMA_1b_8k_dm8")
    assert whole.options == import_skyladder("dm8", max_length=8192).options
    assert (whole.options["mode"], whole.options["rows_multiple_of"]) == ("segment", 1)
    assert "masks attention" in whole.differs
    assert import_skyladder("tiny_LLaMA_120M_2k_dm1").options["phases"].endswith(",2047:1,2048:*")


def test_log_jumps_at_once() -> None:
    """32 * (8193 / 32) ** (ln(1 + 16) / ln(1 + 16 * 65288)) = 99.0 at step 1: nobody's warmup, but theirs."""
    assert import_skyladder("log8").options["phases"].startswith("32:1,99:1,129:1,")


def test_through_the_plan() -> None:
    """`inc` that does not divide the length: 3000, 6000, then 8192, one rounding later than 8192 alone."""
    lengths = imported_lengths(import_skyladder("dm1inc3000"), 9000)
    assert sorted(set(lengths)) == [32, 3000, 6000, 8192]
    assert lengths.index(8192) == 9000 - 32


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dm16", "finds rate 1 in it and not 16"),
        ("dm32", "finds rate 3 in it and not 32"),
        ("sin10", "finds rate 1 in it and not 10"),
        ("dm0", "finds no rate"),
        ("inv8", "long to short"),
        ("intradm8", "one token too long .2049 .*import dm8 instead"),
        ("dm80p", "ignores the percent"),
        ("lin8", "lin takes a percent"),
        ("sin8st64", "st sets the start of dm schedules only"),
        ("dm8st7", "st sets the start"),
        ("lin80p", "needs its total"),
        ("dm8inc9000", "inc9000 rounds to 9000"),
        ("sc4", "is no schedule"),
        ("", "is no schedule"),
        ("1b_3k_dm8", "max_length is 3072"),
    ],
)
def test_names_that_skyladder_misreads_are_refused(name: str, message: str) -> None:
    """dm16 trains with the rate of dm1 there, without a word."""
    with pytest.raises(ConfigError, match=message) as refused:
        import_skyladder(name)
    assert str(refused.value).endswith(".")


def test_one_tool_at_a_time() -> None:
    """Two --from flags would silently be one of them."""
    assert import_schedule({"skyladder": "lin80p"}, steps=1000).options["mode"] == "segment"
    with pytest.raises(ConfigError, match="--from-olmo and --from-skyladder given"):
        import_schedule({"olmo": "a.json", "skyladder": "dm8"})
