"""Text of a corpus as pieces that a page can show: nothing in it acts, nothing in it hides.

In:  any text.   Out: `Piece`s: plain text, which the template escapes, and signs for what would be invisible.
Guarantee: plain pieces hold printable characters, tabs and line breaks alone: no control characters, no marks that turn
the direction of a line, none of no width. Every character of the text is in exactly one piece.

    "a\\x1b[2J\\u202ebc"      a, sign U+001B, [2J, sign U+202E, bc
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

KEPT = "\n\t "


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Some text."""

    text: str
    is_sign: bool = False
    """stands for a character that is not shown"""


def pieces_of(text: str) -> tuple[Piece, ...]:
    """The pieces, in order; a line break is a sign and itself."""
    found: list[Piece] = []
    for shown, run in groupby(text, lambda char: char in "\t " or (char.isprintable() and char != "\n")):
        if shown:
            found.append(Piece(text="".join(run)))
            continue
        for char in run:
            found.append(Piece(text=sign(char), is_sign=True))
            if char == "\n":
                found.append(Piece(text="\n"))
    return tuple(found)


def sign(char: str) -> str:
    """What stands for a character: its number, but for the end of a line. (Few fonts have the pictures of U+2400.)"""
    if char == "\n":
        return "↵"
    return f"U+{ord(char):04X}"


def visible(text: str) -> str:
    """The same as one plain text, for names."""
    return "".join(piece.text for piece in pieces_of(text) if piece.text != "\n")
