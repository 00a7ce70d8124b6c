"""What is in a picture of stability: every spike and mark where it was, and each run told from the others."""

from __future__ import annotations

import math
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from curriculum.errors import DataError
from curriculum.stability import summarize
from pipeline.draw_stability import MOST_RUNS, stability_figure
from pipeline.stability_curves import alone, names, points, thinned
from pipeline.stability_logs import Run


def run_of(records: list[dict[str, Any]], log: str = "log.jsonl") -> Run:
    return Run(log=log, records=records, summary=summarize(records))


def losses(values: list[float | None]) -> list[dict[str, Any]]:
    return [{"step": step, "loss": value} for step, value in enumerate(values)]


def panels(*logs: list[dict[str, Any]]) -> dict[str, Axes]:
    """Axes by the first words of their titles."""
    figure = stability_figure([run_of(records) for records in logs])
    return {axes.get_title(loc="center").split(" (")[0].split(":")[0]: axes for axes in figure.axes}


def marks(axes: Axes) -> list[tuple[str, list[int]]]:
    """The signs that are no lines, and their steps."""
    lines = [line for line in axes.get_lines() if line.get_linestyle() == "None"]
    return [(str(line.get_marker()), [int(step) for step in line.get_xdata()]) for line in lines]  # type: ignore[union-attr]


def test_validations_and_divergences_are_marked_at_their_steps() -> None:
    """A run that diverged must not look like one that ended."""
    records = losses([4.0, 3.0, math.nan, 2.0, math.inf])
    records[1]["validation_loss"] = 3.5
    axes = panels(records)["loss of the step"]
    assert marks(axes) == [("o", [1]), ("x", [2, 4])]
    assert axes.get_title() == "loss of the step (marks: validation, crosses: NaN or infinite)"


def test_a_panel_says_what_is_in_it() -> None:
    assert list(panels(losses([4.0, 3.0]))) == ["loss of the step", "loss ratio"]
    assert panels(losses([4.0, 3.0]))["loss of the step"].get_title() == "loss of the step"
    assert list(panels([{"step": 3, "validation_loss": 2.0}])) == ["validation loss"]
    assert marks(panels(losses([math.nan]))["loss of the step"]) == [("x", [0])]
    validations = [{"step": step, "validation_loss": loss} for step, loss in enumerate((2.0, math.nan))]
    assert panels(validations)["validation loss"].get_title() == "validation loss (crosses: NaN or infinite)"


def test_a_run_that_broke_with_a_finite_loss_has_its_cross() -> None:
    """Of each kind of divergence, as the text counts them."""
    run = run_of(
        [
            {"step": 0, "loss": 4.0},
            {"step": 1, "loss": 3.0, "validation_loss": math.nan},
            {"step": 2, "loss": None, "loss_ratio": math.inf},
            {"step": 3, "loss": math.nan},
        ]
    )
    assert marks(stability_figure([run]).axes[0]) == [("x", [1, 2, 3])]
    assert run.summary.divergences == 3


def test_a_curve_breaks_at_a_divergence() -> None:
    """And only there: a log of every tenth step is one line. What stands alone between two gaps is a dot."""
    records = [
        {"step": 0, "loss": 4.0},
        {"step": 10, "grad_norm": 1.0},
        *({"step": step, "loss": loss} for step, loss in ((20, 3.0), (30, math.nan), (40, 2.0), (50, 1e39), (60, 1.0))),
    ]
    curve = points(run_of(records), "loss")
    assert [(step, None if math.isnan(value) else value) for step, value in curve] == [
        (0, 4.0),
        (20, 3.0),
        (30, None),
        (40, 2.0),
        (50, None),
        (60, 1.0),
    ]
    assert panels(records)["loss of the step"].get_lines()[0].get_markevery() == alone(curve) == [3, 5]
    assert points(run_of(losses([math.nan, math.inf])), "loss") == []
    assert points(run_of([{"step": 0, "loss": 0.0, "grad_norm": math.nan}]), "loss") == [], "Trainer's 0 for NaN"


def test_one_spike_leaves_room_for_all_else() -> None:
    """Beside a loss of 900 all others would be one flat line; that of a validation counts as well. A loss of 0 or less,
    as of another run that broke, does not bring the flat line back; where it has no place, the title says so."""
    calm = panels(losses([8.0, 4.0, 2.0, 2.0]))
    spiked = panels(losses([8.0, 4.0, 2.0, 900.0]))
    validated = panels([{"step": 0, "loss": 2.0, "validation_loss": 40.0}, {"step": 1, "loss": 2.0}])
    negative, zero = panels(losses([8.0, -4.0, 900.0])), panels(losses([8.0, 0.0, 4.0]))
    scales = [found["loss of the step"].get_yscale() for found in (calm, spiked, validated, negative, zero)]
    assert scales == ["linear", "log", "log", "log", "linear"]
    titles = [found["loss of the step"].get_title() for found in (spiked, negative, zero)]
    assert titles == ["loss of the step", "loss of the step (0 and less: left out)", "loss of the step"]
    assert negative["loss of the step"].get_lines()[0].get_markevery() == [0, 2], "dots, as no line joins them"
    assert [found["loss ratio"].get_yscale() for found in (calm, spiked, validated)] == ["linear", "log", "linear"]


