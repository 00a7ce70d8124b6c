"""A figure of matplotlib as SVG inside a page.

In:  a `Figure`, a name for it, a label for screen readers.
Out: one `<svg>` element: text as text in the page's font, colours of the page, as wide as there is room.
Guarantee: ids are only what is referred to, and begin with the name, so that figures do not share any; no metadata, no
times, no style for anything outside; equal figures are equal text. What people read, in it and as its label, is to the
byte what was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape
from io import StringIO
from typing import Any

from matplotlib import rc_context, rcdefaults, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from pipeline.page.theme import RC, STAND_INS, with_variables

WIDE, NARROW = 760, 358
"""Of a figure, in pixels of CSS: on a screen, and on a phone of 390 less its margins."""


def draw(name: str, label: str, height: float, paint: Callable[[Figure, bool], None]) -> str:
    """Both variants of a figure, of which the page shows one: `paint(figure, narrow)` draws on an empty one."""
    variants = []
    for variant, width in (("wide", WIDE), ("narrow", NARROW)):
        settings: Any = {**RC, "svg.hashsalt": f"{name}-{variant}"}
        with rc_context():
            rcdefaults()  # what people have set for plots of their own stays out
            rcParams.update(settings)
            layout = ConstrainedLayoutEngine(w_pad=2 / 72, h_pad=4 / 72)
            figure = Figure(figsize=(width / 72, height / 72), layout=layout)
            paint(figure, variant == "narrow")
            file = StringIO()
            figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
        variants.append(_inline(file.getvalue(), f"{name}-{variant}", label, variant))
    return "".join(variants)


def legend_above(axes: Axes) -> None:
    """Above the right end of the axes, beside the title, where no line of the figure is."""
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=3,
        labelcolor=STAND_INS["ink"],
        columnspacing=1.4,
        handlelength=1.6,
    )


def thousands(axes: Axes) -> None:
    """Numbers of the vertical axis as people write them."""
    axes.yaxis.set_major_formatter(lambda value, _: short(value))


def short(value: float) -> str:
    """12,500 as 12.5k; for axes, where there is little room."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / min(size, 1e3 if unit == 'k' else size):.3g}{unit}"
    return f"{value:,.6g}"


def _inline(svg: str, prefix: str, label: str, variant: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    view = re.search(r'viewBox="[^"]*"', svg)
    assert view is not None
    head = (
        f'<svg class="{variant}" role="img" aria-label="{escape(label)}" {view[0]} xmlns="http://www.w3.org/2000/svg">'
    )
    # < and > stand around tags alone: in texts and in values of attributes matplotlib escapes them.
    between, *rest = re.split(r"(<[^<>]*>)", svg[svg.index(">") + 1 :])
    tags, texts = rest[::2], rest[1::2]
    used = set(re.findall(r'(?:xlink:href="|url\()#([^")]+)', "".join(tags)))
    body = [
        _tag(tag, prefix, used) + (text if tag.startswith("<text") else "")
        for tag, text in zip(tags, texts, strict=True)
    ]
    assert not between.strip()
    return head + "".join(body)


def _tag(tag: str, prefix: str, used: set[str]) -> str:
    """A tag in the colours of the page, as short as it can be. Nothing of this is done to what people read."""
    tag = re.sub(r"\s+", " ", tag)
    tag = re.sub(r' id="([^"]*)"', lambda found: f' id="{prefix}-{found[1]}"' if found[1] in used else "", tag)
    tag = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{prefix}-\1"', tag)
    tag = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", tag)
    tag = re.sub(r"font: (?:(\w+) )?([\d.]+)px [^;\"]*", _font, tag)  # of matplotlib before 3.11
    tag = re.sub(r"font-family: [^;\"]*;? ?", "", tag)
    tag = re.sub(r' (?:d|x|y|width|height|transform|points)="[^"]*"', _short_numbers, tag)
    return with_variables(tag)


def _short_numbers(geometry: re.Match[str]) -> str:
    """Hundredths of a pixel are enough."""
    return re.sub(r"(\.\d\d)\d+", r"\1", geometry[0])


def _font(found: re.Match[str]) -> str:
    """Size and weight; the family is the page's."""
    weight = f"font-weight: {found[1]}; " if found[1] else ""
    return f"{weight}font-size: {found[2]}px"
