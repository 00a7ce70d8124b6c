"""Shards of a pull that replaces another dataset, kept aside until all of them are there.

In:  the folder of a running pull, and where each shard comes from.   Out: shards under their paths, all at once.
Guarantee: what lies aside has the sha256 of the manifest when it is moved; what an interrupted pull left there is
hashed before it counts, and removed if it is of another dataset.

    .pull/whole/phases/.../shard-000000.arrow  ->  phases/.../shard-000000.arrow
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from curriculum.errors import BuildError
from pipeline.publish import move_into_place, remove, sync_folder
from pipeline.sharing.counting import uncounted
from pipeline.sharing.digests import digest_of, size_of
from pipeline.sharing.offer import Source
from pipeline.sharing.target import free_bytes

SPARE_BYTES = 64 << 20
"""Room for all that is no shard: manifest, tokenizer, card."""


def aside_of(work: Path) -> Path:
    """The folder for them."""
    return work / "whole"


def arrived_aside(work: Path, sources: Sequence[Source]) -> list[Source]:
    """Those that an interrupted pull has left there; all else that it left goes."""
    folder = aside_of(work)
    if not folder.is_dir():
        return []
    ready = []
    for source in sources:
        entry = source.wanted.entry
        if digest_of(folder / entry.path, uncounted) == entry.sha256:
            ready.append(source)
    named = {folder / source.wanted.entry.path for source in ready}
    for path in folder.rglob("*"):
        if not path.is_dir() and path not in named:
            remove(path)
    return ready


def move_from_aside(work: Path, folder: Path, sources: Sequence[Source]) -> None:
    """Give them their names."""
    changed: set[Path] = set()
    for source in sources:
        path = source.wanted.entry.path
        move_into_place(aside_of(work) / path, folder / path, changed.add)
    for each in sorted(changed):
        sync_folder(each)


def fits_beside(work: Path, folder: Path, sources: Sequence[Source], strangers: Sequence[str]) -> bool:
    """Whether what is there may stay until everything has arrived.

    Raises:
        BuildError: there is no room even if it goes first.
    """
    plain = sum(source.wanted.entry.num_bytes for source in sources)
    aside = max((source.num_bytes for source in sources if source.compressed), default=0)
    there = sum(size_of(path) or 0 for path in work.rglob("*"))
    needed = plain + aside + SPARE_BYTES - there
    free_now = free_bytes(folder)
    free = free_now + sum(size_of(folder / name) or 0 for name in strangers)
    if needed > free:
        raise BuildError(
            f"{folder}: {needed:,} bytes are needed, {free:,} are free. Free space, give a folder on another disk, or "
            f"pull a part by --phases or --steps."
        )
    return needed <= free_now
