"""What docs/evidence.md is made of, on logs small enough to work out by hand."""

from __future__ import annotations

import json
import math
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its modules stand beside each other, not in a package."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def log(losses: list[float], ratios: list[float | None], validation: dict[int, float]) -> list[dict[str, Any]]:
    """Steps of 100 tokens and 2 seconds; the first two are shorter rows."""
    return [
        {
            "step": step,
            "seq_len": 8 if step < 2 else 16,
            "tokens": 100 * (step + 1),
            "seconds": 2.0 * (step + 1),
            "loss": loss,
            "loss_ratio": ratio,
            "grad_norm": 1.0 + step,
            "variance_l1": 0.5 * (step + 1),
            "variance_max": 0.25,
            "variance_sqrt_l1": 3.0 * (step + 1),
            "variance_sqrt_max": 0.5,
            **({"validation_loss": validation[step]} if step in validation else {}),
        }
        for step, (loss, ratio) in enumerate(zip(losses, ratios, strict=True))
    ]


BASELINE = log([4.0, 6.4, 3.0, 3.9, 3.0], [None, 1.6, 0.75, 1.3, 1.0], {1: 5.0, 3: 4.0, 4: 3.5})
BETTER = log([4.0, 3.0, 2.4, 2.0, 2.0], [None, 0.75, 0.8, 0.8, 1.0], {1: 4.0, 3: 3.0, 4: 2.5})


def test_a_log_gives_the_numbers_of_the_page() -> None:
    """Each of them is in the tables: a wrong one would be published."""
    from evidence_measures import measures  # type: ignore[import-not-found]

    found = measures(BASELINE, BASELINE, 200)
    assert found == {
        "steps": 5,
        "tokens": 500,
        "final": 3.5,
        "gain": 0.0,
        "diverged": False,
        "baseline_diverged": False,
        "target_tokens": 500,
        "seconds": 10.0,
        "target_seconds": 10.0,
        "above": {"1.1": 2, "1.2": 2, "1.5": 1},
        "above_late": {"1.1": 1, "1.2": 1, "1.5": 0},
        "ratio_max": 1.6,
        "grad_norm_max": 5.0,
        "variance_l1_peak": 2.5,
        "variance_l1_mean": 1.5,
        "variance_max_peak": 0.25,
        "variance_max_mean": 0.25,
        "variance_sqrt_l1_peak": 15.0,
        "variance_sqrt_l1_mean": 9.0,
        "variance_sqrt_max_peak": 0.5,
        "variance_sqrt_max_mean": 0.5,
        "correlation_variance_max": None,
        "correlation_variance_sqrt_l1": None,
    }


def test_when_the_baseline_is_reached_is_interpolated() -> None:
    """4.0 at 200 tokens, 3.0 at 400: 3.5 in the middle. A run that never comes there has no such time."""
    from evidence_measures import measures

    better, worse = measures(BETTER, BASELINE, 200), measures(BASELINE, BETTER, 200)
    assert (better["gain"], worse["gain"]) == (1.0, -1.0)
    assert (better["target_tokens"], worse["target_tokens"]) == (300, None)
    assert (better["target_seconds"], worse["target_seconds"]) == (6.0, None)


def broken(records: list[dict[str, Any]], num_steps: int) -> list[dict[str, Any]]:
    """The log of a run that diverges after so many steps, as `curriculum train` writes it."""
    values = dict.fromkeys(record := records[num_steps], math.nan)
    return [*records[:num_steps], {**values, **{key: record[key] for key in ("step", "seq_len", "tokens", "seconds")}}]


@pytest.mark.parametrize(
    ("losses", "validation", "diverged"),
    [
        ([4.0, 3.0], {0: 3.0, 1: 3.5}, False),
        ([4.0, 3.0], {0: 3.0, 1: 3.7}, True),
        ([4.0, math.nan], {0: 3.0, 1: 3.0}, True),
        ([4.0, 3.0], {0: 3.0, 1: math.inf}, True),
    ],
)
def test_what_counts_as_a_divergence(losses: list[float], validation: dict[int, float], diverged: bool) -> None:
    """More than 1.2 times the lowest loss at the end, or no number at all: NaN compares as false with everything."""
    from evidence_measures import measures

    assert measures(log(losses, [None, 1.0], validation), BASELINE, 0)["diverged"] is diverged


