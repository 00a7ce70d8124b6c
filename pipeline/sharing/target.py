"""The folder that a dataset is pulled into: what is there, and what may be done with it.

In:  a folder and the manifest that is to be there.   Out: `Target`, or a refusal that names both datasets.
Guarantee: another dataset is replaced only with --overwrite; a folder that holds anything else is never touched, and
what else lies beside a dataset stays; no link inside is followed. Looking changes nothing.

    empty, or absent                            a pull begins
    manifest.json, of this dataset              what is missing or broken is fetched
    manifest.json, of which it is an extension  the new shards are fetched; it stays what it is until they are there
    manifest.json, another                      refused, unless --overwrite
    .pull/manifest.json, no manifest.json       an interrupted pull: the same, with the dataset that it names
    anything else                               refused
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from curriculum.errors import BuildError
from curriculum.manifest import FILE_NAME, Manifest
from pipeline.files.own_folders import require_own_folders
from pipeline.layout import REQUEST_NAME
from pipeline.sharing.contents import MAX_MANIFEST_BYTES, parse_replaceable, relation, shards_of
from pipeline.sharing.digests import size_of

WORK = ".pull"
WORK_MANIFEST = f"{WORK}/{FILE_NAME}"
_OVERWRITE = "Give --overwrite to replace it, or another folder."


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What a pull may do."""

    folder: Path
    is_dataset: bool
    """there is a manifest.json"""
    same: bool
    """and it is that of the dataset that is pulled"""
    replaces: bool
    """what is there ends being a dataset before the first shard comes: it is another one"""


def examine(folder: Path, manifest: Manifest, where: str, *, overwrite: bool) -> Target:
    """Look at a folder.

    Args:
        folder: it may be absent.
        manifest: of the dataset that is to be there.
        where: it comes from, for messages.
        overwrite: another dataset may go.

    Raises:
        BuildError: the folder holds what must not be replaced.
        DataError: it holds a damaged manifest.
    """
    if folder.exists() and not folder.is_dir():
        raise BuildError(f"{folder}: is a file. Give a folder, or a name that is free.")
    require_own_folders(folder, [WORK])
    _require_ours(folder)
    require_own_folders(folder, _folders_of_shards(manifest))
    is_dataset = size_of(folder / FILE_NAME) is not None
    before = _read(folder / FILE_NAME if is_dataset else folder / WORK_MANIFEST, overwrite=overwrite)
    begun = folder / REQUEST_NAME
    if is_dataset and begun.exists() and (before is None or before.id != manifest.id):
        raise BuildError(
            f"{folder}: a build or an extension was begun there and is not finished. Finish it, or remove {begun}."
        )
    if before is None:
        return Target(folder=folder, is_dataset=is_dataset, same=False, replaces=is_dataset)
    how = relation(manifest, before)
    if how in ("other", "before") and not overwrite:
        state = "holds" if is_dataset else "holds an interrupted pull of"
        later = ", which is an extension of the one at that place" if how == "before" else ""
        raise BuildError(f"{folder}: {state} dataset {before.id}{later}; {where} has {manifest.id}. {_OVERWRITE}")
    replaces = is_dataset and how in ("other", "before")
    return Target(folder=folder, is_dataset=is_dataset, same=is_dataset and how == "same", replaces=replaces)


def free_bytes(folder: Path) -> int:
    """What still fits on the disk of a folder, which may be absent."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _require_ours(folder: Path) -> None:
    """Nothing, a dataset or an interrupted pull: one that replaces another leaves what people keep beside that."""
    if not folder.is_dir() or any(size_of(folder / name) is not None for name in (FILE_NAME, WORK_MANIFEST)):
        return
    for path in sorted(folder.iterdir()):
        if path.name != WORK:
            raise BuildError(
                f"{folder}: holds {path.name!r} and is not a curriculum dataset, so nothing in it is touched. Give an "
                f"empty or new folder."
            )


def _folders_of_shards(manifest: Manifest) -> list[str]:
    folders = {PurePosixPath(name) for name in {shard.path.rpartition("/")[0] for shard in shards_of(manifest)}}
    return [str(name) for name in folders.union(*(name.parents for name in folders)) - {PurePosixPath()}]


def _read(path: Path, *, overwrite: bool) -> Manifest | None:
    """A manifest of the folder; None if there is none, or a damaged one that may go."""
    num_bytes = size_of(path)
    if num_bytes is None:
        return None
    text = path.read_bytes() if num_bytes <= MAX_MANIFEST_BYTES else b""
    return parse_replaceable(text, str(path), overwrite=overwrite)
