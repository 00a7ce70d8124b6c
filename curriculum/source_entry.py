"""One named part of the corpus, as the manifest says it.

In:  an object of `sources` in `manifest.json`, possibly damaged or hostile.   Out: `SourceEntry`.
Guarantee: every value has its type and range; whether sources fit each other is for `mixture_entry`.

    {"name": "corpus", "documents": 1837, "tokens": 8593025, "offset": 0, "weight": 1.0, "fingerprint": "eaea2260..."}
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from curriculum.json_object import JsonObject


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceEntry:
    """One named part of the corpus and its place in the stream."""

    name: str
    documents: int
    """non-empty documents, held-out ones included"""
    tokens: int
    """tokens of those documents, EOS (and BOS) included"""
    offset: int
    """stream position where the source begins"""
    weight: float
    fingerprint: str
    """of the set of (path, position, text), whatever the order"""
    validation_tokens: int | None = None
    """of `tokens`, those of held-out documents; this and the next are None, and no keys, of a single source"""
    first_document: int | None = None
    """ordinal of the source's first document, which begins at `offset`"""

    def to_json(self) -> dict[str, Any]:
        """The object of the manifest."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def read_source(o: JsonObject) -> SourceEntry:
    """Types, ranges and keys.

    Raises:
        DataError: names the first value that is not allowed.
    """
    entry = SourceEntry(
        name=o.string("name"),
        documents=o.integer("documents"),
        tokens=o.integer("tokens"),
        offset=o.integer("offset"),
        weight=o.number("weight"),
        fingerprint=o.string("fingerprint"),
        validation_tokens=o.integer("validation_tokens") if "validation_tokens" in o.raw else None,
        first_document=o.integer("first_document") if "first_document" in o.raw else None,
    )
    o.no_others()
    return entry
