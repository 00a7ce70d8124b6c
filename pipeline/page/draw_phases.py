"""Phases: how many steps each has, and how many tokens it trains."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from curriculum.plan import Plan
from pipeline.page.groups import group_starts, group_sums, shown_ticks
from pipeline.page.inline_svg import draw, short, thousands
from pipeline.page.theme import STAND_INS

FAR_APART = 20
"""Numbers further apart than this need a logarithmic axis for the smaller ones to be seen."""
MANY_BARS = 80
"""From here on bars have no gaps."""


def draw_phases(plan: Plan, label: str, what: str) -> str:
    """The figure; `what` the tokens are: trained tokens, or slots."""
    starts = group_starts(len(plan.phases))
    steps = group_sums([phase.num_steps for phase in plan.phases], starts)
    tokens = group_sums([phase.num_tokens for phase in plan.phases], starts)

    def paint(figure: Figure, narrow: bool) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True)
        _bars(upper, steps, "steps", STAND_INS["blue"], narrow)
        _bars(lower, tokens, what, STAND_INS["teal"], narrow)
        label_phases(lower, plan, starts, narrow)

    return draw("phases", label, 360, paint)


def label_phases(axes: Axes, plan: Plan, starts: list[int], narrow: bool) -> None:
    """Row lengths below the bars of the phases, as many as there is room for."""
    count = len(starts) - 1
    ticks = shown_ticks(count, 5 if narrow else 11)
    # Of several phases in a bar the first, but at the end of the axis the last one of all.
    phases = [starts[place] if place < count - 1 else len(plan.phases) - 1 for place in ticks]
    axes.set_xticks(ticks, [f"{plan.phases[phase].seq_len:,}" for phase in phases])
    axes.set_xlim(-0.6, count - 0.4)
    axes.set_xlabel("tokens in a row, phase by phase")


def bars(values: list[int], floor: float, width: float) -> Path:
    """All bars as one path: a page of a thousand shapes is ten times as large."""
    points, codes = [], []
    for place, value in enumerate(values):
        left, right = place - width / 2, place + width / 2
        points += [(left, floor), (left, value), (right, value), (right, floor), (left, floor)]
        codes += [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    return Path(points, codes)


def _bars(axes: Axes, values: list[int], what: str, colour: str, narrow: bool) -> None:
    far = max(values) > FAR_APART * min(values)
    width = 0.78 if len(values) < MANY_BARS else 1.0
    floor = 10 ** (len(str(min(values))) - 1) * 0.5 if far else 0
    axes.add_patch(PathPatch(bars(values, floor, width), facecolor=colour, linewidth=0))
    if far:
        axes.set_yscale("log")
    axes.set_ylim(floor, max(values) * (3 if far else 1.15))
    axes.minorticks_off()
    thousands(axes)
    axes.set_title(what + (" (logarithmic axis)" if far else ""))
    if len(values) <= (6 if narrow else 12):
        for place, value in enumerate(values):
            axes.annotate(
                short(value),
                (place, value),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=11,
            )
