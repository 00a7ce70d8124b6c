"""A picture of how stable runs were: loss, loss ratio, Adam's variance, gradient norm, and under them the row length.

In:  runs whose logs were read.   Out: the bytes of an SVG or PNG file.
Guarantees: all panels share the steps; a measure that no log has gets no panel; runs share colours across panels. Of
long runs as many steps are drawn as can be seen, the highest and lowest of neighbouring ones, so that no spike is lost.
Equal logs are equal pictures with the same matplotlib. Logs are called by what their paths do not share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from itertools import takewhile
from pathlib import Path
from typing import Any

from matplotlib import rc_context, rcdefaults, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from curriculum.errors import DataError
from curriculum.printable import printable_text
from curriculum.stability import loss_ratios
from pipeline.page.inline_svg import short, thousands
from pipeline.page.theme import PALETTE, RC, SERIES, STAND_INS
from pipeline.stability_logs import Run

COLUMNS = 600
"""Groups of neighbouring steps of a long run, of which each shows two."""
_DAY = {STAND_INS[name]: day for name, (day, _) in PALETTE.items()}
_WIDTH = 9.0
_NAME = 60
"""Characters of a name: half the width."""
_VALIDATION = "validation_loss"
_MOST, _LEAST = 3.4e38, 1e-45
"""What float32 has: a larger number in a log is none of a model, and would leave no room for the others."""
_TITLES = {
    "loss": "loss of the step (dots: validation, crosses: NaN or infinite)",
    "loss_ratio": "loss ratio: loss / lowest loss before",
    "variance_l1": "Adam's variance, L1 norm",
    "variance_max": "Adam's variance, largest element",
    "grad_norm": "gradient norm, before clipping",
    "seq_len": "tokens in a row",
}
_LOGARITHMIC = ("variance_l1", "variance_max", "grad_norm")

Points = list[tuple[int, float]]


def draw_stability(runs: Sequence[Run], kind: str) -> bytes:
    """The picture, `kind` "svg" or "png"."""
    series = {key: [_values(run, key) for run in runs] for key in _TITLES}
    keys = [key for key, of_runs in series.items() if any(of_runs) or (key == "loss" and _has_marks(runs))]
    if not keys:
        raise DataError(f"{runs[0].log}: no value in it is finite and could be drawn; leave --plot away.")
    settings: Any = {name: _DAY.get(value, value) if isinstance(value, str) else value for name, value in RC.items()}
    settings |= {"figure.facecolor": PALETTE["paper"][0], "savefig.facecolor": PALETTE["paper"][0]}
    settings |= {"svg.hashsalt": "curriculum-stability", "font.size": 9.0, "lines.linewidth": 1.3}
    settings |= {"axes.titlesize": 9.5, "axes.labelsize": 9.0, "axes.titlecolor": PALETTE["ink"][0]}
    with rc_context():
        rcdefaults()
        rcParams.update(settings)
        heights = [1.3 if key == "loss" else 1.0 for key in keys]
        figure = Figure(figsize=(_WIDTH, 1.0 + 1.25 * sum(heights) + 0.2 * len(runs)), layout="constrained")
        all_axes = figure.subplots(len(keys), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
        for key, axes in zip(keys, all_axes, strict=True):
            _panel(axes, key, series[key])
        if "loss" in keys:
            _marks(all_axes[keys.index("loss")], runs)
        _steps(all_axes[-1], runs)
        if len(runs) > 1:
            handles = [all_axes[0].plot([], [], color=_colour(number))[0] for number in range(len(runs))]
            labels = names([run.log for run in runs])
            figure.legend(handles, labels, loc="outside upper left", ncols=1 if len(runs) < 5 else 2)
        file = BytesIO()
        metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        figure.savefig(file, format=kind, metadata=metadata, dpi=150)
    return file.getvalue()


def thinned(points: Points, columns: int = COLUMNS) -> Points:
    """Of many points the lowest and the highest of each group of neighbours, in their order; few as they are."""
    if len(points) <= 2 * columns:
        return points
    kept: Points = []
    for column in range(columns):
        group = points[column * len(points) // columns : (column + 1) * len(points) // columns]
        ends = {min(group, key=lambda point: point[1]), max(group, key=lambda point: point[1])}
        kept += sorted(ends)
    return kept


def names(logs: Sequence[str]) -> list[str]:
    """Paths without the folders that all share, and with no more than the end of a long one."""
    parts = [Path(log).parts for log in logs]
    columns = zip(*(one[:-1] for one in parts), strict=False)
    shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    cut = [printable_text(str(Path(*one[shared:]))) for one in parts]
    return [name if len(name) <= _NAME else f"...{name[3 - _NAME :]}" for name in cut]


def _has_marks(runs: Sequence[Run]) -> bool:
    """Whether there is something to mark where there is no curve."""
    return any(record.get(key) is not None for run in runs for record in run.records for key in ("loss", _VALIDATION))


def _values(run: Run, key: str) -> Points:
    """Those that float32 has; on an axis that may be logarithmic, above 0."""
    values = loss_ratios(run.records) if key == "loss_ratio" else [record.get(key) for record in run.records]
    return [
        (record["step"], value)
        for record, value in zip(run.records, values, strict=True)
        if value is not None and abs(value) <= _MOST and (value >= _LEAST or key not in _LOGARITHMIC)
    ]


def _panel(axes: Axes, key: str, of_runs: list[Points]) -> None:
    style = "steps-post" if key == "seq_len" else "default"
    for number, points in enumerate(of_runs):
        few = thinned(points)
        axes.plot(
            [step for step, _ in few],
            [value for _, value in few],
            color=_colour(number),
            drawstyle=style,
            alpha=0.85 if len(of_runs) > 1 else 1.0,
            marker="." if len(points) == 1 else None,  # a line needs two
        )
    axes.set_title(_TITLES[key])
    values = [value for points in of_runs for _, value in points]
    if key in _LOGARITHMIC:
        axes.yaxis.set_major_locator(MaxNLocator(4))
        if max(values) > 100 * min(values):  # over fewer decades such an axis has hardly a number
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(numticks=5))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.3g}")
        return
    axes.yaxis.set_major_locator(MaxNLocator(4))
    if key == "loss_ratio":
        axes.axhline(1.0, color=PALETTE["soft"][0], linewidth=1, linestyle=":")
    if key == "seq_len":
        top = max(1, *values)
        axes.set_ylim(0, top * 1.08)
        if top % 4 == 0:
            axes.set_yticks([0, top / 4, top / 2, 3 * top / 4, top])
        thousands(axes)


def _marks(axes: Axes, runs: Sequence[Run]) -> None:
    """Validations, and steps whose loss is no number, at the upper edge."""
    for number, run in enumerate(runs):
        validated = thinned(_values(run, _VALIDATION), 100)
        axes.plot(
            [step for step, _ in validated],
            [value for _, value in validated],
            linestyle="none",
            marker="o",
            markersize=3.5,
            color=_colour(number),
            markeredgecolor=PALETTE["paper"][0],
            markeredgewidth=0.5,
            clip_on=not validated,  # a line of no points that is not clipped has no size to lay out
            zorder=3,
        )
        diverged = [
            record["step"]
            for record in run.records
            if record.get("loss") is not None and not math.isfinite(record["loss"])
        ]
        shown = [step for step, _ in thinned([(step, 0.0) for step in diverged], 100)]
        axes.plot(
            shown,
            [0.97] * len(shown),
            linestyle="none",
            marker="x",
            color=_colour(number),
            transform=axes.get_xaxis_transform(),
        )


def _steps(axes: Axes, runs: Sequence[Run]) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: short(step)))
    axes.set_xlabel("step")
    first = min(run.summary.first_step for run in runs)
    last = max(run.summary.last_step for run in runs)
    axes.set_xlim(first - 0.5, last + 0.5) if first == last else axes.set_xlim(first, last)


def _colour(number: int) -> str:
    return PALETTE[SERIES[number % len(SERIES)]][0]
