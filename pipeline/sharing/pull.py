"""`curriculum pull`: a dataset, or a part of it, from a place into a folder.

In:  a place and a folder.   Out: the dataset there, as far as it was asked for; `Moved`.
Guarantee: the manifest is read first and written last; a shard appears in the folder after its plain bytes have the
sha256 of the manifest, by a rename. Another dataset that is replaced goes when all shards of the new one have arrived,
if the disk has room for both. Nothing else than the manifest names is fetched; the card is made from the
manifest. Run again, it hashes what is there and fetches what is missing or broken.

    pull(open_place("s3://bucket/my-dataset"), Path("my-dataset"), Wish(phases="0-3"), Terminal())
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from curriculum.manifest import FILE_NAME
from pipeline.files.disk import DiskFiles
from pipeline.layout import write_bytes
from pipeline.lock import locked
from pipeline.progress import Progress
from pipeline.publish import remove, sync_folder
from pipeline.sharing.arrivals import Arrivals
from pipeline.sharing.beside import made_here, missing_beside, read_build_log, read_tokenizer, write_beside
from pipeline.sharing.contents import (
    BUILD_LOG,
    FOLDERS,
    SIGNATURE,
    TOKENIZER,
    is_shard_name,
    shards_of,
)
from pipeline.sharing.counting import from_threads
from pipeline.sharing.digests import digest_of, size_of
from pipeline.sharing.moved import FileToMove, Moved
from pipeline.sharing.offer import Offer, Source, read_offer
from pipeline.sharing.place import Place
from pipeline.sharing.removals import of_pull
from pipeline.sharing.selection import Selected, all_shards, select
from pipeline.sharing.staging import arrived_aside, aside_of, fits_beside, move_from_aside
from pipeline.sharing.target import WORK, WORK_MANIFEST, Target, examine

HASHED_AT_ONCE = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What is asked of a pull."""

    phases: str | None = None
    steps: str | None = None
    overwrite: bool = False
    build_log: bool = False
    verify_key: str | None = None
    dry_run: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class _Present:
    """What is in the folder already."""

    whole: frozenset[str]
    """paths of shards with the right digest"""
    wrong: frozenset[str]
    """paths of shards that are something else"""


def pull(place: Place, folder: Path, wish: Wish, progress: Progress) -> Moved:
    """Fetch what is missing.

    Raises:
        DataError: what is at the place is no dataset, or damaged, or not to be trusted.
        BuildError: the place, the folder or the disk does not allow it.
        ConfigError: phases or steps are asked for that there are not.
    """
    offer = read_offer(place, wish.verify_key)
    wanted = select(offer.manifest, phases=wish.phases, steps=wish.steps)
    if wish.dry_run:
        target = examine(folder, offer.manifest, place.where, overwrite=wish.overwrite)
        present = _look(target, offer, wanted, progress)
        sources = offer.sources([each for each in wanted if each.entry.path not in present.whole])
        beside = missing_beside(offer, target, build_log=wish.build_log)
        return _moved(
            offer,
            folder,
            wanted,
            sources,
            beside,
            present,
            _removed(target, _strangers(target, offer, present, wanted), beside),
            dry_run=True,
        )
    with locked(folder, "folder"):
        target = examine(folder, offer.manifest, place.where, overwrite=wish.overwrite)
        return _pull(place, offer, target, wanted, wish, progress)


def _pull(
    place: Place, offer: Offer, target: Target, wanted: Sequence[Selected], wish: Wish, progress: Progress
) -> Moved:
    folder = target.folder
    present = _look(target, offer, wanted, progress)
    sources = offer.sources([each for each in wanted if each.entry.path not in present.whole])
    beside = missing_beside(offer, target, build_log=wish.build_log)
    if not (sources or beside) and target.same:
        remove(folder / WORK)
        return _moved(offer, folder, wanted, sources, beside, present, (), dry_run=False)
    strangers = _strangers(target, offer, present, wanted)
    removed = _removed(target, strangers, beside)
    aside = fits_beside(folder / WORK, folder, sources, strangers) and target.replaces
    tokenizer = read_tokenizer(place, offer) if TOKENIZER in beside else None
    log = read_build_log(place, offer) if BUILD_LOG in beside else None
    files = DiskFiles(folder=str(folder), aside=f"{WORK}/aside")
    write_bytes(files, WORK_MANIFEST, offer.text)
    ready = arrived_aside(folder / WORK, sources)
    if not aside:
        _clear(target, strangers, files)
    arrivals = Arrivals(place, aside_of(folder / WORK) if aside else folder, folder / WORK, offer.other_form)
    arrivals.fetch([source for source in sources if source not in ready], progress)
    if aside:
        _clear(target, strangers, files)
    move_from_aside(folder / WORK, folder, sources if aside else ready)
    write_beside(offer, files, beside, tokenizer, log)
    if not target.same:
        files.remove(SIGNATURE)  # of what was there: none is better than another's
        write_bytes(files, FILE_NAME, offer.text)
    if SIGNATURE in beside and offer.signature is not None:
        write_bytes(files, SIGNATURE, offer.signature)
    for name in FOLDERS if not target.same else ():
        files.remove_empty_folders(name)
    remove(folder / WORK)
    sync_folder(folder)
    return _moved(offer, folder, wanted, sources, beside, present, removed, dry_run=False)


