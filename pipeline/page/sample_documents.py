"""What a row holds of each document, as text that can be shown.

In:  the ids of each document in a row, a tokenizer.
Out: `SampleDocument`s: pieces of visible text, the beginning and, of a long one, the end.
Guarantee: at most `MOST_CHARACTERS` of a row, decoded from no more ids than give that many; how many tokens are not
shown is exact. A text may begin or end inside a character, which then shows as U+FFFD.

    40 ids, room for 8 characters       "def ma" ... 37 tokens ... "ne)" EOS
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.page.theme import SYMBOLS
from pipeline.page.visible_text import Piece, pieces_of

MOST_CHARACTERS = 720
LEAST_CHARACTERS = 120
"""Of a document, if a row has many."""


class Decoder(Protocol):
    """What is asked of a tokenizer."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str: ...
    def id_to_token(self, id: int) -> str | None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleDocument:
    """What a row holds of a document, or of a piece of one."""

    number: int
    """its ordinal in the stream"""
    symbol: str
    tint: int
    """background, told apart in both themes; the symbol says the same"""
    num_tokens: int
    head: tuple[Piece, ...]
    hidden: int
    """tokens between head and tail that are not shown"""
    tail: tuple[Piece, ...]
    has_eos: bool


def documents_in(
    tokenizer: Decoder, documents: Sequence[tuple[int, Sequence[int]]], eos: int
) -> tuple[SampleDocument, ...]:
    """The documents of a row, given as (ordinal, ids)."""
    most = max(LEAST_CHARACTERS, MOST_CHARACTERS // max(1, len(documents)))
    found = []
    for place, (number, ids) in enumerate(documents):
        has_eos = bool(ids) and ids[-1] == eos
        text = ids[: len(ids) - has_eos]
        first = _count(tokenizer, text, most)
        stop = len(text)
        if first < stop:  # not all: two thirds from the beginning, one from the end
            first = _count(tokenizer, text, most * 2 // 3)
            stop -= _count(tokenizer, reversed(text[first:]), most // 3)
        found.append(
            SampleDocument(
                number=number,
                symbol=SYMBOLS[place % len(SYMBOLS)],
                tint=place % len(SYMBOLS),
                num_tokens=len(ids),
                head=_decoded(tokenizer, text[:first], most),
                hidden=stop - first,
                tail=_decoded(tokenizer, text[stop:], most),
                has_eos=has_eos,
            )
        )
    return tuple(found)


def _count(tokenizer: Decoder, ids: Iterable[int], most: int) -> int:
    """How many of the first ids stand for so many characters: one token may stand for any number."""
    count = characters = 0
    for token in ids:
        characters += len(tokenizer.id_to_token(token) or " ")
        if characters > most and count:
            break
        count += 1
    return count


def _decoded(tokenizer: Decoder, ids: Sequence[int], most: int) -> tuple[Piece, ...]:
    """Text of ids; a single token of more characters than that, and nothing else, is cut."""
    text = tokenizer.decode(list(ids), skip_special_tokens=False) if ids else ""
    return pieces_of(text if len(text) <= 4 * most else f"{text[: 4 * most]}…")
