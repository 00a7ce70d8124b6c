"""A picture of a tune: the perplexity of every probe, and what each candidate came to.

In:  a `TuneResult`, whose probes of other bounds are left out.   Out: an SVG file's text.
Where a probe fluctuated is its sign; if it diverged there, at the upper edge, and its line is dotted up to it. Probes
whose signs are in one place have one text, such as "1, 2, 3": at a rate that is too high all may diverge at once.
Guarantee: matplotlib loads here alone, with none of people's own settings; equal results are equal text.
"""

from __future__ import annotations

from io import StringIO
from math import inf, isfinite
from typing import Any

from matplotlib import rc_context, rcdefaults
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from pipeline.tuning.fluctuation import Verdict
from pipeline.tuning.result import JudgedProbe, TuneResult

COLOURS = {Verdict.STEADY: "#0f7b71", Verdict.AT_THE_BEGINNING: "#c93a3a", Verdict.LATER: "#b3580a"}
MARKERS = {Verdict.STEADY: "o", Verdict.AT_THE_BEGINNING: "X", Verdict.LATER: "s"}
"""Signs, so that nobody needs the colour."""
SETTINGS: Any = {"svg.hashsalt": "curriculum-tune", "svg.fonttype": "none", "text.parse_math": False}


class _Plain(LogFormatter):
    """Numbers as in the table; between powers of ten only where there are few of these."""

    def __call__(self, value: float, position: int | None = None) -> str:
        return f"{value:,.5g}" if super().__call__(value, position) else ""


def draw_tune(result: TuneResult) -> str:
    """The picture as the text of a file."""
    with rc_context():
        rcdefaults()
        with rc_context(SETTINGS):
            file = StringIO()
            tune_figure(result).savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()


def tune_figure(result: TuneResult) -> Figure:
    """The perplexities, and below them the candidates."""
    figure = Figure(figsize=(9, 7), layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=(3, 2))
    _perplexities(upper, result)
    _candidates(lower, result)
    return figure


def _perplexities(axes: Axes, result: TuneResult) -> None:
    axes.set_yscale("log")  # first: signs at the edge are no data that it could be chosen by
    numbers: dict[tuple[float, float], list[int]] = {}
    for number, probe in enumerate(result.probes, start=1):
        seen = [one for one in probe.run.evaluations if isfinite(one.perplexity)]
        steps, values = [one.step for one in seen], [one.perplexity for one in seen]
        colour = COLOURS[probe.judgement.verdict]
        axes.plot(steps, values, color=colour, linewidth=1.2, alpha=0.8)
        numbers.setdefault(_end(probe), []).append(number)
        _mark(axes, probe)
    for (step, perplexity), those in numbers.items():
        at_edge = perplexity == inf
        axes.annotate(
            ", ".join(map(str, those)),
            (step, 1.0 if at_edge else perplexity),
            (5, -12 if at_edge else 4),
            xycoords=axes.get_xaxis_transform() if at_edge else axes.transData,
            textcoords="offset points",
            color=COLOURS[result.probes[those[0] - 1].judgement.verdict],
            fontsize=8,
        )
    axes.axvline(result.rule.beginning_steps, color="#83878f", linewidth=1, linestyle=":")
    axes.yaxis.set_major_formatter(_Plain())
    axes.yaxis.set_minor_formatter(_Plain())
    axes.set_xlim(0, result.rule.probe_steps)
    axes.set_xlabel("step (left of the line: the very beginning)")
    what = "validation perplexity at full length, of each probe; at the upper edge: it diverged"
    axes.set_title(what, loc="left", fontsize=10, pad=9)


def _decided(probe: JudgedProbe) -> int:
    """Which validation the verdict rests on, or the last one."""
    seen = probe.run.evaluations
    return next((i for i, one in enumerate(seen) if one.step == probe.judgement.step), len(seen) - 1)


def _end(probe: JudgedProbe) -> tuple[float, float]:
    """Step and perplexity where its number stands; infinite at the upper edge."""
    one = probe.run.evaluations[_decided(probe)]
    return one.step, one.perplexity if isfinite(one.perplexity) else inf


def _mark(axes: Axes, probe: JudgedProbe) -> None:
    """The sign of what its verdict rests on."""
    judgement, decided = probe.judgement, _decided(probe)
    if judgement.step is None:
        return
    colour, coords, (x, y) = COLOURS[judgement.verdict], axes.transData, _end(probe)
    if y == inf:
        y, coords = 1.0, axes.get_xaxis_transform()
        if decided:
            last = probe.run.evaluations[decided - 1]
            line = {"arrowstyle": "-", "linestyle": ":", "color": colour, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", (x, y), (last.step, last.perplexity), xycoords=coords, textcoords="data", arrowprops=line)
    axes.plot(x, y, marker=MARKERS[judgement.verdict], color=colour, transform=coords, clip_on=False)


def _candidates(axes: Axes, result: TuneResult) -> None:
    shown: set[Verdict] = set()
    for number, probe in enumerate(result.probes, start=1):
        verdict = probe.judgement.verdict
        label = None if verdict in shown else verdict.value
        shown.add(verdict)
        at = (probe.candidate.length_warmup_steps, probe.candidate.start_length)
        axes.plot(*at, marker=MARKERS[verdict], color=COLOURS[verdict], linestyle="none", label=label)
        axes.annotate(str(number), at, xytext=(4, 4), textcoords="offset points", fontsize=8)
    if result.found is not None:
        at = (result.found.length_warmup_steps, result.found.start_length)
        axes.plot(*at, marker="o", markersize=16, markerfacecolor="none", color=COLOURS[Verdict.STEADY])
    axes.set_yscale("log", base=2)
    axes.set_yticks(_starts(result.probes), [f"{start:,}" for start in _starts(result.probes)])
    axes.minorticks_off()
    axes.margins(0.1, 0.3)
    axes.set_xlabel("steps of the length warmup")
    axes.set_title("start length of each candidate, as numbered", loc="left", fontsize=10)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, fontsize=8, frameon=False)


def _starts(probes: tuple[JudgedProbe, ...]) -> list[int]:
    return sorted({probe.candidate.start_length for probe in probes})
