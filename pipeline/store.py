"""The token store: a corpus tokenized once, reusable by every schedule and seed.

In:  a place.   Out: a token store there, the corpora that are completely in it, or nothing of it any more.
Guarantee: a place that holds something else is not touched; what is removed is what a store consists of.

    claim_store(store)      STORE/store.json     {"format": "curriculum-token-store", "version": 1}
"""

from __future__ import annotations

from typing import Any

from curriculum.errors import BuildError
from pipeline.files.contract import Files
from pipeline.layout import read_object, write_object
from pipeline.store_names import CONTENTS, CORPORA, MARKER, STORE_ASIDE, index_name

ALGORITHM = 1
"""Raised when the same input would give other bytes; part of every fingerprint."""


def claim_store(store: Files) -> None:
    """Make a place a token store; the caller holds it.

    Raises:
        BuildError: it holds something else.
    """
    if store.facts(MARKER) is not None:
        return
    foreign = [name for name in store.children() if name != STORE_ASIDE]
    if foreign:
        raise BuildError(
            f"{store.where}: holds {foreign[0]!r} and is not a token store, so nothing in it is touched. "
            f"Give an empty or new folder as --store."
        )
    write_object(store, MARKER, {"format": "curriculum-token-store", "version": 1})


def remove_store(store: Files) -> None:
    """Remove what a store consists of, and the folder if nothing else is in it."""
    for name in CONTENTS:
        store.remove(name)
    store.remove_empty_folders("")


def note_corpus(store: Files, name: str, facts: dict[str, Any]) -> None:
    """Remember that a corpus is completely in the store; `plan --store` counts by it."""
    write_object(store, f"{CORPORA}/{name}.json", facts)


def read_corpora(store: Files) -> list[dict[str, Any]]:
    """What `note_corpus` remembered of corpora whose parts are all there, in the order of names.

    Notes without a dtype are of before there was a release.
    """
    notes = [read_object(store, name) for name in store.names(CORPORA) if name.endswith(".json")]
    known = [note for note in notes if note and "dtype" in note]
    return [note for note in known if all(store.facts(index_name(part)) for part in note["parts"])]
