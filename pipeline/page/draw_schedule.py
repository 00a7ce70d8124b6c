"""The schedule: row length over steps, planned and ideal, and below it what a step trains."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from curriculum.plan import Plan
from pipeline.page.curve import Stairs, curve_of
from pipeline.page.ideal import ideal_lengths
from pipeline.page.inline_svg import draw, legend_above, short, thousands
from pipeline.page.theme import STAND_INS

IDEAL_POINTS = 300
LOGARITHMIC = 64
"""Lengths that come back and differ by this factor are told apart on a logarithmic axis alone."""


def draw_schedule(plan: Plan, label: str) -> str:
    """The figure."""

    def paint(figure: Figure, narrow: bool) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        _lengths(upper, plan, narrow)
        _tokens(lower, plan)
        lower.xaxis.set_major_locator(MaxNLocator(4 if narrow else 8, integer=True))
        lower.xaxis.set_major_formatter(FuncFormatter(lambda step, _: short(step)))
        lower.set_xlabel("step")
        lower.set_xlim(0, plan.total_steps)

    return draw("schedule", label, 400, paint)


def is_logarithmic(plan: Plan) -> bool:
    """Whether the vertical axis is: growth by factors, or lengths far apart that come back."""
    lengths = [phase.seq_len for phase in plan.phases]
    factors = plan.schedule["name"] in ("exponential", "doubling") or plan.mode == "document"
    return factors or (ideal_lengths(plan.schedule, np.ones(1)) is None and max(lengths) >= LOGARITHMIC * min(lengths))


def _lengths(axes: Axes, plan: Plan, narrow: bool) -> None:
    blue = STAND_INS["blue"]
    curve = curve_of([(plan.phases[phase].seq_len, steps) for phase, steps in plan.order])
    if is_logarithmic(plan):
        axes.set_yscale("log", base=2)
    if isinstance(curve, Stairs):
        axes.stairs(curve.values, curve.edges, baseline=None, color=blue, linewidth=2, label="planned", zorder=3)
        low = 1 if is_logarithmic(plan) else 0
        axes.fill_between(
            curve.edges, low, [*curve.values, curve.values[-1]], step="post", color=blue, alpha=0.12, linewidth=0
        )
    else:
        middle = (curve.edges[1:] + curve.edges[:-1]) / 2
        axes.stairs(
            curve.high,
            curve.edges,
            baseline=curve.low,
            fill=True,
            facecolor=blue,
            alpha=0.2,
            linewidth=0,
            label="range",
        )
        axes.plot(middle, curve.mean, color=blue, label="mean")
    built = plan.total_steps - sum(phase.num_steps for phase in plan.phases[len(plan.phases) - plan.num_extensions :])
    at = np.linspace(1, built, IDEAL_POINTS)
    ideal = ideal_lengths(plan.schedule, at)
    if ideal is not None:
        axes.plot(at - 1, ideal, color=STAND_INS["orange"], linewidth=7, alpha=0.5, label="ideal", zorder=2)
    if plan.num_extensions:
        axes.axvline(built, color=STAND_INS["soft"], linewidth=1, linestyle=":")
        axes.text(
            built, 0.06, "extended ", transform=axes.get_xaxis_transform(), ha="right", va="bottom", fontsize=11,
            rotation=90,
        )  # fmt: skip
    shortest = min(phase.seq_len for phase in plan.phases)
    axes.set_ylim(
        *((shortest / 1.3, plan.max_seq_len * 1.15) if is_logarithmic(plan) else (0, plan.max_seq_len * 1.06))
    )
    thousands(axes)
    axes.minorticks_off()
    axes.set_title("tokens in a row" + (", in powers of two" if is_logarithmic(plan) and not narrow else ""))
    legend_above(axes)


def _tokens(axes: Axes, plan: Plan) -> None:
    teal = STAND_INS["teal"]
    curve = curve_of([(plan.phases[phase].tokens_per_step, steps) for phase, steps in plan.order])
    if isinstance(curve, Stairs):
        values, edges = curve.values, curve.edges
        axes.fill_between(edges, 0, [*values, values[-1]], step="post", color=teal, alpha=0.3, linewidth=0)
        axes.stairs(values, edges, baseline=None, color=teal, linewidth=1.5)
    else:
        middle = (curve.edges[1:] + curve.edges[:-1]) / 2
        axes.stairs(curve.high, curve.edges, baseline=curve.low, fill=True, facecolor=teal, alpha=0.3, linewidth=0)
        axes.plot(middle, curve.mean, color=teal, linewidth=1.5)
    axes.set_ylim(0, max(plan.tokens_per_step) * 1.1)
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    thousands(axes)
    axes.set_title("tokens in a step (a global batch)")
