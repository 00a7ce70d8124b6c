"""A whole tune on a real corpus, with probes whose answers are known."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner

from curriculum.errors import BuildError, ConfigError, DataError
from pipeline.build import build, prepare_plan
from pipeline.cli import main
from pipeline.option_sources import load_options
from pipeline.progress import Silent
from pipeline.report_tune import tune_report
from pipeline.tuning import Candidate, Evaluation, Prober, ProbeRun, tune
from pipeline.tuning.result import TuneResult
from pipeline.tuning.search import NoDuration, NoStart

WARMUP = 10
"""LR warmup: the very beginning is steps 0 to 9, a probe 30 steps, durations are 30, 40, 50 ..."""


class World:
    """A prober: starts below `smallest` fluctuate at step 5, warmups above `longest` at step 25."""

    every = 2

    def __init__(self, smallest: int, longest: float, *, dies_at: int | None = None, spike: float = 999.0) -> None:
        self.smallest, self.longest, self.dies_at, self.spike = smallest, longest, dies_at, spike
        self.probed: list[Candidate] = []

    def __call__(self, candidate: Candidate, num_steps: int, stop_now: Callable[[Evaluation], bool], /) -> ProbeRun:
        if len(self.probed) + 1 == self.dies_at:
            raise KeyboardInterrupt
        self.probed.append(candidate)
        bad = (
            5 if candidate.start_length < self.smallest else 25 if candidate.length_warmup_steps > self.longest else -1
        )
        evaluations: list[Evaluation] = []
        for step in range(1, num_steps, self.every):
            evaluations.append(Evaluation(step=step, perplexity=self.spike if step == bad else 100 - step))
            if stop_now(evaluations[-1]):
                break
        trained = evaluations[-1].step + 1
        return ProbeRun(
            evaluations=tuple(evaluations),
            num_tokens=trained * candidate.start_length,
            num_steps=trained,
            stopped_early=trained < num_steps,
            seconds=1.0,
        )


Tune = Callable[..., TuneResult]


def tuned_with(options: dict[str, Any], prober: Prober, out: Path, **settings: Any) -> TuneResult:
    """Validated every 2 steps; 20 times in 10 steps is not possible."""
    return tune(options, **{"lr_warmup_steps": WARMUP, "validations": 5, "prober": prober, "out": out, **settings})


@pytest.fixture(scope="module")
def options(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of a build of the small corpus, with starts 8, 16, 32 and 400 steps."""
    store = tmp_path_factory.mktemp("tune") / "store"
    own = {"tokenizer": "bytes", "max_length": 64, "batch_rows": 8, "steps": 400, "validation_tokens": 6_000}
    return {"corpus": (str(corpus),), "store": str(store), "workers": 1, **own}


