"""What strangers wrote, in messages and on terminals."""

from __future__ import annotations

from time import process_time

import pytest

from curriculum.printable import one_line, printable_text, shown
from pipeline.progress import Terminal

ACTS_ON_A_TERMINAL = "".join(map(chr, [*range(32), *range(127, 160), 0x200E, 0x202E, 0x2066, 0x2028, 0xFEFF, 0xE0041]))
"""Control characters of both sets, marks of direction, separators, what is invisible."""


def test_nothing_that_a_terminal_acts_on_is_left() -> None:
    assert printable_text("a\x1b[2Jb") == r"a\x1b[2Jb"
    assert printable_text("é 日本 \U0001f600") == "é 日本 \U0001f600"
    for text in (
        printable_text(ACTS_ON_A_TERMINAL),
        shown(ACTS_ON_A_TERMINAL, 10_000),
        one_line(f"x{ACTS_ON_A_TERMINAL}"),
    ):
        assert text.isprintable()
    assert printable_text(ACTS_ON_A_TERMINAL).count("\\") == len(ACTS_ON_A_TERMINAL)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x" * 10**8, f"'{'x' * 76}..."),
        ([0] * 10**7, "[0, 0, 0, 0, 0, 0, 0, 0, 0, Ellipsis]"),
        ([["y" * 10**8] * 3] * 3, None),
        ({"a" * 10**8: 1}, None),
        (dict.fromkeys(range(0), 1), "{}"),
        (10**5000, "'a number of 16610 bits'"),
        (-7, "-7"),
        (None, "None"),
        (True, "True"),
        (1e308, "1e+308"),
    ],
    ids=["string", "list", "nested", "object", "empty", "number", "small", "null", "true", "float"],
)
def test_a_value_of_any_size_is_shown_at_once(value: object, text: str | None) -> None:
    began = process_time()
    found = shown(value)
    assert process_time() - began < 0.5
    assert len(found) <= 80
    assert text in (None, found)


def test_what_a_library_says_is_one_line() -> None:
    assert one_line(ValueError(" bad\x07 thing \nmore")) == r"bad\x07 thing "
    assert len(one_line("x" * 10**6)) == 303


def test_what_is_said_on_the_way_is_printable(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().say("skipped a\x1b]0;title\x07.jsonl\nand more")
    assert capsys.readouterr().err == "skipped a\\x1b]0;title\\x07.jsonl\nand more\n"
