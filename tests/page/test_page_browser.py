"""The page in a real browser, from a file: it asks for nothing, runs nothing, and can be read by everybody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from page.chromium import Browser, Tab
from page.conftest import MadePage
from page.plans import plan_of, use_of_rows
from pipeline.page.build_facts import BuildFacts
from pipeline.page.figures import build_figure, mixture_figure
from pipeline.page.render import TEMPLATES

COLOURS = """
(() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const over = (top, under) => top.length < 4 ? top : [0, 1, 2].map((k) => top[k] * top[3] + under[k] * (1 - top[3]));
  const light = (c) => {
    const [r, g, b] = c.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    let above = [];
    for (let e = element; e; e = e.parentElement) {
      const colour = rgb(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) above.push(colour);
    }
    return above.reverse().reduce((under, top) => over(top, under), [255, 255, 255]);
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
    const style = getComputedStyle(element), svg = element.closest("svg");
    const ink = over(rgb(svg ? style.fill : style.color), ground(element));
    const [a, b] = [light(ink), light(ground(element))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), walker.currentNode.data.slice(0, 40), style.opacity]);
  }
  return found;
})()
"""
FOCUSED = """
(() => {
  const e = document.activeElement, style = getComputedStyle(e);
  const outline = style.outlineStyle != "none" && parseFloat(style.outlineWidth);
  return [e.tagName, e.className, e.getAttribute("href"), outline];
})()
"""

OVERLAPS = """
[...document.querySelectorAll("svg")].filter((e) => e.checkVisibility()).flatMap((svg) => {
  const texts = [...svg.querySelectorAll("text")].map((e) => [e.textContent, e.getBoundingClientRect()]);
  return texts.flatMap(([one, a], k) => texts.slice(k + 1)
    .filter(([, b]) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
      && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4)
    .map(([other]) => [one, other]));
})
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One for the module."""
    with Browser.start(tmp_path_factory.mktemp("chromium")) as started:
        yield started


def opened(browser: Browser, made: MadePage, **options: Any) -> Tab:
    """The page from its file."""
    return browser.page(made.path.as_uri(), **options)


@pytest.mark.parametrize("name", ["plain", "hostile", "mixture", "part"])
def test_it_asks_for_nothing_and_nothing_runs(browser: Browser, pages: dict[str, MadePage], name: str) -> None:
    """One request, for the file itself; no message in the console, no violation of the policy, no dialog."""
    tab = opened(browser, pages[name])
    tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    requests = [one["request"]["url"] for one in tab.happened("Network.requestWillBeSent")]
    assert [url for url in requests if not url.startswith("data:")] == [pages[name].path.as_uri()]
    told = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Page.javascriptDialogOpening")
    assert tab.happened(*told, "Audits.issueAdded") == []
    assert tab.evaluate("document.scripts.length + document.images.length") == 0
    assert tab.evaluate("document.compatMode") == "CSS1Compat"
    tab.close()


def test_a_script_in_the_file_would_not_run(browser: Browser, pages: dict[str, MadePage]) -> None:
    """The policy alone is enough, should something ever escape the escaping; and this test would notice."""
    path = pages["plain"].path.with_name("broken.html")
    evil = "<script>document.title = 'ran'</script><img src='https://192.0.2.1/x' onerror='document.title = 1'></body>"
    path.write_text(pages["plain"].html.replace("</body>", evil), "utf-8")
    tab = browser.page(path.as_uri())
    assert tab.evaluate("document.title") == "dataset: a compiled sequence-length curriculum"
    assert len(tab.happened("Log.entryAdded")) == 3
    tab.close()


@pytest.mark.parametrize("name", ["plain", "hostile", "mixture"])
def test_the_numbers_in_the_browser_are_the_manifests(browser: Browser, pages: dict[str, MadePage], name: str) -> None:
    """What people see in the tables, digit by digit."""
    made = pages[name]
    tab = opened(browser, made)
    tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    rows = "[...document.querySelectorAll('#%s details:first-of-type tbody tr')]"
    cells = f"{rows}.map((row) => [...row.cells].map((cell) => cell.innerText))"
    shown = tab.evaluate(cells % "phases")
    assert [[int(cell.replace(",", "")) for cell in row[:5]] for row in shown] == [
        [number, phase.seq_len, phase.rows_per_step, phase.num_steps, phase.num_tokens]
        for number, phase in enumerate(made.manifest.plan.phases)
    ]
    numbers = [int(row[1].replace(",", "")) for row in tab.evaluate(cells % "flow")]
    assert numbers == list(made.manifest.accounting.to_json().values())
    written = tab.evaluate("document.querySelector('#flow svg').textContent")
    assert f"{made.manifest.accounting.trained_tokens:,}" in written
    tab.close()


@pytest.mark.parametrize("name", ["hostile", "mixture"])
def test_text_can_be_read_by_day_and_by_night(browser: Browser, pages: dict[str, MadePage], name: str) -> None:
    """Every visible text, figures included, has a contrast of 4.5 and more; the themes are different ones."""
    grounds = []
    for theme in ("light", "dark"):
        tab = opened(browser, pages[name], theme=theme)
        tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        found = tab.evaluate(COLOURS)
        assert len(found) > 200
        assert [one for one in found if one[0] < 4.5 or one[2] != "1"] == []
        grounds.append(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
        tab.close()
    assert grounds == ["rgb(252, 251, 249)", "rgb(18, 20, 23)"]


@pytest.mark.parametrize("name", ["hostile", "mixture"])
def test_a_phone_shows_all_of_it(browser: Browser, pages: dict[str, MadePage], name: str) -> None:
    """At 390 pixels the page never scrolls sideways, figures have a variant of their own, text in it is 11 or more."""
    tab = opened(browser, pages[name], width=390, height=844)
    tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    assert tab.evaluate("window.innerWidth") == 390
    shown = tab.evaluate(
        "[...document.querySelectorAll('svg')].filter((e) => e.checkVisibility()).map((e) => e.className.baseVal)"
    )
    assert shown == ["narrow"] * len(pages[name].result.figures)
    sizes = tab.evaluate(
        "[...document.querySelectorAll('svg.narrow text')].map((e) => parseFloat(getComputedStyle(e).fontSize) * "
        "e.ownerSVGElement.getBoundingClientRect().width / e.ownerSVGElement.viewBox.baseVal.width)"
    )
    assert min(sizes) > 10.9
    outside = tab.evaluate(
        "[...document.querySelectorAll('svg.narrow text')].filter((e) => { const r = e.getBoundingClientRect(); "
        "return r.left < 0 || r.right > 390.5; }).map((e) => e.textContent)"
    )
    assert outside == []
    tab.close()


def test_figures_have_no_text_on_text(browser: Browser, pages: dict[str, MadePage]) -> None:
    """Labels of one figure never cover each other, in either variant, of any dataset."""
    for name in ("plain", "hostile", "mixture"):
        for width in (1100, 390):
            tab = opened(browser, pages[name], width=width)
            assert tab.evaluate(OVERLAPS) == [], (name, width)
            tab.close()


def test_a_legend_has_room_for_every_source(browser: Browser, tmp_path: Path) -> None:
    """Eight sources with long names, seven of which have no row in the last phase; seconds of a fast build."""
    names = tuple(f"{k}-{'m' * 30}" for k in range(8))
    use = use_of_rows(plan_of((8, 3), (16, 3)), names, [(3, *(1,) * 7), (10, *(0,) * 7)])
    fast = build_figure(BuildFacts(stages=(("cut", 0.0126), ("plan", 0.00128)), lines=()))
    style = (TEMPLATES / "style.css").read_text("utf-8")
    head = f"<!doctype html><meta name='viewport' content='width=device-width'><style>{style}</style>"
    (tmp_path / "figures.html").write_text(f"{head}<main>{mixture_figure(use).svg}{fast.svg}</main>", "utf-8")
    for width in (1100, 390):
        tab = browser.page((tmp_path / "figures.html").as_uri(), width=width)
        assert tab.evaluate(OVERLAPS) == []
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        assert tab.evaluate(
            """[...document.querySelectorAll("svg")].filter((e) => e.checkVisibility()).every((svg) => {
                 const room = svg.getBoundingClientRect();
                 return [...svg.querySelectorAll("text")].map((e) => e.getBoundingClientRect())
                   .every((box) => box.left >= room.left - 1 && box.right <= room.right + 1
                     && box.top >= room.top - 1 && box.bottom <= room.bottom + 1);
               })"""
        )
        tab.close()


def test_a_keyboard_is_enough(browser: Browser, pages: dict[str, MadePage]) -> None:
    """Tab goes to the link over the head, every link, every table and text that scrolls; Enter opens the numbers."""
    tab = opened(browser, pages["plain"])
    visited = []
    for _ in range(400):
        tab.press("Tab")
        tag, style, href, outline = tab.evaluate(FOCUSED)
        if tag == "BODY":
            break
        assert float(outline) >= 2, (tag, style)
        visited.append((tag, style, href))
        if tag == "SUMMARY":
            tab.press("Enter")
            assert tab.evaluate("document.activeElement.parentElement.open") is True
    assert visited[0] == ("A", "skip", "#main")
    count = "document.querySelectorAll(%r).length"
    assert sum(tag == "SUMMARY" for tag, *_ in visited) == tab.evaluate(count % "summary")
    regions = sum(style in ("scroll", "text") for _, style, _ in visited)
    assert regions == tab.evaluate(count % ".scroll, .text") > 10
    scrolling = (
        "[...document.querySelectorAll('*')].filter((e) => e.checkVisibility() && e.scrollWidth > e.clientWidth + 1 "
        "&& ['auto', 'scroll'].includes(getComputedStyle(e).overflowX) && e.tabIndex != 0 "
        "&& e != document.documentElement).length"
    )
    assert tab.evaluate(scrolling) == 0
    tab.close()


def test_paper_shows_the_numbers_too(browser: Browser, pages: dict[str, MadePage]) -> None:
    """Printed from a dark screen it is dark on light, and nothing is folded away."""
    tab = opened(browser, pages["plain"], theme="dark")
    assert not tab.evaluate("document.querySelector('table').checkVisibility()")
    tab.call("Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(252, 251, 249)"
    assert tab.evaluate(
        "[...document.querySelectorAll('table')].every((e) => e.checkVisibility({ contentVisibilityAuto: true }))"
    )
    tab.close()
