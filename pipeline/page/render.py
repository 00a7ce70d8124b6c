"""The page as text.

In:  `Page`.   Out: HTML with everything inside it.
Guarantee: whatever is not our own (names, texts, numbers of a manifest) is escaped by the template engine, which does
that with every value; only figures and the style, which are made here, go in as they are. No script, and a policy that
forbids any; no address of anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from pipeline.counted import counted
from pipeline.page.facts import Fact
from pipeline.page.figures import PageFigure
from pipeline.page.number_tables import Table
from pipeline.page.place import GENERATOR
from pipeline.page.sample_rows import SampleStep
from pipeline.page.theme import variables
from pipeline.rebuild_command import Rebuild

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """All that is on a page."""

    name: str
    lede: str
    alerts: Sequence[str]
    cards: Sequence[Fact]
    figures: Sequence[PageFigure]
    sources: Table | None
    steps: Sequence[SampleStep]
    row_notes: Sequence[str]
    targets: str
    """name of the labels of a batch"""
    about: Sequence[Fact]
    rebuild: Rebuild
    identity: Sequence[Fact]
    lineage: Sequence[tuple[str, str]]


def render(page: Page) -> str:
    """The HTML."""
    titles = [(figure.key, figure.title) for figure in page.figures]
    contents = [*titles, ("rows", "Rows, decoded"), ("use", "How to use it"), ("identity", "Identity")]
    values: dict[str, Any] = {name: getattr(page, name) for name in page.__slots__}
    values["figures"] = [_figure(figure) for figure in page.figures]
    values["sources"] = None if page.sources is None else _table(page.sources)
    return _template().render(
        **values,
        contents=contents,
        counted=counted,
        generator=GENERATOR,
        day=Markup(variables(by_night=False)),
        night=Markup(variables(by_night=True)),
        style=Markup((TEMPLATES / "style.css").read_text("utf-8")),
    )


@cache
def _template() -> Template:
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("page.html")


def _figure(figure: PageFigure) -> dict[str, Any]:
    return {
        "key": figure.key,
        "title": figure.title,
        "caption": figure.caption,
        "svg": Markup(figure.svg),  # matplotlib escapes text, `inline_svg` the label
        "table": _table(figure.table),
    }


def _table(table: Table) -> dict[str, Any]:
    """With the columns whose values are numbers, which stand to the right."""
    columns = range(1, len(table.columns))
    numbers = [n for n in columns if all(_is_numeric(row[n]) for row in table.rows)]
    return {"columns": table.columns, "rows": table.rows, "facts": table.keys, "note": table.note, "numbers": numbers}


def _is_numeric(cell: int | str) -> bool:
    return isinstance(cell, int) or not cell.strip("<> %.,0123456789")
