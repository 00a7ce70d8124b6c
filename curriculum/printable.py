"""Text that somebody else wrote, as it may stand in a sentence or on a terminal.

In:  text, or a value of a JSON file, of any size.   Out: a short text of printable characters.
Guarantee: nothing that a terminal could act on or that is invisible is left: control characters, escape sequences and
marks that turn the direction of writing are written as escapes. `shown` takes no longer for a value of a gigabyte.

    printable_text("a\\x1b[2Jb")     a\\x1b[2Jb, nine visible characters        shown("x" * 10**9)     'xxx...
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Any

MOST_SHOWN = 80
"""Characters of a value in a message."""
_MOST_ITEMS = 9
_MOST_BITS = 256
_USER = re.compile(r"(?<!hf)://[^/\s@'\"<>]+@")


def printable_text(text: str) -> str:
    """The text with everything that a terminal could act on, or that is invisible, written as an escape."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def one_line(said: object, most: int = 300) -> str:
    """What a library said about a file, which may quote it: its first line, printable and not too long."""
    text = str(said).strip().partition("\n")[0]
    return printable_text(text if len(text) <= most else f"{text[:most]}...")


def shown(value: Any, most: int = MOST_SHOWN) -> str:
    """The `repr` of a value of a JSON file, cut; escapes what is not printable, as `repr` does."""
    text = repr(_cut(value, most, 2))
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _cut(value: Any, most: int, depth: int) -> Any:
    """Enough of a value to fill a message."""
    if isinstance(value, str):
        return value[:most]
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, list | tuple):
        items = [_cut(item, most, depth - 1) if depth else ... for item in value[:_MOST_ITEMS]]
        return items if len(value) <= _MOST_ITEMS else [*items, ...]
    if isinstance(value, dict):
        chosen = islice(value.items(), _MOST_ITEMS)
        return {key[:most]: _cut(item, most, depth - 1) if depth else ... for key, item in chosen}
    return value


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def without_user(text: str) -> str:
    """A text whose addresses hold no name and password: HF_ENDPOINT and the like may, and clients repeat them."""
    return _USER.sub("://", text)
