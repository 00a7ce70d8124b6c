"""Which parts of a unit the store holds, complete and undamaged.

In:  the name of a unit or part, and its files when their digests were last compared.   Out: summaries, or nothing.
Guarantee: a part is believed if the digests of its ids and its index fit, or if its files are those whose digests did;
what is left of any other is removed, so that it is encoded anew, where that can be done.

    usable_part: 3f9c0c...e1 with one id changed      ->  None, and its two files are gone
    sound_part:  the same                             ->  None, and they are there
"""

from __future__ import annotations

from collections.abc import Sequence

import xxhash

from curriculum.errors import BuildError
from pipeline.checked_parts import PartFacts
from pipeline.files.contract import Files
from pipeline.part_index import PartIndex, PartSummary, read_part
from pipeline.store_names import index_name, numbered, tokens_name

BLOCK_BYTES = 8 << 20


def usable_parts(
    store: Files, unit: str, itemsize: int, checked: tuple[PartFacts, ...] = ()
) -> tuple[tuple[PartSummary, ...], tuple[PartFacts | None, ...]]:
    """Summaries of all parts of a unit, and their files as they were before they were read; both empty if a part is
    missing or damaged."""
    parts: list[PartSummary] = []
    files: list[PartFacts | None] = []
    while not parts or parts[-1].continues:
        number = len(parts)
        # Before they are read: what changes meanwhile is read again next time.
        files += parts_facts(store, [numbered(unit, number)])
        part = usable_part(store, numbered(unit, number), itemsize, checked[number] if number < len(checked) else None)
        if part is None:
            return (), ()
        parts.append(part)
    return tuple(parts), tuple(files)


def usable_part(store: Files, name: str, itemsize: int, checked: PartFacts | None = None) -> PartSummary | None:
    """Summary of a part that is complete and undamaged, or None after removing what is left of it.

    Args:
        checked: the part's files when their digests were last compared; unchanged ones are believed.
    """
    if store.facts(index_name(name)) is None:
        return None
    summary = sound_part(store, name, itemsize, checked)
    if summary is None:
        store.remove(index_name(name))
        store.remove(tokens_name(name))
    return summary


def sound_part(store: Files, name: str, itemsize: int, checked: PartFacts | None = None) -> PartSummary | None:
    """Summary of a part that is complete and undamaged, else None; nothing is removed.

    Args:
        checked: as for `usable_part`.
    """
    try:
        (facts,) = parts_facts(store, [name])
        summary, index = read_part(store, name)
        num_bytes = summary.tokens * itemsize
        complete = facts is not None and facts.tokens.num_bytes == num_bytes
        if complete and (facts == checked or _digests_agree(store, summary, index, num_bytes)):
            return summary
    except BuildError:
        pass  # the index is damaged: as good as missing
    return None


def parts_facts(store: Files, names: Sequence[str]) -> tuple[PartFacts | None, ...]:
    """Sizes and stamps of the files of each part; None if one of the two is missing."""
    found = [(store.facts(tokens_name(name)), store.facts(index_name(name))) for name in names]
    return tuple(
        None if tokens is None or index is None else PartFacts(tokens=tokens, index=index) for tokens, index in found
    )


def _digests_agree(store: Files, summary: PartSummary, index: PartIndex, num_bytes: int) -> bool:
    return (
        index.digest() == summary.index_digest
        and _digest(store, tokens_name(summary.name), num_bytes) == summary.tokens_digest
    )


def _digest(store: Files, name: str, num_bytes: int) -> str:
    digest = xxhash.xxh3_128()
    block = memoryview(bytearray(min(num_bytes, BLOCK_BYTES)))
    for start in range(0, num_bytes, BLOCK_BYTES):
        digest.update(block[: store.read_into(name, start, block[: num_bytes - start])])
    return digest.hexdigest()
