"""What figures say in words: names, numbers and captions that people would believe."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from matplotlib.backends.backend_svg import RendererSVG

from page.plans import plan_of, use_of_rows
from pipeline.page.build_facts import BuildFacts
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