def test_several_runs_are_drawn_over_the_tokens_they_trained() -> None:
    """At equal steps a warmup has seen less text, and looks worse than it is; marks are where the losses are."""
    warmup = [
        {"step": 0, "seq_len": 8, "tokens": 8, "loss": 4.0},
        {"step": 1, "seq_len": 16, "tokens": 24, "loss": math.nan, "validation_loss": 3.0},
    ]
    baseline = [{"step": step, "seq_len": 16, "tokens": 16 * (step + 1), "loss": 4.0} for step in (0, 1)]
    figure = stability_figure([run_of(warmup), run_of(baseline)])
    assert [list(line.get_xdata()) for line in figure.axes[0].get_lines()[:2]] == [[8, 24], [16, 32]]  # type: ignore[arg-type]
    assert marks(figure.axes[0]) == [("o", [24]), ("x", [24])]
    assert (figure.axes[-1].get_xlabel(), figure.axes[-1].get_xlim()) == ("tokens trained", (8, 32))
    assert figure.axes[-1].get_lines()[0].get_drawstyle() == "steps-pre", "a row's tokens are counted at its end"
    evaluated = [
        {"step": 0, "tokens": 8, "loss": 4.0},
        {"step": 3, "tokens": None, "validation_loss": 3.0},
    ]  # between logged steps
    assert marks(stability_figure([run_of(evaluated), run_of(baseline)], "tokens").axes[0]) == [("o", [8])]
    of_the_step = [{**record, "tokens": 16} for record in baseline]
    for runs, over in (([warmup], None), ([warmup, baseline], "steps"), ([warmup, of_the_step], None)):
        axes = stability_figure([run_of(records) for records in runs], over).axes[-1]
        assert (axes.get_xlabel(), axes.get_xlim()) == ("step", (0, 1))
    with pytest.raises(DataError, match=r"--over tokens: log.jsonl has, in step 1, no tokens trained so far"):
        stability_figure([run_of(warmup), run_of(of_the_step)], "tokens")


def test_long_names_are_not_cut_off_by_the_edge() -> None:
    """Those of the logs of tune's own probes are."""

    def columns(name: str) -> int:
        runs = [run_of(losses([4.0]), f"{number}{name}") for number in range(5)]
        return stability_figure(runs).legends[0]._ncols  # type: ignore[attr-defined, no-any-return]

    assert (columns("x" * 30), columns("x" * 50)) == (2, 1)


def test_each_run_has_a_look_of_its_own() -> None:
    """Also where there are more runs than colours."""
    axes = panels(*[[{"step": step, "loss": 4.0, "validation_loss": 4.0} for step in (0, 1)]] * MOST_RUNS)
    curves, validations = (
        axes["loss of the step"].get_lines()[:MOST_RUNS],
        axes["loss of the step"].get_lines()[MOST_RUNS:],
    )
    assert len({(to_hex(line.get_color()), line.get_linestyle()) for line in curves}) == MOST_RUNS
    signs = {(to_hex(line.get_color()), line.get_marker()) for line in validations if line.get_linestyle() == "None"}
    assert len(signs) == MOST_RUNS
    crosses = panels(*[losses([4.0, math.nan])] * MOST_RUNS)["loss of the step"].get_lines()[MOST_RUNS:]
    assert (
        len({(to_hex(line.get_color()), line.get_marker()) for line in crosses if len(line.get_xydata())}) == MOST_RUNS
    )


def test_a_long_run_is_drawn_with_its_spikes() -> None:
    """A picture of many steps opens, and the one bad step is in it, as is the gap of a divergence."""
    curve = [(step, 1.0) for step in range(100_000)]
    curve[12_345], curve[50_000], curve[50_007] = (12_345, 9.0), (50_000, math.nan), (50_007, 0.5)
    few = thinned(curve)
    assert len(few) <= 1201
    assert {(12_345, 9.0), (50_007, 0.5)} <= set(few)
    assert [step for step, value in few if math.isnan(value)] == [50_000]
    assert few == sorted(few, key=lambda point: point[0])
    assert thinned(curve[:100]) == curve[:100]


def test_logs_are_called_by_what_differs() -> None:
    """Six logs of one name in six folders are told apart, and the picture is not all names."""
    assert names(["/a/b/one/log.jsonl", "/a/b/two/log.jsonl"]) == ["one/log.jsonl", "two/log.jsonl"]
    assert names(["one/log.jsonl", "one/log.jsonl"]) == ["log.jsonl", "log.jsonl"]
    assert names(["a\x1b.jsonl"]) == ["a\\x1b.jsonl"]
    assert names(["x" * 100]) == ["..." + "x" * 57]
