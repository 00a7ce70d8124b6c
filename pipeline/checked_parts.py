"""Which parts of a token store were read and found sound, so that a rerun need not read terabytes again.

In:  the store.   Out: `CheckedParts`: sizes and stamps of the files of a part when its digests were last compared.
Guarantee: a part is believed only while both of its files have the size and the stamp (on a disk inode, modification
and change time) of then; a copy of a store, whose inodes and times differ, is read again, once. The file is only a
memory: without it, or with a damaged one, everything is read again.

    STORE/checked.json     {"parts": {"3f9c0c...e1": [[8192, "71:1700...:1700..."], [1776, "72:1700...:1700..."]]}}

What this cannot see: bytes that change below the file system, without a write. Delete `checked.json` to have every
digest compared again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import orjson

from curriculum.errors import BuildError
from pipeline.files.contract import FileFacts, Files
from pipeline.layout import read_object, write_bytes
from pipeline.store_names import CHECKED

FORMAT = "curriculum-checked-parts"
WRITE_SECONDS = 60.0
"""A killed run forgets what it learned since; writing a million parts takes about a second."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PartFacts:
    """The files of a part without reading them."""

    tokens: FileFacts
    index: FileFacts


class CheckedParts:
    """The memory of a store; belongs to the process that holds the store."""

    def __init__(self, store: Files) -> None:
        self._store = store
        self._parts = _read(store)
        self._changed = False
        self._written_at = time.monotonic()

    def leading(self, parts: Iterable[str]) -> tuple[PartFacts, ...]:
        """What was found when parts were last checked, up to the first that was not."""
        return tuple(takewhile(lambda facts: facts is not None, map(self._parts.get, parts)))  # type: ignore[arg-type]

    def note(self, part: str, facts: PartFacts | None) -> None:
        """Remember a part that is sound; written to the store now and then."""
        if facts is None or self._parts.get(part) == facts:
            return
        self._parts[part] = facts
        self._changed = True
        if time.monotonic() - self._written_at > WRITE_SECONDS:
            self.write()

    def write(self) -> None:
        """Keep what was learned; a store that cannot be written will say so elsewhere."""
        if not self._changed:
            return
        parts = {name: [_plain(facts.tokens), _plain(facts.index)] for name, facts in self._parts.items()}
        value = {"format": FORMAT, "version": 1, "parts": parts}
        try:
            write_bytes(self._store, CHECKED, orjson.dumps(value, option=orjson.OPT_SORT_KEYS))
        except BuildError:
            return
        self._changed = False
        self._written_at = time.monotonic()


def _plain(facts: FileFacts) -> list[Any]:
    return [facts.num_bytes, facts.stamp]


def _read(store: Files) -> dict[str, PartFacts]:
    value = read_object(store, CHECKED) or {}
    if value.get("format") != FORMAT or value.get("version") != 1:
        return {}
    try:
        parts = value["parts"].items()
        return {name: PartFacts(tokens=_facts(tokens), index=_facts(index)) for name, (tokens, index) in parts}
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        return {}


def _facts(plain: list[Any]) -> FileFacts:
    num_bytes, stamp = plain
    if not (isinstance(num_bytes, int) and isinstance(stamp, str) and stamp):
        raise ValueError
    return FileFacts(num_bytes=num_bytes, stamp=stamp)
