"""Where each token went: bars and ribbons, as wide as they have tokens."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from curriculum.accounting import Accounting
from curriculum.manifest import SourceEntry
from pipeline.page.flow import PADDING, REPEATED, Flow, Link, Node, lay_out_flow
from pipeline.page.inline_svg import NARROW, WIDE, draw, short
from pipeline.page.label_places import spread
from pipeline.page.theme import STAND_INS

COLOURS = {
    "trained": "blue",
    "truncated": "red",
    "validation": "violet",
    "unused": "grey",
    "padding": "orange",
    "repeated": "olive",
    "corpus": "steel",
    "read": "steel",
}
HEIGHT, MARGIN, GAP, BAR, LINE = 320.0, 18.0, 16.0, 12.0, 34.0


def draw_flow(accounting: Accounting, sources: Sequence[SourceEntry], label: str) -> str:
    """The figure."""
    flow = lay_out_flow(accounting, sources, height=HEIGHT - 2 * MARGIN, gap=GAP)

    def paint(figure: Figure, narrow: bool) -> None:
        width = NARROW if narrow else WIDE
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, width)
        axes.set_ylim(HEIGHT, 0)
        left, right = (96, 126) if narrow else (146, 168)
        columns = [left + (width - left - right - BAR) * k / (flow.num_columns - 1) for k in range(flow.num_columns)]
        for link in flow.links:
            _ribbon(axes, flow, link, columns)
        for node in flow.nodes:
            place = (columns[node.column], node.top + MARGIN)
            hatch = "////" if node.key == PADDING else None
            face = "none" if hatch else _colour(node)
            axes.add_patch(
                Rectangle(place, BAR, node.height, facecolor=face, edgecolor=_colour(node), hatch=hatch, linewidth=0.8)
            )
        _labels(axes, flow, 0, columns[0] - 8, narrow)
        _labels(axes, flow, flow.num_columns - 1, columns[-1] + BAR + 8, narrow)

    return draw("flow", label, HEIGHT, paint)


def percent_of(tokens: int, whole: int) -> str:
    """A share that is never rounded to nothing or to everything."""
    share = 100 * tokens / max(1, whole)
    if 0 < share < 0.01:
        return "< 0.01 %"
    if 99.99 < share < 100:
        return "> 99.99 %"
    return f"{share:.2f} %" if share < 10 else f"{share:.1f} %"


def _colour(node: Node) -> str:
    return STAND_INS[COLOURS.get(node.key, "steel")]


def _ribbon(axes: Axes, flow: Flow, link: Link, columns: Sequence[float]) -> None:
    source, target = flow.nodes[link.source], flow.nodes[link.target]
    x0, x1 = columns[source.column] + BAR, columns[target.column]
    middle = (x0 + x1) / 2
    a, b, high = link.source_top + MARGIN, link.target_top + MARGIN, link.height
    points = [(x0, a), (middle, a), (middle, b), (x1, b), (x1, b + high), (middle, b + high), (middle, a + high)]
    codes = [Path.MOVETO, *[Path.CURVE4] * 3, Path.LINETO, *[Path.CURVE4] * 3, Path.CLOSEPOLY]
    path = Path([*points, (x0, a + high), (x0, a)], codes)
    end = source if target.key == "read" else target
    axes.add_patch(PathPatch(path, facecolor=_colour(end), alpha=0.28, linewidth=0))


def _labels(axes: Axes, flow: Flow, column: int, x: float, narrow: bool) -> None:
    """Beside the bars of the first or the last column: name, tokens, share of the corpus."""
    align = "left" if column else "right"
    nodes = [node for node in flow.nodes if node.column == column]
    wanted = [node.top + node.height / 2 + MARGIN for node in nodes]
    # Tokens of padding are no part of the corpus, and those read again are there already.
    whole = sum(node.tokens for node in flow.nodes if node.column == 0 and node.key != REPEATED)
    for node, y in zip(nodes, spread(wanted, LINE, LINE / 2, HEIGHT - LINE / 2), strict=True):
        has_share = node.key != PADDING and node.tokens != whole
        name, number = cut(node.label, 12 if narrow else 18), f"{node.tokens:,}"
        if narrow and len(number) > 13:
            number = short(node.tokens)
        if has_share and narrow and column:
            name += f" {percent_of(node.tokens, whole)}"
        elif has_share and not narrow:
            number += f" · {percent_of(node.tokens, whole)}"
        axes.text(x, y - 1, name, ha=align, va="bottom", fontsize=12, fontweight="bold")
        axes.text(x, y + 1, number, ha=align, va="top", fontsize=12, color=STAND_INS["soft"])


def cut(name: str, most: int) -> str:
    """A name in so many characters."""
    return name if len(name) <= most else f"{name[: most - 1]}…"
