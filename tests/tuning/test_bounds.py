"""Where a tune searches: what cannot be trained is told before the first probe, not by the third."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from curriculum.errors import ConfigError, PlanError
from curriculum.plan import Plan
from pipeline.option_sources import load_options
from pipeline.options import Options
from pipeline.progress import Silent
from pipeline.tuning.bounds import search_space
from pipeline.tuning.candidate import Candidate
from pipeline.tuning.probe_dataset import full_plan
from pipeline.tuning.settings import TuneSettings
from tune_world import Said


@pytest.fixture
def with_budget(options: dict[str, Any]) -> Callable[..., Options]:
    """The options with other steps, tokens or mode."""

    def changed(**budget: int | str | None) -> Options:
        said = {**options, "steps": None, **budget}
        return load_options(None, {name: value for name, value in said.items() if value is not None})

    return changed


def training(options: Options, start: int, duration: int) -> Plan:
    return full_plan(options, Candidate(start_length=start, length_warmup_steps=duration), Silent()).plan


def searched(options: Options, **settings: int) -> tuple[list[tuple[int, int]], list[str]]:
    """The starts with their longest warmups, and what is said."""
    said = Said()
    asked = TuneSettings(lr_warmup_steps=10, validations=5, **settings)  # type: ignore[arg-type]
    space, _ = search_space(options, asked, (8, 16, 32), said)
    return [(start.length, start.most_length_warmup_steps) for start in space.starts], said.messages


def test_starts_for_which_there_is_too_little_text_are_left_out(with_budget: Callable[..., Options]) -> None:
    """`--steps` with nearly all of a corpus: from a longer start the shortest warmup needs more of it."""
    steps = training(with_budget(), 8, 30).total_steps  # one pass
    starts, said = searched(with_budget(steps=steps))
    assert starts == [(8, round(0.8 * steps))]
    assert f"Starts from 16 on are left out: the plan of {steps} steps consumes" in said[-1]
    with pytest.raises(PlanError, match=f"the plan of {steps + 1} steps consumes"):
        searched(with_budget(steps=steps + 1))


def test_starts_with_which_a_training_is_shorter_than_a_probe_are_left_out(
    with_budget: Callable[..., Options],
) -> None:
    """Of the same tokens a longer start makes fewer steps."""
    options = with_budget(tokens=14_000)
    most = [training(options, start, 20).total_steps for start in (8, 16, 32)]
    assert most[0] > most[1] > most[2] > 25
    starts, said = searched(options, least_length_warmup_steps=20, probe_steps=most[1])
    assert [length for length, _ in starts] == [8, 16]
    assert said == [
        f"Starts from 32 on are left out: A probe of {most[1]} steps is asked for, and the full training has "
        f"{most[2]}. Give it more text, --steps, --tokens or --epochs, or ask for shorter probes."
    ]
    with pytest.raises(PlanError, match=f"A probe of {most[0] + 1} steps is asked for"):
        searched(options, least_length_warmup_steps=20, probe_steps=most[0] + 1)


def test_a_longest_warmup_beyond_the_training_is_refused_with_one_that_fits(
    with_budget: Callable[..., Options],
) -> None:
    """One zero too many; a bound that only longer starts have no room for is no mistake."""
    with pytest.raises(ConfigError, match=r"most_length_warmup_steps is 4,000, and from a start of 8 .*: give 320, wh"):
        searched(with_budget(steps=400), most_length_warmup_steps=4000)
    options = with_budget(tokens=14_000)
    most = training(options, 16, 30).total_steps + 1  # fits from 8, where a longer warmup makes more steps
    starts, _ = searched(options, least_length_warmup_steps=10, probe_steps=20, most_length_warmup_steps=most)
    assert starts[0] == (8, most)
    assert [length for length, _ in starts] == [8, 16, 32]
    assert 10 < starts[2][1] < most


def test_where_only_the_longest_warmup_lacks_the_text_the_largest_that_has_it_is_named(
    with_budget: Callable[..., Options],
) -> None:
    """Nobody has asked for it: "use at most N steps" named steps of the training, and each next try was refused."""
    tokens = training(with_budget(), 8, 30).total_tokens * 8 // 10
    options = with_budget(mode="truncate", tokens=tokens)
    warmup = round(0.8 * training(replace(options, epochs=2), 8, 30).total_steps)
    longest = r"The longest length warmup that the search may try from a start of 8 takes {}, and only shorter ones"
    cure = (
        r" can be planned; with it, the plan of [0-9,]+ steps consumes [0-9,]+ tokens, but 1 epoch of [0-9,]+ corpus "
        r"tokens offers [0-9,]+\. Give --most-length-warmup-steps ([0-9]+), the largest that fits, or more text or "
        r"--epochs\.$"
    )
    with pytest.raises(PlanError, match=longest.format(r"[0-9,]+ steps, 0\.8 of all") + cure) as refused:
        searched(options)
    fits = int(re.findall(cure, str(refused.value))[0])
    assert 30 < fits < warmup - 1
    for more in (fits + 1, warmup):
        with pytest.raises(PlanError, match=longest.format(f"{more:,} steps") + cure.replace("([0-9]+)", str(fits))):
            searched(options, most_length_warmup_steps=more)
    assert searched(options, most_length_warmup_steps=fits)[0][0] == (8, fits)
    with pytest.raises(PlanError, match=r"^the plan of"):  # nor is it the warmup where every one lacks the text
        searched(with_budget(mode="truncate", tokens=2 * tokens))
