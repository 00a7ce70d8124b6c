"""The picture of a schedule shows what the plan says, and is the same on every machine.

One pixel is a step and a token here wherever numbers are compared: nothing is rounded, so the plan is read back.
"""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from curriculum.document_plan import DocumentCurriculum, compile_document_plan
from curriculum.extension import extend_plan
from curriculum.plan import Batch, Budget, Plan, compile_plan
from curriculum.schedule import Pacing, parse_phases
from pipeline.schedule_picture import schedule_in_words, schedule_picture

SVG = "{http://www.w3.org/2000/svg}"


def phases(text: str, multiple_of: int = 1) -> Plan:
    return compile_plan(pacing=parse_phases(text, multiple_of), warmup=None, batch=Batch(rows=2), budget=Budget())


def path_of(plan: Plan, kind: str) -> str:
    """The outline of the shape of that class."""
    tree = ElementTree.fromstring(schedule_picture(plan))
    return next(str(shape.get("d")) for shape in tree.iter(f"{SVG}path") if shape.get("class") == kind)


def test_a_small_schedule_is_a_literal_line() -> None:
    """84 to 684 are 600 steps, 248 up to 24 are 224 tokens."""
    assert path_of(phases("56:300,112:150,224:150"), "l") == "M84.0 192.0V192.0H384.0V136.0H534.0V24.0H684.0"


@pytest.mark.parametrize(
    "text", ["224:600", "1:1,224:599", "3:7,9:100,224:93,9:400", ",".join(f"{n}:2" for n in range(1, 225)) + ",224:152"]
)
def test_the_line_can_be_read_back(text: str) -> None:
    """Growing, coming back, one length, 224 phases."""
    plan = phases(text)
    levels = re.findall(r"V([\d.]+)H([\d.]+)", path_of(plan, "l"))
    ends = [0, *(float(x) - 84 for _, x in levels)]
    runs = [(248 - float(y), stop - first) for (y, _), (first, stop) in zip(levels, pairwise(ends), strict=True)]
    assert runs == [(plan.phases[phase].seq_len, steps) for phase, steps in plan.order]


def test_of_runs_that_nobody_could_follow_the_mean_and_the_ends_are_shown() -> None:
    """Columns of five pixels: five steps here."""
    plan = phases(",".join(["10:3,20:1,30:1"] * 119 + ["10:3,20:1,224:1"]))
    means = path_of(plan, "l").removeprefix("M").replace("H684", "").replace("L", " ").split(" ")
    assert means[:2] == ["84.0", "232.0"]  # (3 * 10 + 20 + 30) / 5 = 16
    assert means[-1] == "193.2"  # (30 + 20 + 224) / 5 = 54.8
    bars = re.findall(r"M([\d.]+) ([\d.]+)V([\d.]+)H", path_of(plan, "f"))
    assert bars[0] == ("84.0", "238.0", "218.0")
    assert bars[-1] == ("679.0", "238.0", "24.0")
    assert len(bars) == 120
    assert b"band: their shortest and longest rows" in schedule_picture(plan)


def test_an_extension_is_marked_where_it_begins() -> None:
    plan = extend_plan(extend_plan(phases("112:300,224:100"), 50), 150)
    tree = ElementTree.fromstring(schedule_picture(plan))
    marks = [str(shape.get("d")) for shape in tree.iter(f"{SVG}path") if shape.get("class") == "e"]
    assert marks == ["M484.0 16V248", "M534.0 16V248"]
    assert [text.text for text in tree.iter(f"{SVG}text")].count("extended") == 1
    assert path_of(plan, "l").endswith("V24.0H684.0")


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (phases("8:1"), "1 steps in 1 phase: 8 tokens per row, at all steps"),
        (phases("8:100,16:50"), "150 steps in 2 phases: 8 to 16 tokens per row, growing"),
        (phases("8:100,16:50,8:2000"), "2,150 steps in 2 phases: 8 to 16 tokens per row, going up and down"),
        (
            extend_plan(phases("8:100,16:50"), 7),
            "157 steps in 3 phases, the last 1 of them added to a finished run: 8 to 16 tokens per row, growing",
        ),
    ],
)
def test_who_does_not_see_it_is_told(plan: Plan, words: str) -> None:
    """A screen reader reads title and description; the card has the words as the text of the picture."""
    assert schedule_in_words(plan) == words
    tree = ElementTree.fromstring(schedule_picture(plan))
    assert tree.get("role") == "img"
    assert [(child.tag, child.text) for child in list(tree)[:2]] == [
        (f"{SVG}title", "Row length by step"),
        (f"{SVG}desc", f"{words}."),
    ]


def test_it_stays_small_and_asks_for_nothing_from_outside() -> None:
    """However many phases or runs; and colours follow light and dark."""
    long = Pacing(name="linear", start_length=8, max_length=8 * 20_000)
    curriculum = DocumentCurriculum(name="natural", start_length=2, max_length=1024)
    rows = dict.fromkeys(curriculum.lengths, 2_000)
    for plan in (
        compile_plan(pacing=long, warmup=2**40, batch=Batch(rows=1), budget=Budget(steps=2**41)),
        compile_document_plan(curriculum=curriculum, rows_by_length=rows, batch=Batch(rows=1)),
        phases(",".join(f"{n}:1" for n in range(1, 1_501))),
    ):
        picture = schedule_picture(plan)
        assert len(picture) < 60_000
        assert b"prefers-color-scheme:dark" in picture
        assert re.search(rb"<script|href|url\(|@import|http(?!://www.w3.org/2000/svg)", picture) is None