@pytest.fixture(autouse=True)
def quick_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture takes half a second; one test looks at a real one."""
    if "known_answer" not in request.node.name:
        monkeypatch.setattr("pipeline.tuning.draw_tune.draw_tune", lambda result: "<svg/>")


@pytest.fixture
def run(options: dict[str, Any], tmp_path: Path) -> Tune:
    def tuned(prober: Prober, **settings: Any) -> TuneResult:
        return tuned_with(options, prober, tmp_path / "tune", **settings)

    return tuned


def test_the_known_answer_is_found_and_what_it_cost_is_said(run: Tune, tmp_path: Path) -> None:
    """As people see it: the table, the answer, its share of the training, the command that builds it."""
    world = World(16, 95)
    result = run(world)
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
        f"7 probes trained {tokens:,} tokens, {tokens / total:.2%} of the full training's {total:,}, in 0:00:07.",
        f"Build it: curriculum build --config {tmp_path}/tune/tuned.toml --out DATASET",
        f"Picture: {tmp_path}/tune/tune.svg",
    ]
    assert "<svg" in (tmp_path / "tune" / "tune.svg").read_text()


def test_the_toml_builds_what_was_tuned(run: Tune, tmp_path: Path) -> None:
    """From the same store, with the same held-out documents."""
    result = run(World(8, 95), resolution_steps=100)
    assert result.config is not None
    built = build(load_options(result.config, {"out": str(tmp_path / "dataset")}), Silent())
    assert built.manifest.plan == result.full_plan
    assert dict(built.manifest.plan.schedule)["length_warmup_steps"] == 30
    assert built.manifest.validation is not None


def test_killed_at_any_probe_the_same_call_goes_on_and_trains_none_twice(run: Tune, tmp_path: Path) -> None:
    """A tune of days loses the probe it was at."""
    whole = run(World(16, 95))
    for dies_at in range(1, len(whole.probes) + 1):
        first, second = World(16, 95, dies_at=dies_at), World(16, 95)
        with pytest.raises(KeyboardInterrupt):
            run(first, overwrite=True)
        result = run(second, overwrite=dies_at == 1)  # nothing was saved over what was there
        assert [*first.probed, *second.probed] == [probe.candidate for probe in whole.probes]
        assert result == whole
    finished = World(16, 95)
    assert run(finished) == whole
    assert finished.probed == []
    (tmp_path / "tune" / "tune.svg").unlink()
    assert run(finished).plot == tmp_path / "tune" / "tune.svg"


def test_other_options_are_refused_and_change_nothing(run: Tune, options: dict[str, Any], tmp_path: Path) -> None:
    """Also those of the build, the prober, and the corpus; how many work at it is no other option."""
    before = run(World(8, inf))
    state = (tmp_path / "tune" / "tune.json").read_bytes()
    with pytest.raises(BuildError, match=r"fluctuation was 1\.3, now 1\.5"):
        run(World(8, inf), fluctuation=1.5)
    with pytest.raises(BuildError, match=r"trains was 'prober World', now 'prober .*lambda"):
        run(lambda candidate, num_steps, stop_now: World(8, inf)(candidate, num_steps, stop_now))
    for other, sentence in (
        ({"steps": 410}, "steps was 400, now 410"),
        ({"validation_tokens": 5_000}, "6000, now 5000"),
    ):
        with pytest.raises(BuildError, match=sentence):
            tuned_with({**options, **other}, World(8, inf), tmp_path / "tune")
    assert (tmp_path / "tune" / "tune.json").read_bytes() == state
    again = tuned_with({**options, "out": "d"}, World(8, inf), tmp_path / "tune", params=10**8)
    assert again.probes == before.probes


def test_other_bounds_go_on_with_the_probes_and_count_those_that_are_of_no_more_use(run: Tune, tmp_path: Path) -> None:
    """The answer recommends wider bounds, a finer resolution and other starts; nothing is trained again for them."""
    first = run(World(16, 95), most_length_warmup_steps=70)
    assert first.found == Candidate(start_length=16, length_warmup_steps=70)
    wider = World(16, 95)
    result = run(wider)
    assert result.found == Candidate(start_length=16, length_warmup_steps=90)
    assert min(one.length_warmup_steps for one in wider.probed) > 70
    finer = World(16, 95)
    assert run(finer, resolution_steps=2).found == Candidate(start_length=16, length_warmup_steps=94)
    assert {one.length_warmup_steps for one in finer.probed} == {94, 96}
    none = World(16, 95)
    bounded = run(none, most_length_warmup_steps=70)
    assert none.probed == []
    assert bounded.probes == first.probes
    assert [one.candidate for one in bounded.other_probes] == [*wider.probed, *finer.probed]
    assert bounded.probe_tokens == sum(one.run.num_tokens for one in (*bounded.probes, *bounded.other_probes))
    table = tune_report(bounded).splitlines()
    assert table[len(first.probes) + 1] == "Trained for other bounds, and of no use for these:"
    assert table[len(first.probes) + 2].startswith(f"{len(first.probes) + 1:<3}    16")
    assert len(bounded.to_json()["other_probes"]) == len(bounded.other_probes)
    for _ in range(2):  # the second time no probe is trained
        assert run(World(16, 95)).config is not None
        assert run(World(16, 40), least_length_warmup_steps=55).config is None
        assert not (tmp_path / "tune" / "tuned.toml").exists(), "the answer of the bounds before"


def test_trainings_of_unlike_numbers_of_tokens_are_compared_only_with_a_warning(
    options: dict[str, Any], tmp_path: Path
) -> None:
    """Of a number of steps a longer warmup trains less; the authors compare at equal tokens."""

    class Heard(Silent):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def say(self, message: str) -> None:
            self.lines.append(message)

    heard = {}
    budgets: dict[str, dict[str, Any]] = {
        "steps": {},
        "tokens": {"steps": None, "tokens": 150_000},
        "equal": {"batch_rows": None, "batch_tokens": 4096, "steps": 40},
    }
    for name, budget in budgets.items():
        said = {key: value for key, value in {**options, **budget}.items() if value is not None}
        progress = Heard()
        small = {"least_length_warmup_steps": 10, "most_length_warmup_steps": 20}
        tuned_with(said, World(8, inf), tmp_path / name, progress=progress, **small)
        heard[name] = [line for line in progress.lines if "give --tokens" in line]
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
    """0.8 of 400 steps, or the bound that was given, which need not be on the grid."""
    result = run(World(8, inf))
    assert result.found == Candidate(start_length=8, length_warmup_steps=320)
    assert "the longest that was allowed, and no probe of it fluctuated. Longer ones are untried" in result.sentence()
    bounded = run(World(8, inf), most_length_warmup_steps=77, overwrite=True)
    assert bounded.found == Candidate(start_length=8, length_warmup_steps=77)
    assert max(probe.candidate.length_warmup_steps for probe in bounded.probes) == 77


def test_starts_that_the_schedule_cannot_have_are_left_out(run: Tune, options: dict[str, Any], tmp_path: Path) -> None:
    """From 32 to 64 by multiples of 16 there are three lengths, no four stages; nobody may ever need that start."""

    class Heard(Silent):
        lines: ClassVar[list[str]] = []

        def say(self, message: str) -> None:
            self.lines.append(message)

    stages = {**options, "multiple_of": 16, "schedule": "step", "stages": 4}
    result = tuned_with(stages, World(8, 95), tmp_path / "tune", progress=Heard())
    assert [start.length for start in result.space.starts] == [16]
    assert any("Starts from 32 on are left out: stages 4 is more than" in line for line in Heard.lines)


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


def test_a_probe_that_cannot_be_judged_ends_in_a_sentence_and_costs_no_other(run: Tune, tmp_path: Path) -> None:
    """It names the probe; the ones before it are on the disk."""

    class Rare(World):
        def __call__(self, candidate: Candidate, num_steps: int, stop_now: Callable[[Evaluation], bool], /) -> ProbeRun:
            self.every = 5 if len(self.probed) == 2 else 2
            return super().__call__(candidate, num_steps, stop_now)

    Rare.__qualname__ = "World"
    with pytest.raises(BuildError) as refused:
        run(Rare(16, 95))
    assert str(refused.value).startswith(
        "probe 3 of at most 8, start 16, warmup 180 steps, cannot be judged: steps 2 to 5 "
    )
    assert "--validate-every 2" in str(refused.value)
    going_on = World(16, 95)
    assert run(going_on).found == Candidate(start_length=16, length_warmup_steps=90)
    assert len(going_on.probed) == 5


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        (None, "probe 1 of at most 8, start 8, warmup 30 steps, cannot be judged: the prober returned None; let it"),
        (ProbeRun(evaluations=((5, 9.0),), num_tokens=1, num_steps=30, stopped_early=False, seconds=1), r"is \[5, 9"),  # type: ignore[arg-type]
    ],
)
def test_a_prober_that_returns_something_else_is_told_so(run: Tune, returned: ProbeRun, sentence: str) -> None:
    """The first mistake of who writes one: to forget the `return`."""
    with pytest.raises(BuildError, match=sentence):
        run(lambda candidate, num_steps, stop_now: returned)


@pytest.mark.parametrize(
    "damage",
    [
        lambda evaluations: evaluations[:2],
        lambda evaluations: evaluations[::-1],
        lambda evaluations: [[1, 0.5], *evaluations[1:]],
    ],
)
def test_a_state_that_cannot_be_judged_is_named(run: Tune, tmp_path: Path, damage: Callable[[Any], Any]) -> None:
    """Not the train command, which is not to blame: somebody has changed the file."""
    run(World(8, inf))
    path = tmp_path / "tune" / "tune.json"
    state = json.loads(path.read_text())
    state["probes"][0]["evaluations"] = damage(state["probes"][0]["evaluations"])
    path.write_text(json.dumps(state))
    with pytest.raises(DataError, match=r"tune\.json: the probe of start 8, warmup 30 steps cannot be judged.*--over"):
        run(World(8, inf))


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


TRAINER = """
import json, sys
import curriculum

