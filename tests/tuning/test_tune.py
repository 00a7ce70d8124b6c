"""A whole tune on a real corpus, with probes whose answers are known."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest

from curriculum.errors import BuildError, ConfigError
from pipeline.build import build, prepare_plan
from pipeline.option_sources import load_options
from pipeline.progress import Silent
from pipeline.report_tune import tune_report
from pipeline.tuning import Candidate
from pipeline.tuning.search import NoDuration, NoStart
from tune_world import Said, Tune, World, tuned_with


def test_the_known_answer_is_found_and_what_it_cost_is_said(options: dict[str, Any], tmp_path: Path) -> None:
    """As people see it: the table, the answer, its share of the training, how to build it; with a real picture."""
    world = World(16, 95)
    result = tuned_with(options, world, tmp_path / "tune")
    assert result.found == Candidate(start_length=16, length_warmup_steps=90)
    assert [(one.start_length, one.length_warmup_steps) for one in world.probed] == [
        (8, 30),
        (16, 30),
        (16, 180),
        (16, 100),
        (16, 60),
        (16, 80),
        (16, 90),
    ]
    tokens = 6 * 8 + 30 * 16 + 26 * 16 * 2 + 30 * 16 * 3
    total = result.full_plan.total_tokens
    assert result.probe_tokens == tokens
    assert tune_report(result).splitlines() == [
        "    start   warmup    steps  worst  verdict",
        "1       8       30        6  10.30  fluctuates at the very beginning, at step 5",
        "2      16       30       30   1.00  steady",
        "3      16      180       26  12.97  fluctuates later, at step 25",
        "4      16      100       26  12.97  fluctuates later, at step 25",
        "5      16       60       30   1.00  steady",
        "6      16       80       30   1.00  steady",
        "7      16       90       30   1.00  steady",
        "",
        "Start at 16 and warm up for 90 steps: with 100 perplexity fluctuates, and",
        "between the two nothing was tried.",
        "Its probe of 30 steps is steady with an LR warmup of 10 steps, perplexity at",
        "most 1.00 times its best so far.",
        f"7 probes trained {tokens:,} tokens, {tokens / total:.2%} of the full training's {total:,}, in 0:00:07.",
        f"Build it: curriculum build --config {tmp_path}/tune/tuned.toml --out DATASET",
        f"Picture: {tmp_path}/tune/tune.svg",
    ]
    assert "<svg" in (tmp_path / "tune" / "tune.svg").read_text()
    assert (tmp_path / "tune" / "tuned.toml").read_text().splitlines()[:4] == [
        "# Found by `curriculum tune`.",
        "# Start at 16 and warm up for 90 steps:",
        "# with 100 perplexity fluctuates, and between the two nothing was tried.",
        f"# {result.steady_with()}",
    ]


def test_the_toml_builds_what_was_tuned(run: Tune, tmp_path: Path) -> None:
    """From the same store, with the same held-out documents."""
    result = run(World(8, 95), resolution_steps=100)
    assert result.config is not None
    built = build(load_options(result.config, {"out": str(tmp_path / "dataset")}), Silent())
    assert built.manifest.plan == result.full_plan
    assert dict(built.manifest.plan.schedule)["length_warmup_steps"] == 30
    assert built.manifest.validation is not None


def test_trainings_of_unlike_numbers_of_tokens_are_compared_only_with_a_warning(
    options: dict[str, Any], tmp_path: Path
) -> None:
    """Of a number of steps a longer warmup trains less; the authors compare at equal tokens."""
    heard = {}
    budgets: dict[str, dict[str, Any]] = {
        "steps": {},
        "tokens": {"steps": None, "tokens": 150_000},
        "equal": {"batch_rows": None, "batch_tokens": 4096, "steps": 40},
    }
    for name, budget in budgets.items():
        said = {key: value for key, value in {**options, **budget}.items() if value is not None}
        progress = Said()
        small = {"least_length_warmup_steps": 10, "most_length_warmup_steps": 20}
        tuned_with(said, World(8, inf), tmp_path / name, progress=progress, **small)
        heard[name] = [line for line in progress.messages if "give --tokens" in line]
    plans = [
        prepare_plan(load_options(None, {**options, "start_length": 8, "length_warmup_steps": steps}), Silent())[0]
        for steps in (10, 20)
    ]
    short, long = (planned.plan.total_tokens for planned in plans)
    assert heard == {
        "steps": [
            f"With --steps 400 a longer warmup is a shorter training: from a start of 8, {short:,} tokens with a "
            f"warmup of 10 steps and {long:,} with 20. The authors compare at equal tokens: give --tokens instead."
        ],
        "tokens": [],
        "equal": [],
    }


def test_where_every_duration_works_the_longest_is_the_answer_and_says_so(run: Tune) -> None:
    """0.8 of 400 steps, or the bound that was given, which need not be on the grid: how much of the run, is said."""
    result = run(World(8, inf))
    assert result.found == Candidate(start_length=8, length_warmup_steps=320)
    longest = "the longest that was allowed, {} of all steps, and no probe of it fluctuated. Longer ones are untried"
    assert longest.format("80%") in result.sentence()
    assert longest.format("80%") in (result.folder / "tuned.toml").read_text()
    bounded = run(World(8, inf), most_length_warmup_steps=77, overwrite=True)
    assert bounded.found == Candidate(start_length=8, length_warmup_steps=77)
    assert longest.format("19%") in bounded.sentence()
    assert max(probe.candidate.length_warmup_steps for probe in bounded.probes) == 77


def test_starts_that_the_schedule_cannot_have_are_left_out(
    quick_pictures: None, options: dict[str, Any], tmp_path: Path
) -> None:
    """From 32 to 64 by multiples of 16 there are three lengths, no four stages; nobody may ever need that start."""
    said = Said()
    stages = {**options, "multiple_of": 16, "schedule": "step", "stages": 4}
    result = tuned_with(stages, World(8, 95), tmp_path / "tune", progress=said)
    assert [start.length for start in result.space.starts] == [16]
    assert any("Starts from 32 on are left out: stages 4 is more than" in line for line in said.messages)
    none = tuned_with(stages, World(999, inf), tmp_path / "tune", overwrite=True)
    assert "from every start from 16 to 16, and longer ones had to be left out. Look at" in none.sentence()


def test_where_nothing_works_the_probes_are_kept_and_there_is_no_answer(run: Tune, tmp_path: Path) -> None:
    """A made-up answer would be trained with; the sentences say what to try instead."""
    assert run(World(8, inf)).config == tmp_path / "tune" / "tuned.toml"
    no_start = run(World(999, inf, spike=inf), overwrite=True)
    assert isinstance(no_start.answer, NoStart)
    assert not (tmp_path / "tune" / "tuned.toml").exists(), "the answer of the tune before"
    assert "8       30        6      -  fluctuates at the very beginning, at step 5: it diverged" in tune_report(
        no_start
    )
    json.dumps(no_start.to_json(), allow_nan=False)
    assert no_start.found is no_start.config is None
    assert no_start.steady_with() == ""
    assert "at the very beginning from every start from 8 to 32, so a longer start is no cure" in no_start.sentence()
    assert no_start.plot is not None
    no_duration = run(World(16, 29), overwrite=True)
    assert isinstance(no_duration.answer, NoDuration)
    assert "From a start of 16 perplexity is steady at the very beginning, but" in no_duration.sentence()
    assert len(no_duration.to_json()["probes"]) == 2


def test_without_matplotlib_the_rest_is_there(run: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer of a day is not lost for a picture."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = run(World(8, inf))
    assert result.plot is None
    assert "Note: There is no picture without matplotlib: pip install" in tune_report(result)
    assert result.config is not None


def test_a_prober_that_returns_something_else_is_told_so(run: Tune) -> None:
    """The first mistake of who writes one: to forget the `return`."""
    returned: Any = None
    sentence = "probe 1 of at most 8, start 8, warmup 30 steps, cannot be judged: the prober returned None; let it"
    with pytest.raises(BuildError, match=sentence):
        run(lambda candidate, num_steps, stop_now: returned)


def test_the_command_that_builds_can_be_pasted(run: Tune) -> None:
    """Also where the folder has a space in its name."""
    result = replace(run(World(8, inf)), config=Path("my tune/tuned.toml"))
    assert "Build it: curriculum build --config 'my tune/tuned.toml' --out DATASET" in tune_report(result)


@pytest.mark.parametrize(
    ("said", "settings", "sentence"),
    [
        ({"frac": "0.3"}, {}, "frac is given, and the duration of the warmup is what a tune looks for"),
        ({"length_warmup_steps": 9}, {}, "length_warmup_steps is given"),
        ({"schedule": "constant"}, {}, "schedule is 'constant'"),
        ({"start_length": 64}, {}, "start of 64 and the full length is 64"),
        ({}, {"params": 2 * 10**9}, "start of 64 and the full length is 64"),
        ({}, {"fluctuation": 1.0}, "fluctuation is 1"),
        ({}, {"least_length_warmup_steps": 321}, "least_length_warmup_steps is 321, and from a start of 8"),
        ({}, {"resolution_steps": 0}, "resolution_steps is 0; give a whole number of 1 or more"),
        ({}, {"lr_warmup_steps": 20.5}, r"lr_warmup_steps is 20\.5; give a whole number"),
        ({}, {"lr_warmup_steps": None}, "lr_warmup_steps is None; give a whole number"),
        ({}, {"fluctuation": "1.3"}, r"fluctuation is '1\.3'; give a number above 1"),
        ({}, {"fluctuations": 1.3}, "'fluctuations' is no setting of a tune; there are fluctuation, params, beg"),
        ({"corpus": ("bad\udcff",)}, {}, "not UTF-8"),
    ],
)
def test_what_cannot_be_tuned_is_refused_before_the_first_probe(
    options: dict[str, Any], tmp_path: Path, said: dict[str, Any], settings: dict[str, Any], sentence: str
) -> None:
    """In a sentence."""
    from decimal import Decimal

    own = {name: Decimal(value) if name == "frac" else value for name, value in said.items()}
    with pytest.raises(ConfigError, match=sentence):
        tuned_with({**options, **own}, World(8, 99), tmp_path / "t", **settings)


def test_a_folder_of_something_else_is_refused_at_once(options: dict[str, Any], tmp_path: Path) -> None:
    """The token store was waited for, for an hour, by the tune that held it; a dataset got files of the tune."""
    (tmp_path / "manifest.json").touch()
    store = Path(options["store"])
    for folder, sentence in (
        (store, "a tune has a folder of its own; give another --out"),
        (store / "new", "a tune has a folder of its own; give another --out"),
        (tmp_path, "holds a dataset; give another folder to the tune with --out"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            tuned_with(options, World(8, 99), folder)
    assert not (store / "new").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
