"""The names in a token store: one table of what it consists of.

In:  nothing, or the name of a part.   Out: names relative to the place of the store.
Guarantee: a build puts nothing else there (but the lease, while it holds an object store), so removing a store removes
these and leaves whatever people put beside them.

    STORE/store.json                             says that the folder is a token store
    STORE/parts/3f/3f9c0c...e1.tokens .arrow     a part: ids, and their index, whose presence commits the part
    STORE/merged/a0/merged-a07d...22.tokens      a part that others were merged into
    STORE/corpora/81...json .checked             corpora that are completely there, and samples found equal
    STORE/tokenizers/                            what they were encoded with
    STORE/cluster/                               runs on other machines that may write
    STORE/checked.json                           parts whose digests were compared
    STORE/aside/                                 what is not finished
"""

from __future__ import annotations

MARKER = "store.json"
PARTS = "parts"
MERGED_PARTS = "merged"
CORPORA = "corpora"
TOKENIZERS = "tokenizers"
CLUSTER = "cluster"
CHECKED = "checked.json"
STORE_ASIDE = "aside"
CONTENTS = (CORPORA, MERGED_PARTS, PARTS, TOKENIZERS, STORE_ASIDE, CLUSTER, CHECKED, MARKER)
"""In the order in which they are removed: the marker is the last."""
MERGED = "merged-"
"""Begins the names of parts that others were merged into."""


def tokens_name(part: str) -> str:
    """The file with the ids of a part."""
    return f"{_place(part)}.tokens"


def index_name(part: str) -> str:
    """The file with the index of a part; its presence commits the part."""
    return f"{_place(part)}.arrow"


def numbered(unit: str, number: int) -> str:
    """The name of a part of a unit: most units have one part, which has the unit's name."""
    return unit if number == 0 else f"{unit}-{number:06d}"


def merged_name(digest: str) -> str:
    """The name of a part that others were merged into."""
    return f"{MERGED}{digest}"


def _place(part: str) -> str:
    """Folder and stem of a part's files: merged parts are apart, so that people can remove them."""
    digest = part.removeprefix(MERGED)
    return f"{PARTS if digest == part else MERGED_PARTS}/{digest[:2]}/{part}"
