"""The build: how long each stage took."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.page.inline_svg import draw
from pipeline.page.theme import STAND_INS


def draw_build(stages: Sequence[tuple[str, float]], label: str) -> str:
    """The figure, of (name, seconds)."""

    def paint(figure: Figure, narrow: bool) -> None:
        axes = figure.subplots()
        places = range(len(stages))
        axes.barh(places, [seconds for _, seconds in stages], height=0.62, color=STAND_INS["blue"])
        axes.set_yticks(places, [name for name, _ in stages])
        axes.tick_params(axis="y", labelcolor=STAND_INS["ink"], labelsize=12)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", visible=True)
        axes.xaxis.set_major_locator(MaxNLocator(4 if narrow else 8))
        axes.margins(x=0.2 if narrow else 0.1)
        for place, (_, seconds) in enumerate(stages):
            axes.annotate(duration(seconds), (seconds, place), xytext=(5, 0), textcoords="offset points", va="center")
        axes.set_xlabel("seconds")

    return draw("build", label, 70 + 30 * len(stages), paint)


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 120:
        return f"{seconds:,.3g} s" if seconds < 99.5 else f"{seconds:,.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
