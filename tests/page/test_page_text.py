"""Text of others on the page: shown as it is, harmless whatever it is."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.page.build_facts import BuildFacts, build_facts
from pipeline.page.sample_documents import documents_in
from pipeline.page.theme import PALETTE, SERIES, STAND_INS, SYMBOLS, TINTS, with_variables
from pipeline.page.visible_text import Piece, pieces_of, visible

ANY_TEXT = st.text(st.characters())  # lone surrogates, control characters, marks of direction and all


def test_signs_by_hand() -> None:
    """An escape sequence, a mark that turns the line around, NUL, no width, a private character; lines end visibly."""
    assert [piece.text for piece in pieces_of("a\x1b[2J\u202ebc")] == ["a", "U+001B", "[2J", "U+202E", "bc"]
    assert [piece.text for piece in pieces_of("\0\u200b\ue000\x7f\ud800")] == [
        "U+0000",
        "U+200B",
        "U+E000",
        "U+007F",
        "U+D800",
    ]
    assert pieces_of("\ta\n") == (Piece(text="\ta"), Piece(text="↵", is_sign=True), Piece(text="\n"))
    assert pieces_of("العربية 日本 é 👍") == (Piece(text="العربية 日本 é 👍"),)
    assert visible("a\nb\u202e") == "a↵bU+202E"


@given(ANY_TEXT)
def test_every_character_is_shown_once_and_none_acts(text: str) -> None:
    """Pieces read back are the text; what is not a sign is visible, a tab, a space or a line break."""
    back = ""
    for piece in pieces_of(text):
        if not piece.is_sign:
            assert all(
                char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn")
                for char in piece.text
            )
            back += piece.text
        elif piece.text != "↵":
            back += chr(int(piece.text[2:], 16))
    assert back == text


class Letters:
    """A tokenizer whose ids are code points; those above are 50,000 letters each."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text."""
        assert not skip_special_tokens, "what a model is given is shown, special tokens too"
        return "".join(map(self.id_to_token, ids))

    def id_to_token(self, id: int) -> str:
        """One of them."""
        return "w" * 50_000 if id == 0x10FFFF else chr(id)


def test_long_documents_have_a_beginning_and_an_end() -> None:
    """How much is not shown is exact; EOS is a sign of its own; no row makes a page of megabytes."""
    (one,) = documents_in(Letters(), [(7, [*map(ord, "a" * 5_000 + "z"), 0])], eos=0)
    assert (one.number, one.num_tokens, one.has_eos) == (7, 5_002, True)
    assert (len(one.head[0].text), one.hidden, len(one.tail[0].text)) == (480, 5_001 - 480 - 240, 240)
    assert one.tail[0].text.endswith("az")
    (huge,) = documents_in(Letters(), [(0, [0x10FFFF] * 100)], eos=0)
    assert sum(len(piece.text) for piece in (*huge.head, *huge.tail)) < 6_000
    assert huge.hidden == 98
    short, empty = documents_in(Letters(), [(3, [97, 98]), (4, [0])], eos=0)
    assert (short.head, short.hidden, short.tail, short.has_eos) == ((Piece(text="ab"),), 0, (), False)
    assert (empty.head, empty.hidden, empty.has_eos) == ((), 0, True)
    assert short.symbol != empty.symbol


def test_a_build_log_is_believed_where_it_is_sane() -> None:
    """It may be edited, of another release or of a stranger: wrong types are left out, and no path is shown."""
    good = {
        "seconds": {"cut": 0.5, "tokenize": 2},
        "workers": 2,
        "mb_per_second": 1.5,
        "host": "secret",
        "store": "/home/me",
    }
    assert build_facts(good) == BuildFacts(
        stages=(("tokenize", 2.0), ("cut", 0.5)), lines=(("text, all stages together", "1.5 MB/s"), ("workers", "2"))
    )
    for bad in (
        None,
        {},
        {"seconds": 5},
        {"seconds": {"cut": "1"}},
        {"seconds": {"cut": True}},
        {"seconds": {"cut": 0}},
    ):
        assert build_facts(bad) is None
    odd = {
        "seconds": {"cut": 1, "<b>": 1, "x" * 99: 1, "nan": float("nan"), "inf": float("inf"), "minus": -1},
        "workers": [1],
        "backend": "\u202eevil" * 99,
        "versions": {"numpy": 3, "pyarrow": "<script>"},
    }
    facts = build_facts(odd)
    assert facts is not None
    assert facts.stages == (("cut", 1.0),)
    assert dict(facts.lines)["versions"] == "pyarrow <script>"
    assert "\u202e" not in dict(facts.lines)["encoder"]


VALUES = st.none() | st.booleans() | st.floats() | st.text(max_size=5)


@settings(max_examples=50)
@given(VALUES | st.dictionaries(st.text(max_size=9), VALUES, max_size=3))
def test_no_build_log_stops_the_page(value: object) -> None:
    """Whatever is in it."""
    build_facts({"seconds": value, "workers": value, "backend": value, "versions": value, "text_bytes": value})


def contrast(one: str, other: str) -> float:
    """Of two colours, as WCAG 2 has it: 1 to 21."""

    def luminance(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["day", "night"])
def test_everything_can_be_seen_in_both_themes(theme: int) -> None:
    """Text has a contrast of 4.5 and more on whatever it stands on, bars and ribbons' edges 3."""
    colour = {name: of[theme] for name, of in PALETTE.items()}
    for ground in ("paper", "card"):
        for ink in ("ink", "soft", "accent"):
            assert contrast(colour[ink], colour[ground]) >= 4.5, (ink, ground)
        for shape in (*SERIES, "grey"):
            assert contrast(colour[shape], colour[ground]) >= 3, (shape, ground)
    for name in SERIES:  # the names beside a mixture have the colours of their sources
        assert contrast(colour[name], colour["paper"]) >= 4.5, name
    assert all(contrast(colour["ink"], tint[theme]) >= 7 for tint in TINTS)
    assert all(contrast(colour["soft"], tint[theme]) >= 4.5 for tint in TINTS)
    assert len({tint[theme] for tint in TINTS}) == len(set(SYMBOLS)) == len(TINTS)


def test_stand_ins_become_the_colours_of_the_page() -> None:
    """One figure serves both themes."""
    assert len(set(STAND_INS.values())) == len(PALETTE)
    assert with_variables('style="fill: #010205"') == 'style="fill: var(--ink)"'