data, log = sys.argv[1], sys.argv[3]
steps, warmup, decay, every = map(int, (sys.argv[2], *sys.argv[4:]))
assert warmup == 10 and decay > 50_000
reader = curriculum.open(data)
lengths = [reader[step].seq_len for step in range(steps)]
with open(log, "w") as file:
    for step in range(every - 1, steps, every):
        loss = 5 - step / 50
        loss += (lengths[0] < 16 and step == 5) or (lengths[-1] < 32 and step == 25)
        print(json.dumps({"step": step, "validation_loss": loss}), file=file, flush=True)
"""
"""Fluctuates from a start of 8, and where step 29 is shorter than 32 tokens."""


def test_the_command_tunes_with_a_train_command(options: dict[str, Any], tmp_path: Path) -> None:
    """From the corpus to the TOML, with datasets cut for each probe: the answer follows from their lengths."""
    (tmp_path / "train.py").write_text(TRAINER)
    placeholders = "{dataset} {steps} {log} {lr_warmup_steps} {decay_tokens} {validate_every}"
    train = f"{shlex.quote(sys.executable)} {tmp_path}/train.py {placeholders}"
    flags = [
        word
        for name in ("tokenizer", "max_length", "batch_rows", "steps", "validation_tokens", "store", "workers")
        for word in (f"--{name.replace('_', '-')}", str(options[name]))
    ]
    tuning = ["--train-cmd", train, "--lr-warmup-steps", "10", "--out", str(tmp_path / "tune")]
    tuning += ["--resolution-steps", "30", "--most-length-warmup-steps", "120", "--validations", "5"]
    result = CliRunner().invoke(main, ["tune", *options["corpus"], *flags, *tuning, "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["start_length"], found["length_warmup_steps"], found["fluctuates_with"]) == (16, 90, 120)
    assert "at most 5 probes of 30 steps, validated at least every 2." in result.stderr
    assert "With --steps 400 a longer warmup is a shorter training: from a start of 8," in result.stderr
    assert 0 < found["cost_share"] < 0.5
    assert found["config"] == str(tmp_path / "tune" / "tuned.toml")
    assert not list((tmp_path / "tune").rglob("*.arrow")), "datasets of probes are gone"


def test_the_command_exits_with_1_where_nothing_works(
    run: Tune, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For scripts; people get the table and the sentence all the same."""
    nothing = run(World(999, inf))
    monkeypatch.setattr("pipeline.tuning.tuner.run_tune", lambda request, progress: nothing)
    train = f"{shlex.quote(sys.executable)} x.py {{dataset}} {{steps}} {{log}}"
    words = ["tune", *options["corpus"], "--train-cmd", train, "--lr-warmup-steps", "10", "--out", str(tmp_path / "t")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1
    assert result.stdout == tune_report(nothing) + "\n"
