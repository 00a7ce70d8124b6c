"""`curriculum push`: a dataset, or a part of it, from a folder to a place.

In:  a folder and a place.   Out: the dataset there; `Moved`.
Guarantee: the manifest at the place is byte for byte that of the folder, and is sent last: who finds it finds all that
was asked for. A shard is sent only if its sha256 is that of the manifest. Run again, it sends what is not there.
Of two pushes to a place at once one is refused: it is held while it is looked at and written.

    push(Path("my-dataset"), open_place("s3://bucket/my-dataset"), Offering(compress="zstd"), Terminal())
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from curriculum.errors import DataError
from curriculum.manifest import FILE_NAME, Manifest, parse_manifest
from curriculum.shard_format import COMPRESSED
from pipeline.files.local_copies import new_local_folder
from pipeline.progress import Progress
from pipeline.sharing.contents import (
    BUILD_LOG,
    CARD,
    MARKER,
    MAX_MANIFEST_BYTES,
    SIGNATURE,
    damaged,
    require_movable,
)
from pipeline.sharing.counting import uncounted
from pipeline.sharing.departures import Departures
from pipeline.sharing.digests import size_of
from pipeline.sharing.enclosures import differing, edited_there, make
from pipeline.sharing.folder_place import FolderPlace
from pipeline.sharing.holding import Holding, look, marker_of
from pipeline.sharing.moved import FileToMove, Moved
from pipeline.sharing.place import Place
from pipeline.sharing.removals import of_push
from pipeline.sharing.selection import Selected, all_shards, select


@dataclass(frozen=True, kw_only=True, slots=True)
class Offering:
    """What is asked of a push."""

    phases: str | None = None
    steps: str | None = None
    overwrite: bool = False
    build_log: bool = False
    compress: bool = False
    sign_key: str | None = None
    dry_run: bool = False


def push(folder: Path, place: Place, offering: Offering, progress: Progress) -> Moved:
    """Send what is not there.

    Raises:
        DataError: the folder holds no dataset, or a shard that is damaged or missing.
        BuildError: the place does not allow it.
        ConfigError: phases or steps are asked for that there are not.
    """
    own = FolderPlace(folder)
    text = own.read(FILE_NAME, MAX_MANIFEST_BYTES)
    if text is None:
        raise DataError(
            f"{folder}: not a curriculum dataset, it has no {FILE_NAME}. Give what `curriculum build` wrote."
        )
    manifest = parse_manifest(text, str(folder / FILE_NAME))
    require_movable(manifest, str(folder / FILE_NAME))
    wanted = select(manifest, phases=offering.phases, steps=offering.steps)
    with nullcontext() if offering.dry_run else place.held():
        return _push(folder, place, offering, text, manifest, wanted, progress)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Errand:
    """One push to a place that was looked at: what goes there, and what goes away."""

    folder: Path
    place: Place
    offering: Offering
    manifest: Manifest
    wanted: tuple[Selected, ...]
    holding: Holding
    todo: tuple[Selected, ...]
    """the shards that are not there"""
    beside: dict[str, Path]
    """other files, by their names there; the manifest last"""
    removed: tuple[str, ...]
    kept: tuple[str, ...]
    """files that somebody edited there"""


def _push(
    folder: Path,
    place: Place,
    offering: Offering,
    text: bytes,
    manifest: Manifest,
    wanted: tuple[Selected, ...],
    progress: Progress,
) -> Moved:
    """Look, and send: to a place that is held."""
    holding = look(place, manifest, overwrite=offering.overwrite)
    todo = tuple(each for each in wanted if each.entry.path not in holding.trusted)
    _require_there(folder, todo)
    with new_local_folder() as made:
        beside = differing(
            folder,
            made,
            text,
            manifest,
            place,
            holding,
            build_log=offering.build_log,
            sign_key=offering.sign_key,
        )
        kept = edited_there(beside, holding, overwrite=offering.overwrite)
        beside = {name: path for name, path in beside.items() if name not in kept}
        errand = _Errand(
            folder=folder,
            place=place,
            offering=offering,
            manifest=manifest,
            wanted=wanted,
            holding=holding,
            todo=todo,
            beside=beside,
            removed=of_push(holding, todo, beside, compress=offering.compress),
            kept=kept,
        )
        place.expect([*_names(errand), *beside])
        sent: dict[str, int] = {}
        if not offering.dry_run and (todo or beside or MARKER in holding.sizes):
            departures = Departures(folder, place, made, compress=offering.compress)
            _send(errand, departures, made, progress)
            sent = departures.sent
        return _moved(errand, sent)


def _names(errand: _Errand) -> list[str]:
    """Of the shards that are sent, as they will lie there."""
    ending = COMPRESSED if errand.offering.compress else ""
    return [each.entry.path + ending for each in errand.todo]


def _send(errand: _Errand, departures: Departures, made: Path, progress: Progress) -> None:
    """At every line the place holds what it held, a push that goes on, or the dataset."""
    place, holding, todo, beside = errand.place, errand.holding, errand.todo, errand.beside
    gone = set()
    if holding.replaces:
        departures.check(todo, progress)  # else a damaged dataset would have cost the one that is there
        gone = {name for name in (FILE_NAME, SIGNATURE, BUILD_LOG) if name in holding.sizes}
        place.remove(sorted(gone))
    if not holding.marked and (todo or not holding.same):
        if holding.doubtful:
            place.remove(holding.doubtful)  # before the marker, which vouches for what is there
            gone.update(holding.doubtful)
        make(made / MARKER, marker_of(errand.manifest, anew=holding.anew))
        place.send([MARKER], made, uncounted)
    departures.send(todo, progress)
    of_the_one_before = [name for name in (SIGNATURE, BUILD_LOG) if name in errand.removed and name not in gone]
    if of_the_one_before:
        place.remove(of_the_one_before)
        gone.update(of_the_one_before)
    early = [name for name in beside if name != FILE_NAME]
    for folder in dict.fromkeys(beside[name].parent for name in early):
        place.send([name for name in early if beside[name].parent == folder], folder, uncounted)
    if FILE_NAME in beside:
        place.send([FILE_NAME], beside[FILE_NAME].parent, uncounted)
    superfluous = [name for name in errand.removed if name not in gone]
    marked = [MARKER] if MARKER in holding.sizes or (made / MARKER).exists() else []
    if holding.unfinished and len(todo) < len(all_shards(errand.manifest)):
        marked = []  # of the others nothing is known yet
    if superfluous or marked:
        place.remove([*superfluous, *marked])


def _require_there(folder: Path, todo: Sequence[Selected]) -> None:
    """Presence and size of all shards, before any is sent."""
    for each in todo:
        path, size = folder / each.entry.path, size_of(folder / each.entry.path, follow=True)
        if size is None:
            raise DataError(
                f"{path}: the shard is missing. If the dataset was pulled in part, push that part by --phases or "
                f"--steps, or pull the rest first."
            )
        if size != each.entry.num_bytes:
            raise damaged(path, f"{size:,} bytes, the manifest says {each.entry.num_bytes:,}")


def _moved(errand: _Errand, sent: dict[str, int]) -> Moved:
    """What went, or would go; `sent` has the bytes of shards that were sent."""
    every = all_shards(errand.manifest)
    files = [
        FileToMove(name=name, num_bytes=sent.get(name, each.entry.num_bytes), phase=each.phase)
        for name, each in zip(_names(errand), errand.todo, strict=True)
    ]
    files += [FileToMove(name=name, num_bytes=path.stat().st_size) for name, path in errand.beside.items()]
    there = errand.holding.trusted | {each.entry.path for each in errand.wanted}
    return Moved(
        action="push",
        where=errand.place.where,
        dataset=str(errand.folder),
        dataset_id=errand.manifest.id,
        wanted=errand.wanted,
        num_shards=len(every),
        files=tuple(files),
        removed=errand.removed,
        kept=errand.kept,
        replaced=(CARD,) if errand.holding.fresh_card and CARD in errand.beside else (),
        dry_run=errand.offering.dry_run,
        complete=all(each.entry.path in there for each in every),
    )
