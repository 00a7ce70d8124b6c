"""The schedule of a dataset as a picture: row length over steps.

In:  a plan.   Out: the bytes of an SVG file, and a sentence that says the same.
Guarantee: a pure function in integers, so that equal datasets have equal pictures on every machine; no larger than
about 60 kB whatever the plan. It has no script and nothing from outside, and colours of its own for light and dark.

    8:100, 16:50      a line at 8 over two thirds of the width, a step up to 16; "150 steps, 8 to 16 tokens per row"

Of thousands of runs, as document curricula have, no line could be followed: then each column of the picture shows the
shortest and longest rows of its steps as a band, and the mean of them as the line.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from curriculum.plan import Plan
from pipeline.length_runs import Run, grows, length_runs

PICTURE_NAME = "schedule.svg"
WIDTH, HEIGHT = 720, 300
LEFT, RIGHT, TOP, BOTTOM = 84, 36, 24, 52
"""Around the plot, in pixels."""
MAX_RUNS, MAX_TURNS = 1_500, 200
"""That a line shows: of a schedule that grows, and of one that goes up and down."""
COLUMN, COLUMNS = 5, 120
"""Pixels of a column, and how many there are between LEFT and RIGHT."""
BAND = "step (line: mean of neighbouring steps, band: their shortest and longest rows)"
STYLE = """
.b{fill:#fff}.g{stroke:#d9dee4}.a{stroke:#8a94a0}.t{fill:#4a545f;font:13px system-ui,sans-serif}
.l{stroke:#2563c9}.f{fill:#2563c9;fill-opacity:.12}.e{stroke:#c2571a}.x{fill:#a5460f}
@media(prefers-color-scheme:dark){.b{fill:#14181d}.g{stroke:#2c343d}.a{stroke:#6d7884}.t{fill:#b6c0cb}
.l{stroke:#7cb0ff}.f{fill:#7cb0ff;fill-opacity:.16}.e{stroke:#f0a067}.x{fill:#f0a067}}
"""


def schedule_in_words(plan: Plan) -> str:
    """The picture for who does not see it."""
    lengths = {phase.seq_len for phase in plan.phases}
    how = "at all steps" if len(lengths) == 1 else "growing" if grows(length_runs(plan)) else "going up and down"
    ends = f"{min(lengths):,}" if len(lengths) == 1 else f"{min(lengths):,} to {max(lengths):,}"
    added = f", the last {plan.num_extensions} of them added to a finished run" if plan.num_extensions else ""
    phases = f"{len(plan.phases):,} phase{'s' * (len(plan.phases) > 1)}"
    return f"{plan.total_steps:,} steps in {phases}{added}: {ends} tokens per row, {how}"


def schedule_picture(plan: Plan) -> bytes:
    """An SVG file."""
    runs = length_runs(plan)
    draw = _Axes(plan.total_steps, plan.max_seq_len)
    is_line = len(runs) <= (MAX_RUNS if grows(runs) else MAX_TURNS)
    shapes = _line(runs, draw) if is_line else _band(_columns(runs, plan.total_steps), draw)
    words = schedule_in_words(plan)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" aria-labelledby="title desc">',
        f'<title id="title">Row length by step</title><desc id="desc">{words}.</desc>',
        f"<style>{STYLE}</style>",
        f'<rect class="b" width="{WIDTH}" height="{HEIGHT}" rx="8"/>',
        *draw.grid("step" if is_line else BAND),
        *shapes,
        *_extensions(plan, draw),
        "</svg>",
    ]
    return ("\n".join(parts) + "\n").encode()


class _Axes:
    """Steps and lengths to tenths of a pixel, written with a point."""

    def __init__(self, total_steps: int, max_seq_len: int) -> None:
        self.total_steps, self.top = total_steps, max_seq_len
        self.right, self.floor = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(self, step: int) -> str:
        return _tenths(10 * LEFT + 10 * (self.right - LEFT) * step // self.total_steps)

    def y(self, length: int, parts: int = 1) -> str:
        """Of `length / parts` tokens."""
        return _tenths(10 * self.floor - 10 * (self.floor - TOP) * length // (self.top * parts))

    def grid(self, below: str) -> list[str]:
        """Lines at round lengths, ticks at round steps, numbers and what they count."""
        lines = []
        for length in _length_ticks(self.top):
            kind = "g" if length else "a"
            lines.append(f'<path class="{kind}" d="M{LEFT} {self.y(length)}H{self.right}"/>')
            lines.append(_text(f"{LEFT - 8}", self.y(length), f"{length:,}", "end", shift=4))
        for step in _ticks(self.total_steps, 6 if self.total_steps < 10**8 else 3):
            lines.append(f'<path class="a" d="M{self.x(step)} {self.floor}v5"/>')
            lines.append(_text(self.x(step), f"{self.floor}", f"{step:,}", "middle", shift=20))
        middle, centre = (LEFT + self.right) // 2, (TOP + self.floor) // 2
        lines.append(_text(f"{middle}", f"{HEIGHT - 10}", below, "middle"))
        lines.append(
            f'<text class="t" text-anchor="middle" transform="translate(16 {centre})rotate(-90)">tokens per row</text>'
        )
        return lines


def _line(runs: Sequence[Run], draw: _Axes) -> list[str]:
    """Level, then straight up or down to the next level."""
    path = f"M{draw.x(0)} {draw.y(runs[0].seq_len)}" + "".join(
        f"V{draw.y(run.seq_len)}H{draw.x(run.stop)}" for run in runs
    )
    area = f"{path}V{draw.floor}H{LEFT}Z"
    return [f'<path class="f" d="{area}"/>', f'<path class="l" fill="none" stroke-width="2" d="{path}"/>']


def _columns(runs: Sequence[Run], total_steps: int) -> list[tuple[int, int, int, int]]:
    """(shortest, longest, sum of lengths, number of steps) of each column of the picture."""
    edges = [column * total_steps // COLUMNS for column in range(COLUMNS + 1)]
    columns, at = [], 0
    for first, stop in pairwise(edges):
        low = high = total = 0
        while at < len(runs) and runs[at].first < stop:
            run = runs[at]
            total += run.seq_len * (min(run.stop, stop) - max(run.first, first))
            low, high = min(low or run.seq_len, run.seq_len), max(high, run.seq_len)
            if run.stop > stop:
                break
            at += 1
        columns.append((low, high, total, max(1, stop - first)))
    return columns


def _band(columns: Sequence[tuple[int, int, int, int]], draw: _Axes) -> list[str]:
    """Columns of shortest to longest, and a line of means."""
    places = [_tenths(10 * LEFT + 10 * COLUMN * column) for column in range(COLUMNS + 1)]
    bars = "".join(
        f"M{place} {draw.y(low)}V{draw.y(high)}H{after}V{draw.y(low)}Z"
        for place, after, (low, high, _, _) in zip(places, places[1:], columns, strict=False)
    )
    means = [f"{place} {draw.y(total, steps)}" for place, (_, _, total, steps) in zip(places, columns, strict=False)]
    path = f"M{means[0]}L{' '.join(means[1:])}H{draw.right}"
    return [f'<path class="f" d="{bars}"/>', f'<path class="l" fill="none" stroke-width="2" d="{path}"/>']


def _extensions(plan: Plan, draw: _Axes) -> list[str]:
    """A dashed line where each extension begins; the first one is named."""
    first_step = sum(num_steps for _, num_steps in plan.order[: len(plan.order) - plan.num_extensions])
    marks = []
    for number, (_, num_steps) in enumerate(plan.order[len(plan.order) - plan.num_extensions :]):
        if number < MAX_RUNS:
            x = draw.x(first_step)
            marks.append(f'<path class="e" stroke-dasharray="4 4" d="M{x} {TOP - 8}V{draw.floor}"/>')
        if number == 0:
            end = 2 * first_step > plan.total_steps
            place = _tenths(int(x.replace(".", "")) + (-60 if end else 60))
            marks.append(_text(place, f"{draw.floor - 10}", "extended", "end" if end else "start", kind="x"))
        first_step += num_steps
    return marks


def _text(x: str, y: str, text: str, anchor: str, *, shift: int = 0, kind: str = "") -> str:
    down = f' dy="{shift}"' if shift else ""
    return f'<text class="t{f" {kind}" if kind else ""}" x="{x}" y="{y}"{down} text-anchor="{anchor}">{text}</text>'


def _tenths(value: int) -> str:
    return f"{value // 10}.{value % 10}"


def _length_ticks(top: int) -> list[int]:
    """0, the maximum and what lies evenly between: quarters if they are whole, as lengths are often powers of two."""
    if top % 4 == 0:
        return [0, top // 4, top // 2, 3 * top // 4, top]
    ticks = _ticks(top, 4)
    return ticks if ticks[-1] == top else [*(tick for tick in ticks if 10 * tick <= 9 * top), top]


def _ticks(top: int, most: int) -> list[int]:
    """0 and multiples of 1, 2 or 5 times a power of ten, up to `top`: about `most` of them."""
    size = 1
    while top > most * size:
        size = size * 5 // 2 if str(size)[0] == "2" else size * 2
    return list(range(0, top + 1, size))
