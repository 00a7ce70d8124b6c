"""`curriculum push`: a dataset, or a part of it, from a folder to a place.

In:  a folder and a place.   Out: the dataset there; `Moved`.
Guarantee: the manifest at the place is byte for byte that of the folder, and is sent last: who finds it finds all that
was asked for. A shard is sent only if its sha256 is that of the manifest. Run again, it sends what is not there.

    push(Path("my-dataset"), open_place("s3://bucket/my-dataset"), Offering(compress="zstd"), Terminal())
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from curriculum.errors import BuildError, DataError
from curriculum.manifest import FILE_NAME, Manifest, parse_manifest
from curriculum.shard_format import COMPRESSED
from pipeline.card import explanations
from pipeline.files.local_copies import cannot_keep
from pipeline.progress import Progress
from pipeline.sharing.contents import (
    BUILD_LOG,
    EXPLANATIONS,
    MARKER,
    MAX_MANIFEST_BYTES,
    SIGNATURE,
    TOKENIZER,
    require_movable,
)
from pipeline.sharing.departures import Departures
from pipeline.sharing.digests import digest_of, size_of
from pipeline.sharing.folder_place import FolderPlace
from pipeline.sharing.holding import Holding, look, marker_of
from pipeline.sharing.moved import FileToMove, Moved
from pipeline.sharing.place import Place
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
    holding = look(place, manifest, overwrite=offering.overwrite)
    todo = [each for each in wanted if each.entry.path not in holding.trusted]
    _require_there(folder, todo)
    with _folder_for_temporary_files() as made:
        beside = _beside(folder, made, text, manifest, place, holding, offering)
        ending = COMPRESSED if offering.compress else ""
        place.expect([each.entry.path + ending for each in todo] + list(beside))
        if not offering.dry_run and (todo or beside or MARKER in holding.sizes):
            departures = Departures(folder, place, made, compress=offering.compress)
            _send(departures, place, made, manifest, holding, todo, beside, progress)
        return _moved(folder, place, manifest, wanted, todo, beside, holding, offering)


@contextmanager
def _folder_for_temporary_files() -> Iterator[Path]:
    try:
        folder = tempfile.TemporaryDirectory(prefix="curriculum-push-")
    except OSError as error:
        raise cannot_keep(Path(tempfile.gettempdir()), error) from error
    with folder as path:
        yield Path(path)


def _make(path: Path, data: bytes) -> Path:
    """A small file among the temporary ones."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise cannot_keep(path, error) from error
    return path


def _send(
    departures: Departures,
    place: Place,
    made: Path,
    manifest: Manifest,
    holding: Holding,
    todo: Sequence[Selected],
    beside: dict[str, Path],
    progress: Progress,
) -> None:
    """At every line the place holds what it held, a push that goes on, or the dataset."""
    if holding.replaces:
        place.remove([name for name in (FILE_NAME, SIGNATURE) if name in holding.sizes])
    if not holding.marked and (todo or not holding.same):
        if holding.doubtful:
            place.remove(holding.doubtful)  # before the marker, which vouches for what is there
        _make(made / MARKER, marker_of(manifest))
        place.send([MARKER], made, _uncounted)
    departures.send(todo, progress)
    early = [name for name in beside if name != FILE_NAME]
    if not holding.replaces and SIGNATURE in holding.sizes and SIGNATURE not in beside and not holding.same:
        place.remove([SIGNATURE])  # of what was there: none is better than another's
    for folder in dict.fromkeys(beside[name].parent for name in early):
        place.send([name for name in early if beside[name].parent == folder], folder, _uncounted)
    if FILE_NAME in beside:
        place.send([FILE_NAME], beside[FILE_NAME].parent, _uncounted)
    superfluous = departures.superseded(todo, holding.sizes)
    if not holding.same or MARKER in holding.sizes:
        superfluous += holding.strangers
    marked = [MARKER] if MARKER in holding.sizes or (made / MARKER).exists() else []
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


def damaged(path: Path, found: str) -> DataError:
    """The refusal to send a file."""
    return DataError(
        f"{path}: {found}. It is damaged and is not sent: pull it again from where it is whole, or build the dataset "
        f"again with --overwrite."
    )


def _beside(
    folder: Path,
    made: Path,
    text: bytes,
    manifest: Manifest,
    place: Place,
    holding: Holding,
    offering: Offering,
) -> dict[str, Path]:
    """Files beside the shards that the place does not have as they are here; the manifest last."""
    found = digest_of(folder / TOKENIZER, _uncounted, follow=True)
    if found != manifest.tokenizer.sha256:
        said = "is missing" if found is None else f"has the sha256 {found}"
        raise damaged(folder / TOKENIZER, f"it {said}, the manifest says {manifest.tokenizer.sha256}")
    files = {TOKENIZER: folder / TOKENIZER}
    absent = {name for name in EXPLANATIONS if size_of(folder / name, follow=True) is None}
    own = explanations(manifest) if absent else {}
    for name in absent:
        _make(made / name, own[name])
    files |= {name: (made if name in absent else folder) / name for name in EXPLANATIONS}
    if offering.build_log:
        if size_of(folder / BUILD_LOG, follow=True) is None:
            raise DataError(f"{folder / BUILD_LOG}: is not there. Push without --build-log.")
        files[BUILD_LOG] = folder / BUILD_LOG
    if offering.sign_key is not None:
        from pipeline.sharing.signature import sign  # its library loads only for who wants it

        files[SIGNATURE] = _make(made / SIGNATURE, sign(text, offering.sign_key))
    elif size_of(folder / SIGNATURE, follow=True) is not None:
        files[SIGNATURE] = folder / SIGNATURE
    different = {name: path for name, path in files.items() if not _has(place, holding, name, path)}
    if holding.manifest_text != text:
        different[FILE_NAME] = _make(made / FILE_NAME, text)
    return different


def _has(place: Place, holding: Holding, name: str, path: Path) -> bool:
    """Whether a place has a small file as it is here."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BuildError(f"{path}: cannot be read: {error.strerror}. Make it readable.") from error
    return holding.sizes.get(name) == len(data) and place.read(name, len(data)) == data


def _moved(
    folder: Path,
    place: Place,
    manifest: Manifest,
    wanted: tuple[Selected, ...],
    todo: Sequence[Selected],
    beside: dict[str, Path],
    holding: Holding,
    offering: Offering,
) -> Moved:
    every = all_shards(manifest)
    ending = COMPRESSED if offering.compress else ""
    files = [
        FileToMove(name=each.entry.path + ending, num_bytes=each.entry.num_bytes, phase=each.phase) for each in todo
    ]
    files += [FileToMove(name=name, num_bytes=path.stat().st_size) for name, path in beside.items()]
    there = holding.trusted | {each.entry.path for each in wanted}
    return Moved(
        action="push",
        where=place.where,
        dataset=str(folder),
        dataset_id=manifest.id,
        wanted=wanted,
        num_shards=len(every),
        files=tuple(files),
        dry_run=offering.dry_run,
        complete=all(each.entry.path in there for each in every),
    )


def _uncounted(amount: int) -> None:
    """Nobody watches."""
