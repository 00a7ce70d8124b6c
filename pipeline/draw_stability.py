"""A picture of how stable runs were: loss, loss ratio, Adam's variance, gradient norm, and under them the row length.

In:  runs whose logs were read.   Out: the bytes of an SVG or PNG file.
Guarantees: all panels share the steps, or the tokens trained; a measure that no log has gets no panel; a run has one
colour and one kind of line and sign in all panels, and no other run has both. What has no place on a panel's axis
(`stability_axes.py`) its title says. Equal logs are equal pictures with the same matplotlib. Logs are called by what
their paths do not share.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

from matplotlib import rc_context, rcdefaults, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from curriculum.errors import ConfigError, DataError
from pipeline.page.theme import PALETTE, RC, SERIES, STAND_INS
from pipeline.stability_axes import along, scale, set_along
from pipeline.stability_curves import Points, above_0, alone, divergences, finite, names, points, thinned
from pipeline.stability_logs import Run

_DAY = {STAND_INS[name]: day for name, (day, _) in PALETTE.items()}
_WIDTH = 9.0
_TITLES = {
    "loss": "loss of the step",
    "loss_ratio": "loss ratio: loss / lowest loss before",
    "variance_l1": "Adam's variance, L1 norm",
    "variance_sqrt_l1": "square root of Adam's variance, L1 norm",
    "variance_max": "Adam's variance, largest element",
    "variance_sqrt_max": "square root of Adam's variance, largest element",
    "grad_norm": "gradient norm, before clipping",
    "seq_len": "tokens in a row",
}
_LINES = (("-", "o", "x"), ("--", "s", "+"), (":", "^", "X"), ("-.", "D", "P"))
"""Of the first runs, as many as there are colours; of those after them; and so on: line, signs of validation and
divergence."""
_SHORT = 40
"""Characters of names of which two fit side by side."""
MOST_RUNS = len(SERIES) * len(_LINES)


def draw_stability(runs: Sequence[Run], kind: str, over: str | None = None) -> bytes:
    """The picture, `kind` "svg" or "png", `over` "steps" or "tokens", None for what suits the runs.

    Raises:
        ConfigError: there are more logs than can be told apart.
        DataError: there is nothing to draw, or no tokens to draw it over.
    """
    settings: Any = {name: _DAY.get(value, value) if isinstance(value, str) else value for name, value in RC.items()}
    settings |= {"figure.facecolor": PALETTE["paper"][0], "savefig.facecolor": PALETTE["paper"][0]}
    settings |= {"svg.hashsalt": "curriculum-stability", "font.size": 9.0, "lines.linewidth": 1.3}
    settings |= {"axes.titlesize": 9.5, "axes.labelsize": 9.0, "axes.titlecolor": PALETTE["ink"][0]}
    with rc_context():
        rcdefaults()
        rcParams.update(settings)
        file = BytesIO()
        metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        stability_figure(runs, over).savefig(file, format=kind, metadata=metadata, dpi=150)
    return file.getvalue()


def stability_figure(runs: Sequence[Run], over: str | None = None) -> Figure:
    """A panel for each measure that a log has.

    Raises:
        ConfigError, DataError: as `draw_stability`.
    """
    if len(runs) > MOST_RUNS:
        raise ConfigError(
            f"--plot: {len(runs)} logs, of which a picture tells {MOST_RUNS} apart; draw fewer at a time."
        )
    place = along(runs, over)
    curves = {key: [points(run, key, place) for run in runs] for key in _TITLES}
    validations = [points(run, "validation_loss", place) for run in runs]
    diverged = [divergences(run, place) for run in runs]
    keys = [key for key, of_runs in curves.items() if any(of_runs)]
    if "loss" not in keys and (any(validations) or any(diverged)):
        keys.insert(0, "loss")
    if not keys:
        raise DataError(f"{runs[0].log}: no value in it is finite and could be drawn; leave --plot away.")
    heights = [1.3 if key == "loss" else 1.0 for key in keys]
    labels = names([run.log for run in runs])
    columns = 2 if len(runs) >= 5 and max(map(len, labels)) <= _SHORT else 1
    legend_height = 0.2 * -(-len(runs) // columns)
    figure = Figure(figsize=(_WIDTH, 1.0 + 1.25 * sum(heights) + legend_height), layout="constrained")
    all_axes = figure.subplots(len(keys), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    for key, axes in zip(keys, all_axes, strict=True):
        drawn, marked = curves[key], validations if key == "loss" else []
        title, signs = _loss_title(drawn, marked, diverged) if key == "loss" else (_TITLES[key], [])
        if scale(axes, key, [value for curve in drawn + marked for value in finite(curve)]):
            drawn, marked = ([above_0(curve) for curve in some] for some in (drawn, marked))
            signs.append("0 and less: left out")
        axes.set_title(f"{title} ({', '.join(signs)})" if signs else title)
        _lines(axes, drawn, _stairs(place) if key == "seq_len" else "default")
        if key == "loss":
            _marks(axes, marked, diverged)
        if key == "loss_ratio":
            axes.axhline(1.0, color=PALETTE["soft"][0], linewidth=1, linestyle=":")
    set_along(all_axes[-1], runs, place)
    if len(runs) > 1:
        handles = [all_axes[0].plot([], [], **_look(number))[0] for number in range(len(runs))]
        figure.legend(handles, labels, loc="outside upper left", ncols=columns, handlelength=3)
    return figure


def _lines(axes: Axes, of_runs: list[Points], drawstyle: str) -> None:
    for number, curve in enumerate(of_runs):
        few = thinned(curve)
        axes.plot(
            [step for step, _ in few],
            [value for _, value in few],
            drawstyle=drawstyle,
            alpha=0.85 if len(of_runs) > 1 else 1.0,
            marker=".",
            markevery=alone(few),  # a line needs two
            **_look(number),
        )


def _stairs(place: str) -> str:
    """A step is counted as it begins, its tokens as it ends."""
    return "steps-pre" if place == "tokens" else "steps-post"


def _marks(axes: Axes, validations: list[Points], diverged: list[list[int]]) -> None:
    """Validations, and steps that diverged, at the upper edge."""
    for number, (validated, steps) in enumerate(zip(validations, diverged, strict=True)):
        signs: Any = {"color": _look(number)["color"], "linestyle": "none"}
        if validated:
            few = thinned(validated, 100)
            axes.plot(
                [step for step, _ in few],
                [value for _, value in few],
                marker=_LINES[number // len(SERIES)][1],
                markersize=3.5,
                markeredgecolor=PALETTE["paper"][0],
                markeredgewidth=0.5,
                clip_on=False,
                zorder=3,
                **signs,
            )
        if steps:
            shown = [step for step, _ in thinned([(step, 0.0) for step in steps], 100)]
            axes.plot(
                shown,
                [0.97] * len(shown),
                marker=_LINES[number // len(SERIES)][2],
                transform=axes.get_xaxis_transform(),
                clip_on=False,
                **signs,
            )


def _loss_title(curves: list[Points], validations: list[Points], diverged: list[list[int]]) -> tuple[str, list[str]]:
    """Of the panel, and what its signs are."""
    no_curve = any(validations) and not any(curves)
    signs = ["marks: validation"] if any(validations) and not no_curve else []
    signs += ["crosses: NaN or infinite"] if any(diverged) else []
    return "validation loss" if no_curve else _TITLES["loss"], signs


def _look(number: int) -> dict[str, Any]:
    """Of the lines of a run."""
    return {"color": PALETTE[SERIES[number % len(SERIES)]][0], "linestyle": _LINES[number // len(SERIES)][0]}
