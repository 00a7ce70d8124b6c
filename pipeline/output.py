"""The output folder: what may be continued, what is finished, what must not be touched.

In:  a folder and what this build was asked for (its request).   Out: a decision, or a refusal that names what differs.
Guarantee: a finished dataset is replaced only with --overwrite; a folder that holds anything else is never touched; an
unfinished build continues only when it was asked for the same things.

    empty, or absent                          begin
    .build/request.json, same request         continue
    .build/request.json, other request        begin if no window is finished, else refuse; begin with --overwrite
    manifest.json, same request               nothing to do
    manifest.json, other request              refuse, naming what differs; begin with --overwrite
    anything else                             refuse
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curriculum.errors import BuildError, DataError
from curriculum.manifest import FILE_NAME, FORMAT, Manifest, load_manifest
from pipeline.layout import LOG_NAME, WORK_FOLDER, aside_folder, read_object, request_path, windows_folder
from pipeline.publish import publish_json, remove, sync_folder

OURS = ("README.md", "tokenizer.json", LOG_NAME, "phases", "validation")
"""What a build writes besides the manifest and the work folder."""


def prepare(root: Path, request: dict[str, Any], *, overwrite: bool) -> Manifest | None:
    """Make the folder ready for a build; the manifest if there is nothing to do.

    Raises:
        BuildError: the folder holds something that this build must not replace.
    """
    unfinished = read_object(request_path(root))
    if _holds_dataset(root):
        if not overwrite:
            return _finished(root, request)
        _begin(root, request)
    elif unfinished is not None:
        if unfinished != request:
            _refuse_to_drop(root, unfinished, request, overwrite)
            _begin(root, request)
    else:
        foreign = sorted({path.name for path in root.iterdir()} - {WORK_FOLDER})
        if not foreign and (root / WORK_FOLDER).is_dir():
            names = {path.name for path in (root / WORK_FOLDER).iterdir()} - {"aside", "windows", "request.json"}
            foreign = sorted(f"{WORK_FOLDER}/{name}" for name in names)
        if foreign:
            raise BuildError(
                f"{root}: holds {foreign[0]!r} and is not a curriculum dataset, so nothing in it is touched. "
                f"Give an empty or new folder as --out."
            )
        _begin(root, request)
    return None


def _holds_dataset(root: Path) -> bool:
    """Whether the folder holds a finished dataset of ours; other programs too write files of that name."""
    manifest = read_object(root / FILE_NAME)
    return manifest is not None and manifest.get("format") == FORMAT


def _refuse_to_drop(root: Path, unfinished: dict[str, Any], request: dict[str, Any], overwrite: bool) -> None:
    """Finished windows are hours of work; without any there is nothing to lose."""
    if not overwrite and windows_folder(root).is_dir() and any(windows_folder(root).iterdir()):
        raise BuildError(
            f"{root}: holds an unfinished build that was asked for something else: "
            f"{_differences(unfinished, request)}. Repeat its options to continue it, give --overwrite to drop it, "
            f"or another --out."
        )


def _begin(root: Path, request: dict[str, Any]) -> None:
    """Start anew. At every line the folder is either what it was, or an unfinished build with the new request."""
    remove(windows_folder(root))
    publish_json(aside_folder(root), request_path(root), request)
    remove(root / FILE_NAME)
    sync_folder(root)  # no longer a dataset, before the first shard goes
    for name in OURS:
        remove(root / name)


def _finished(root: Path, request: dict[str, Any]) -> Manifest:
    log = read_object(root / LOG_NAME)
    if log is None or "request" not in log:
        raise BuildError(
            f"{root}: holds a finished dataset without a {LOG_NAME}, so nothing tells whether it is the one asked for. "
            f"Give --overwrite to replace it, or another --out."
        )
    if log["request"] != request:
        raise BuildError(
            f"{root}: holds a finished dataset that was asked for something else: "
            f"{_differences(log['request'], request)}. Give --overwrite to replace it (the token store is used again), "
            f"or another --out."
        )
    manifest = load_manifest(root)
    for entry in manifest.entries:
        for shard in entry.shards:
            path = root / shard.path
            if not path.is_file() or path.stat().st_size != shard.num_bytes:
                raise DataError(f"{path}: missing or damaged. Give --overwrite to build the dataset again.")
    remove(root / WORK_FOLDER)
    return manifest


def sweep(root: Path, manifest: Manifest) -> None:
    """Remove files under the shard folders that the manifest does not name: left by an interrupted --overwrite."""
    entries = manifest.entries
    expected = {root / shard.path for entry in entries for shard in entry.shards}
    for folder in (root / "phases", root / "validation"):
        if folder.is_symlink():
            raise BuildError(
                f"{folder}: is a link, so it is not ours to tidy. Remove it and run the same command again."
            )
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_dir():
                if not any(path.iterdir()):
                    path.rmdir()
            elif path not in expected:
                remove(path)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _differences(before: dict[str, Any], now: dict[str, Any]) -> str:
    different = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    return "; ".join(f"{key} was {_short(before.get(key))}, now {_short(now.get(key))}" for key in different)


def _short(value: Any) -> str:
    text = "not given" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:16]}..."
