"""The mixture: what share of the tokens of each phase every source has."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from pipeline.page.draw_flow import cut
from pipeline.page.draw_phases import label_phases
from pipeline.page.groups import group_starts, group_sums
from pipeline.page.inline_svg import draw
from pipeline.page.label_places import spread
from pipeline.page.theme import SERIES, STAND_INS
from pipeline.source_use import MixtureUse

HATCHES = ("", "//", "\\\\", "--", "xx", "||", "++", "/-")
"""A second sign beside the colour, for those who do not see it."""
LABEL_GAP = 0.075


def shown_sources(use: MixtureUse) -> list[tuple[str, list[int]]]:
    """(name, trained tokens of each phase) of every source, the smallest of many as one."""
    phases = range(len(use.plan.phases))
    found = [(name, [use.trained(k, phase) for phase in phases]) for k, name in enumerate(use.names)]
    if len(found) <= len(SERIES):
        return found
    largest = sorted(range(len(found)), key=lambda k: -sum(found[k][1]))[: len(SERIES) - 1]
    rest = [found[k][1] for k in range(len(found)) if k not in largest]
    others = (f"{len(rest)} others", [sum(column) for column in zip(*rest, strict=True)])
    return [*(found[k] for k in sorted(largest)), others]


def draw_mixture(use: MixtureUse, label: str) -> str:
    """The figure."""
    starts = group_starts(len(use.plan.phases))
    sources = shown_sources(use)
    tokens = np.array([group_sums(of_phases, starts) for _, of_phases in sources], np.float64)
    shares = tokens / np.maximum(1, tokens.sum(axis=0))
    names = [name for name, _ in sources]
    has_legend = bool((shares[:, -1] == 0).any())

    def paint(figure: Figure, narrow: bool) -> None:
        axes = figure.subplots()
        edges = np.arange(shares.shape[1] + 1) - 0.5
        below = np.zeros(shares.shape[1])
        for k, of_source in enumerate(shares):
            for look in _looks(k):
                axes.stairs(below + of_source, edges, baseline=below, fill=True, linewidth=0, **look)
            below = below + of_source
        label_phases(axes, use.plan, starts, narrow)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        axes.set_title("share of the tokens of a phase")
        axes.grid(False)
        if has_legend:
            _legend(figure, names, narrow)
        else:
            _names(axes, names, shares[:, -1].tolist(), narrow)

    return draw("mixture", label, 300 + 12 * len(names) * has_legend, paint)


def _looks(k: int) -> list[dict[str, Any]]:
    """What lies over each other where a source is: its colour, and its sign."""
    colour: dict[str, Any] = {"facecolor": STAND_INS[SERIES[k]], "alpha": 0.75}
    sign = {"facecolor": "none", "edgecolor": STAND_INS["paper"], "hatch": HATCHES[k]}
    return [colour, sign] if HATCHES[k] else [colour]


def _legend(figure: Figure, names: list[str], narrow: bool) -> None:
    """Above, where a source without a row in the last phase has no place beside it; in as many columns as fit."""
    handles: Any = [tuple(Patch(linewidth=0, **look) for look in _looks(k)) for k in range(len(names))]
    for columns in (4, 3, 2, 1):
        legend = figure.legend(
            handles,
            [cut(name, 17 if narrow else 20) for name in names],
            loc="outside upper left",
            ncols=columns,
            labelcolor=STAND_INS["ink"],
            columnspacing=1.4,
            handlelength=1.6,
        )
        if legend.get_window_extent().width <= figure.bbox.width:
            break
        legend.remove()


def _names(axes: Axes, names: list[str], last: list[float], narrow: bool) -> None:
    """Beside the last phase, at the height of each source there."""
    tops = list(accumulate(last))
    wanted = [top - share / 2 for top, share in zip(tops, last, strict=True)]
    for k, (name, y) in enumerate(zip(names, spread(wanted, LABEL_GAP, LABEL_GAP / 2, 1 - LABEL_GAP / 2), strict=True)):
        axes.text(
            1.015,
            y,
            cut(name, 10 if narrow else 20),
            transform=axes.transAxes,
            va="center",
            fontsize=12,
            fontweight="bold",
            color=STAND_INS[SERIES[k]],
        )
