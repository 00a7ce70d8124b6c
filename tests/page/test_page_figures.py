"""What figures say in words: names, numbers and captions that people would believe."""

from __future__ import annotations

import re
from fractions import Fraction
from html import unescape
from typing import Any

import pytest
from matplotlib.backends.backend_svg import RendererSVG

from curriculum.budget import Budget
from curriculum.plan import Plan, compile_plan
from curriculum.request import Batch
from curriculum.schedule import Pacing
from page.plans import plan_of, use_of_rows
from pipeline.counted import counted
from pipeline.page.build_facts import BuildFacts
from pipeline.page.facts import growth, growth_title
from pipeline.page.figures import PageFigure, build_figure, mixture_figure, schedule_figure

NAMES = ("v1.23456", "v1.23499", 'x="1.23456" #010203')
"""Of sources that differ behind the second place of decimals, or look like what a figure is made of."""


def drawn() -> list[PageFigure]:
    """Three figures."""
    plan = plan_of((8, 3), (16, 3))
    return [
        schedule_figure(plan),
        mixture_figure(use_of_rows(plan, NAMES, [(5, 3, 2), (2, 3, 5)])),
        build_figure(BuildFacts(stages=(("cut", 0.0126), ("plan", 0.00128)), lines=())),
    ]


def texts_in(svg: str) -> list[str]:
    """As a browser reads them."""
    return [unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]


def test_people_read_what_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sources web-2.1234 and web-2.1299 were both web-2.12 in the figure, and 0.00128 s were 0.00 s."""
    asked: list[str] = []
    draw_text = RendererSVG.draw_text

    def noted(self: RendererSVG, gc: Any, x: float, y: float, s: str, *rest: Any, **more: Any) -> None:
        asked.append(s)
        draw_text(self, gc, x, y, s, *rest, **more)

    monkeypatch.setattr(RendererSVG, "draw_text", noted)
    figures = drawn()
    shown = [text for figure in figures for text in texts_in(figure.svg)]
    assert shown == asked
    assert {"v1.23456", "v1.23499", "0.00128 s"} <= set(shown)
    (label,) = {unescape(found) for found in re.findall(r'aria-label="([^"]*)"', figures[2].svg)}
    assert label == "Bar chart of the seconds of 2 stages. 0.0139 s in all."


def test_figures_are_in_the_font_of_the_page_and_short() -> None:
    """Places are hundredths of a pixel; no text has a font of its own."""
    for figure in drawn():
        assert "font-family" not in figure.svg
        tags = re.findall(r"<[^<>]*>", figure.svg)
        assert not [tag for tag in tags if re.search(r' (?:d|x|y|transform)="[^"]*\.\d{3}', tag)]


def grown(top: int, *, tokens: int, frac: str, max_shapes: int | None) -> Plan:
    """A linear warmup from 8."""
    return compile_plan(
        pacing=Pacing(name="linear", start_length=8, max_length=top, multiple_of=8),
        warmup=Fraction(frac),
        batch=Batch(rows=16),
        budget=Budget(tokens=tokens),
        max_shapes=max_shapes,
    )


def test_growth_is_that_of_the_rows() -> None:
    """A budget of shapes moves the end: a run of 63 steps told of growth over its first 96."""
    few = grown(256, tokens=200_000, frac="1", max_shapes=2)
    assert (few.total_steps, few.schedule["length_warmup_steps"]) == (63, 96)
    assert [(phase.seq_len, phase.num_steps) for phase in few.phases] == [(8, 15), (256, 48)]
    assert growth(few) == "Rows grow from 8 to 256 tokens (linear); they have 256 from step 15 on."
    for frac in ("0.3", "0.5", "1"):
        plan = grown(64, tokens=60_000, frac=frac, max_shapes=None)
        said = growth(plan)
        first = int(said.removesuffix(" on.").rpartition(" ")[2])
        lengths = [plan.phases[plan.locate(step)[0]].seq_len for step in range(plan.total_steps)]
        assert (lengths[first - 1] < 64, set(lengths[first:])) == (True, {64})


def test_stretches_of_equal_length_differ_from_their_neighbours() -> None:
    """An extension goes on at the last length, and weights listed one by one make phases of one length."""
    up_and_down = plan_of(*[(8, 10), (64, 10), (8, 5), (32, 5), (64, 9), (8, 3)], *[(64, 1)] * 3, extensions=3)
    assert growth(up_and_down) == "Rows have 8 to 64 tokens, in 7 stretches of equal length."
    assert growth_title(up_and_down) == schedule_figure(up_and_down).title == "How row length changes"
    listed = plan_of((8, 3), (8, 3), (16, 2), (16, 4))
    assert growth(listed) == (
        "Rows grow from 8 to 16 tokens in 2 stretches of equal length; they have 16 from step 6 on."
    )
    assert growth_title(listed) == "How row length grows"
    flat = plan_of((64, 3), (64, 1))
    assert (growth(flat), growth_title(flat)) == ("All rows have 64 tokens.", "How long rows are")


def places_of(svg: str, names: tuple[str, ...]) -> dict[str, set[str]]:
    """Whether the names stand at the left or at the right of the wide variant."""
    wide = svg[: svg.index('<svg class="narrow"')]
    found: dict[str, set[str]] = {name: set() for name in names}
    for tag, text in re.findall(r"<text([^>]*)>([^<]*)</text>", wide):
        if text in found:
            place = re.search(r' x="([\d.]+)|translate\(([\d.]+)', tag)
            assert place is not None
            found[text].add("beside" if float(place[1] or place[2]) > 600 else "above")
    return found


def test_nobody_is_named_beside_the_bar_of_another() -> None:
    """After an extension by new text, old sources have nothing at the right end, where names would stand."""
    plan, names = plan_of((8, 3), (16, 3), (16, 2), extensions=1), ("web", "new")
    mixed = mixture_figure(use_of_rows(plan, names, [(7, 3), (6, 4), (5, 5)]))
    assert places_of(mixed.svg, names) == {"web": {"beside"}, "new": {"beside"}}
    extended = mixture_figure(use_of_rows(plan, names, [(10, 0), (10, 0), (0, 10)]))
    assert places_of(extended.svg, names) == {"web": {"above"}, "new": {"above"}}


def test_one_thing_is_not_several() -> None:
    """In captions and labels; the numbers 0 and 1,000 have an s."""
    plan = plan_of((8, 1))
    assert 'aria-label="Line chart of row length and of tokens in a step over 1 step. ' in schedule_figure(plan).svg
    mixed = mixture_figure(use_of_rows(plan, ("web", "new"), [(5, 5)]))
    assert 'aria-label="Stacked bars of 2 sources in 1 phase. ' in mixed.svg
    assert [counted(number, "row") for number in (0, 1, 2, 1_000)] == ["0 rows", "1 row", "2 rows", "1,000 rows"]