def _clear(target: Target, strangers: Sequence[str], files: DiskFiles) -> None:
    """Make room: from here on the folder holds no other dataset."""
    if target.replaces:
        files.remove(SIGNATURE)
        files.remove(FILE_NAME)
        files.flush()  # no longer a dataset, before the first shard goes
    if not target.same:
        for name in strangers:
            files.remove(name)


def _removed(target: Target, strangers: Sequence[str], beside: Sequence[str]) -> tuple[str, ...]:
    there = [name for name in (SIGNATURE, BUILD_LOG) if os.path.lexists(target.folder / name)]
    return of_pull(strangers, there, beside, same=target.same)


def _look(target: Target, offer: Offer, wanted: Sequence[Selected], progress: Progress) -> _Present:
    """Hash what is there: of this dataset what is wanted; of another one everything that has a name of this one."""
    shards = [each.entry for each in wanted] if target.same else shards_of(offer.manifest)
    sizes = [(shard, size_of(target.folder / shard.path)) for shard in shards]
    there = [(shard, size) for shard, size in sizes if size is not None]
    to_hash = [shard for shard, size in there if size == shard.num_bytes]
    total = sum(shard.num_bytes for shard in to_hash)
    with (
        progress.stage("check what is there", total=total, unit="B") as advance,
        ThreadPoolExecutor(HASHED_AT_ONCE) as threads,
    ):
        counted = from_threads(advance)
        found = threads.map(lambda shard: digest_of(target.folder / shard.path, counted), to_hash)
        whole = {shard.path for shard, digest in zip(to_hash, found, strict=True) if digest == shard.sha256}
    return _Present(whole=frozenset(whole), wrong=frozenset(shard.path for shard, _ in there) - whole)


def _strangers(target: Target, offer: Offer, present: _Present, wanted: Sequence[Selected]) -> list[str]:
    """Shards in the folder that the dataset must not have: other paths, and other bytes that will not be replaced."""
    if target.same:
        return []
    files = DiskFiles(folder=str(target.folder), aside=f"{WORK}/aside")
    named = {shard.path for shard in shards_of(offer.manifest)}
    replaced = {each.entry.path for each in wanted}
    found = [name for folder in FOLDERS for name in files.names(folder) if is_shard_name(name) or name in named]
    return [name for name in found if name not in named or (name in present.wrong and name not in replaced)]


def _moved(
    offer: Offer,
    folder: Path,
    wanted: Sequence[Selected],
    sources: Sequence[Source],
    beside: Sequence[str],
    present: _Present,
    removed: tuple[str, ...],
    *,
    dry_run: bool,
) -> Moved:
    every = all_shards(offer.manifest)
    coming = {source.wanted.entry.path for source in sources} | present.whole
    others = (each.entry for each in every if each.entry.path not in coming)
    files = [FileToMove(name=source.name, num_bytes=source.num_bytes, phase=source.wanted.phase) for source in sources]
    own = {name: len(data) for name, data in made_here(offer).items()}
    files += [FileToMove(name=name, num_bytes=own.get(name, offer.sizes.get(name, 0))) for name in beside]
    return Moved(
        action="pull",
        where=offer.where,
        dataset=str(folder),
        dataset_id=offer.manifest.id,
        wanted=tuple(wanted),
        num_shards=len(every),
        files=tuple(files),
        removed=removed,
        dry_run=dry_run,
        signer=offer.signer,
        complete=all(size_of(folder / shard.path) == shard.num_bytes for shard in others),
    )
