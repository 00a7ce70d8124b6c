"""The axes of a picture of stability: what it goes along, and how high a panel is divided.

In:  runs whose logs were read; axes of matplotlib, and the values on them.   Out: a key of records; axes that are set.
Guarantees: one spike makes no panel flat: the axis is logarithmic then, as its positive values decide. Those of 0 or
less have no place on it, which `scale` tells. Several runs are set against each other at equal tokens,
if their logs have them: at equal steps a run of shorter rows has seen less text, and looks worse than it is.

    losses 8, 4, 2, 900        logarithmic
    losses 8, 4, 0, 900        logarithmic, 0 left out
    losses 8, 4, 0, 2          linear
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from curriculum.divergence import VARIANCES
from curriculum.errors import DataError
from pipeline.page.inline_svg import short, thousands
from pipeline.stability_curves import places
from pipeline.stability_logs import Run

LABELS = {"step": "step", "tokens": "tokens trained"}
"""Of the key that records are placed by."""
_LOGARITHMIC = dict.fromkeys(("loss", "loss_ratio", "grad_norm"), 10) | dict.fromkeys(VARIANCES, 100)
"""From which largest / smallest value on. The spikes of the first leave a linear axis no room for all else; variances
begin near 0, and most of what they do is seen best on it."""


def along(runs: Sequence[Run], over: str | None) -> str:
    """The key to place records by: of `over`, or of what suits the runs: tokens for several that have them, else steps.

    Raises:
        DataError: there are to be tokens, and a log lacks them.
    """
    if over == "steps" or (over is None and len(runs) == 1):
        return "step"
    lacking = [(run.log, step) for run in runs if (step := _without_tokens(run)) is not None]
    if lacking and over is not None:
        log, step = lacking[0]
        raise DataError(
            f"--over tokens: {log} has, in step {step}, no tokens trained so far that are more than those before; give "
            f"--over steps."
        )
    return "step" if lacking else "tokens"


def _without_tokens(run: Run) -> int | None:
    """The first step without tokens, or with no more than before: other trainers may write those of the step."""
    most = -1
    for record in run.records:
        tokens = record.get("tokens")
        if tokens is None and record.get("loss") is None:  # an evaluation between logged steps
            continue
        if tokens is None or tokens <= most:
            step: int = record["step"]
            return step
        most = tokens
    return None


def set_along(axes: Axes, runs: Sequence[Run], key: str) -> None:
    """The horizontal axis: all that the runs have."""
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.set_xlabel(LABELS[key])
    spans = [places(run, key) for run in runs]
    first, last = min(span[0] for span in spans), max(span[-1] for span in spans)
    axes.set_xlim(first - 0.5, last + 0.5) if first == last else axes.set_xlim(first, last)


def scale(axes: Axes, key: str, values: Sequence[float]) -> bool:
    """The vertical axis of a measure, before anything is drawn on it; whether it has no place for some values."""
    axes.yaxis.set_major_locator(MaxNLocator(4))
    if not values:
        axes.set_yticks([])  # crosses alone
        return False
    if key == "seq_len":
        top = max(1, *values)
        axes.set_ylim(0, top * 1.08)
        if top % 4 == 0:
            axes.set_yticks([0, top / 4, top / 2, 3 * top / 4, top])
        thousands(axes)
        return False
    positive = [value for value in values if value > 0] or [1.0]
    is_logarithmic = max(positive) > _LOGARITHMIC[key] * min(positive)
    if is_logarithmic:
        axes.set_yscale("log")
        narrow = max(positive) < 100 * min(positive)  # powers of 10 would be a number or two
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,), numticks=5))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.4g}")
    return is_logarithmic and len(positive) < len(values)