def test_a_divergence_leaves_the_numbers_of_its_steps_and_none_that_is_not_one() -> None:
    """It is what these runs look for. A NaN would take all means, and a peak after it, into the tables with it."""
    from evidence_measures import measures

    found = measures(broken(BETTER, 2), BASELINE, 200)
    assert (found["final"], found["gain"], found["diverged"], found["baseline_diverged"]) == (None, None, True, False)
    assert (found["steps"], found["above_late"]["1.1"], found["ratio_max"]) == (3, None, 0.75)
    assert (found["grad_norm_max"], found["variance_l1_peak"], found["variance_l1_mean"]) == (2.0, 1.0, 0.75)
    found = measures(BETTER, broken(BASELINE, 2), 200)
    assert (found["final"], found["gain"], found["diverged"], found["baseline_diverged"]) == (2.5, None, False, True)
    assert (found["target_tokens"], found["target_seconds"]) == (None, None)
    json.dumps(measures(broken(BASELINE, 0), broken(BASELINE, 0), 200), allow_nan=False)  # in its first step


def finish(folder: Path, name: str, records: list[dict[str, Any]], **cost: Any) -> None:
    """The folder of a finished run."""
    out = folder / "runs" / name
    out.mkdir(parents=True)
    (out / "stability.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    (out / "cost.json").write_text(json.dumps(cost), "utf-8")


def test_the_table_holds_finished_runs_with_their_spread(tmp_path: Path) -> None:
    """Two seeds, one of which has no finished curriculum, and a curriculum whose baseline is not finished."""
    from evidence_matrix import SCALES, runs  # type: ignore[import-not-found]
    from evidence_report import markdown, results  # type: ignore[import-not-found]

    always_full = [{**record, "seq_len": 16} for record in BASELINE]
    finish(tmp_path, "aggressive-constant-seed0", always_full, cpu_seconds=9.0)
    finish(tmp_path, "aggressive-constant-seed1", always_full, cpu_seconds=12.0)
    finish(tmp_path, "aggressive-segmentation-seed0", BETTER, cpu_seconds=9.0)
    finish(tmp_path, "aggressive-truncation-seed2", BETTER, cpu_seconds=9.0)
    finish(tmp_path, "normal-truncation-seed2", BETTER, cpu_seconds=9.0)
    said: list[str] = []
    lines = markdown(results(runs(SCALES["cpu"], 3), tmp_path, said.append)).splitlines()
    assert lines[0] == "Setting `aggressive`; runs: constant 2, segmentation 1."
    assert [line for line in lines if line.startswith("Setting")] == [lines[0]] * 2, "a short and a full table"
    for line in (
        "| | constant | segmentation |",
        "| final validation loss, nats | 3.500 | 2.500 |",
        "| lower than the baseline of the same seed by | +0.000 | +1.000 |",
        "| diverged | 0 of 2 | 0 of 1 |",
        "| the same after 0.00 M tokens, > 1.2 | 1.0 | 0.0 |",  # of 200: step 1, with 1.6, has the last of them
        "| CPU seconds | 10 (9, 12) | 9 |",
    ):
        assert line in lines
    assert said == [
        f"{setting}-truncation-seed2 is left out: the baseline of its seed is not finished."
        for setting in ("aggressive", "normal")
    ]


def test_a_divergence_is_counted_apart(tmp_path: Path) -> None:
    """A baseline that diverges is the best that a curriculum can show: it is no seed in which it did not reach it. Nor
    does a curriculum that diverged while its rows grew make shorter rows the full ones."""
    from evidence_matrix import SCALES, runs
    from evidence_report import markdown, results

    full = [{**record, "seq_len": 16} for record in BASELINE]
    for seed, (baseline, curriculum) in enumerate(
        ((full, BETTER), (broken(full, 2), BETTER), (full, broken(BETTER, 2)))
    ):
        finish(tmp_path, f"aggressive-constant-seed{seed}", baseline, cpu_seconds=9.0)
        finish(tmp_path, f"aggressive-truncation-seed{seed}", curriculum, cpu_seconds=9.0)
    finish(tmp_path, "normal-constant-seed0", broken(full, 2), cpu_seconds=9.0)
    finish(tmp_path, "normal-truncation-seed0", broken(BETTER, 1), cpu_seconds=9.0)
    found = results(runs(SCALES["cpu"], 3), tmp_path)
    assert (found["aggressive"]["late"], found["normal"]["late"]) == (200, 200)
    json.dumps(found, allow_nan=False)
    lines = markdown(found).splitlines()
    for line in (
        "| final validation loss, nats | 3.500, 2 of 3 | 2.500, 2 of 3 |",
        "| lower than the baseline of the same seed by | +0.000, 2 of 3 | +1.000, 1 of 3 |",
        "| diverged | 1 of 3 | 1 of 3 |",
        "| M tokens to the baseline's final loss"
        " | 0.00, 2 of 2, 1 baseline diverged | 0.00, 1 of 2, 1 baseline diverged |",
        "| final validation loss, nats | - | - |",
        "| M tokens to the baseline's final loss | -, 1 baseline diverged | -, 1 baseline diverged |",
    ):
        assert line in lines


def test_pictures_are_drawn_of_what_is_finished(tmp_path: Path) -> None:
    """By trained tokens, with a name for each arm, whichever seed and setting of it is finished, and finite."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'seqlen-curriculum[report]'")
    import matplotlib.pyplot as plt
    from evidence_matrix import SCALES, runs
    from evidence_plots import draw  # type: ignore[import-not-found]

    finish(tmp_path, "aggressive-constant-seed1", broken(BASELINE, 1))
    finish(tmp_path, "normal-constant-seed1", BASELINE)
    finish(tmp_path, "normal-truncation-seed1", BETTER)
    draw(runs(SCALES["cpu"], 2), tmp_path, tmp_path / "plots")
    for name in ("evidence-loss.png", "evidence-stability.png"):
        assert (tmp_path / "plots" / name).read_bytes().startswith(b"\x89PNG")
    curves, measured = (plt.figure(number) for number in plt.get_fignums()[-2:])
    assert curves.axes[0].lines[0].get_xydata().size == 0, "its only validation is NaN"
    assert curves.axes[1].lines[0].get_xydata().tolist() == [[0.0002, 5.0], [0.0004, 4.0], [0.0005, 3.5]]
    assert measured.axes[1].lines[1].get_xydata().tolist() == [
        [0.0002, 0.75],
        [0.0003, 0.8],
        [0.0004, 0.8],
        [0.0005, 1],
    ]
    for figure in (curves, measured):
        legend = figure.axes[0].get_legend()
        assert [text.get_text() for text in legend.get_texts()] == ["constant", "truncation"]
        plt.close(figure)


GROWTH = ["--start-length", "8", "--frac", "0.4"]
ARMS = {
    "constant": ["--schedule", "constant"],
    "truncation": ["--schedule", "linear", "--mode", "truncate", *GROWTH],
    "segmentation": ["--schedule", "linear", "--mode", "segment", *GROWTH],
    "long-warmup": ["--schedule", "constant"],
}


def test_arms_differ_in_their_data_only() -> None:
    """What a run builds and trains is what the baseline of its setting and seed does, but for the lengths of its arm;
    of the control, but for its warm-up: 376,832 tokens, as many as the lengths of the others grow in."""
    from evidence_matrix import SCALES, runs

    for scale in SCALES.values():
        matrix = runs(scale, 3)
        assert len({run.name for run in matrix}) == len(matrix) == 21
        for run in matrix:
            baseline = next(other for other in matrix if (other.setting, other.seed) == (run.setting, run.seed))
            assert baseline.arm == "constant"
            words, theirs = (each.build(Path("F"), ["text.jsonl"], 1) for each in (run, baseline))
            place = theirs.index("--schedule")
            assert words == [*theirs[:place], *ARMS[run.arm], *theirs[place + 2 : -1], f"F/data/{run.name}"]
            words, theirs = (each.train(Path("F"))[4:] for each in (run, baseline))  # the first four are names
            if run.arm == "long-warmup":
                steps = words.index("--lr-warmup-steps") + 1
                assert (words[steps], theirs[steps]) == {"cpu": ("46", "10"), "gpt2": ("596", "24")}[scale.name]
                words[steps] = theirs[steps]
            assert words == theirs


def test_the_corpus_is_each_text_of_the_packages_once(tmp_path: Path) -> None:
    """Of five files that look like text one is empty, one no UTF-8, one too large, and one is elsewhere, too."""
    from evidence_corpus import write_texts  # type: ignore[import-not-found]

    for name, files in {
        "b": {"x.py": b"one"},
        "a": {"x.py": b"one", "y.rst": b"two", "z.md": b"", "w.txt": b"\xff", "v.md": b"x" * ((32 << 10) + 1)},
    }.items():
        with zipfile.ZipFile(tmp_path / f"{name}-1-py3-none-any.whl", "w") as wheel:
            for path, data in files.items():
                wheel.writestr(path, data)
    found = write_texts(sorted(tmp_path.glob("*.whl")), tmp_path)
    assert (found["documents"], found["text_bytes"]) == (2, 6)
    assert (tmp_path / "a.jsonl").read_text("utf-8") == '{"text": "one"}\n{"text": "two"}\n'
    assert (tmp_path / "b.jsonl").read_text("utf-8") == ""


STUB = """if True:
    import json, pathlib, sys, time
    folder = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
    calls = pathlib.Path("calls")
    calls.write_text(calls.read_text() + f"{sys.argv[1]} {folder.name}\\n")
    if sys.argv[1] == "build":
        pathlib.Path("held").mkdir()
        time.sleep(0.2)
        folder.mkdir(parents=True, exist_ok=True)
        sources = [{"fingerprint": sys.argv[2]}]
        (folder / "manifest.json").write_text(json.dumps({"sources": sources}))
        pathlib.Path("held").rmdir()
    if sys.argv[1] == "train":
        loss = "NaN" if "truncation" in folder.name else 1.0
        (folder / "stability.jsonl").write_text(json.dumps({"step": 0, "loss": loss}) + "\\n")
        sys.exit(not folder.with_name("may-end").exists() or loss == "NaN")
"""
"""A `curriculum` that notes its calls. A build fails beside another, as the token store is held; training fails before
it may end, and always where its loss is no number."""


def test_the_same_command_goes_on_where_it_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hours of training: what is finished, a divergence included, is not trained again, and what failed is. Runs of
    other options would share a table with it: they are refused."""
    import evidence  # type: ignore[import-not-found]
    from evidence_matrix import SCALES, runs

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evidence, "CURRICULUM", [sys.executable, "-c", STUB])
    matrix = runs(SCALES["cpu"], 1)[:2]
    diverges, fails = "aggressive-truncation-seed0", "aggressive-constant-seed0"
    called = []
    for attempt in range(3):
        (tmp_path / "calls").write_text("")
        if attempt == 0:
            with pytest.raises(SystemExit, match=f"curriculum train .*{fails}.* failed: see .*train.out"):
                evidence.train_all(matrix, tmp_path, ["text.jsonl"], 1, 2)
            (tmp_path / "runs" / "may-end").touch()
        else:
            evidence.train_all(matrix, tmp_path, ["text.jsonl"], 1, 2)
        called.append([line for line in (tmp_path / "calls").read_text().splitlines() if line.startswith("train")])
    assert sorted(called[0]) == [f"train {fails}", f"train {diverges}"]
    assert called[1:] == [[f"train {fails}"], []]
    cost = json.loads((tmp_path / "runs" / fails / "cost.json").read_text())
    assert cost["cpu_seconds"] is None, "it was resumed"
    other = runs(replace(SCALES["cpu"], tokens=2_000_000), 1)[:2]
    with pytest.raises(
        SystemExit, match=r"cost.json is of another run: cpu: build .* Give the --scale, --tokens, --co"
    ):
        evidence.train_all(other, tmp_path, ["text.jsonl"], 1, 2)
    for corpus, epochs in (("other.jsonl", 1), ("text.jsonl", 2)):
        with pytest.raises(
            SystemExit, match=rf"of another run: text.jsonl, 1 epochs. Asked for: {corpus}, {epochs} epo"
        ):
            evidence.train_all(matrix, tmp_path, [corpus], epochs, 2)
    evidence.refuse_others(matrix, tmp_path)
    (tmp_path / "runs" / fails / "cost.json").write_text(json.dumps({**cost, "text": "other"}))
    with pytest.raises(SystemExit, match=r"cost\.json is of another run"):
        evidence.refuse_others(matrix, tmp_path)
    for damaged in ("", "[]", json.dumps({"run": cost["run"], "cpu_seconds": 1.0})):
        (tmp_path / "runs" / fails / "cost.json").write_text(damaged)
        with pytest.raises(
            SystemExit, match=r"cost\.json does not say what the run was trained on .* Remove it and giv"
        ):
            evidence.refuse_others(matrix, tmp_path)
    with pytest.raises(SystemExit, match="holds no finished run: leave --report away to train them"):
        evidence.refuse_others(matrix, tmp_path / "elsewhere")
