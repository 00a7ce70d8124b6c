"""The output folder: what may be continued, what is finished, what must not be touched.

In:  a folder and what this build was asked for (its request).   Out: a decision, or a refusal that names what differs.
Guarantee: a finished dataset is replaced only with --overwrite; a folder that holds anything else is never touched; an
unfinished build continues only when it was asked for the same things.

    empty, or absent                          begin
    .build/request.json, same request         continue
    .build/request.json, other request        begin if no window is finished, else refuse; begin with --overwrite
    manifest.json, same request               nothing to do but to remove what is not of the dataset
    manifest.json, other request              refuse, naming what differs; begin with --overwrite
    manifest.json, an extension begun         it is kept: its command continues it, another one or --overwrite drops it
    anything else                             refuse
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from curriculum.errors import BuildError, DataError
from curriculum.manifest import FILE_NAME, FORMAT, Manifest, parse_manifest
from pipeline.card import CARD_NAME, explanations
from pipeline.files.contract import Files
from pipeline.layout import (
    ASIDE,
    EXTENSIONS,
    LOG_NAME,
    PARENT_LOG,
    REQUEST_NAME,
    SIGNATURE_NAME,
    WINDOWS_FOLDER,
    WORK_FOLDER,
    extension_begun,
    read_build_log,
    read_object,
    write_bytes,
    write_object,
)
from pipeline.schedule_picture import PICTURE_NAME

OURS = (CARD_NAME, PICTURE_NAME, "tokenizer.json", LOG_NAME, SIGNATURE_NAME, "phases", "validation")
"""What a build writes besides the manifest and the work folder."""


def prepare(root: Files, request: dict[str, Any], *, overwrite: bool) -> Manifest | None:
    """Make the folder ready for a build; the manifest if there is nothing to do.

    Raises:
        BuildError: the folder holds something that this build must not replace.
    """
    unfinished = read_object(root, REQUEST_NAME)
    if _holds_dataset(root):
        if not overwrite:
            return _finished(root, request)
        _begin(root, request)
    elif unfinished is not None:
        if unfinished != request:
            _refuse_to_drop(root, unfinished, request, overwrite)
            _begin(root, request)
    else:
        foreign = [name for name in root.children() if name != WORK_FOLDER]
        inside = [f"{WORK_FOLDER}/{name}" for name in root.children(WORK_FOLDER)]
        foreign += [name for name in inside if name not in (ASIDE, WINDOWS_FOLDER, REQUEST_NAME)]
        if foreign:
            raise BuildError(
                f"{root.where}: holds {foreign[0]!r} and is not a curriculum dataset, so nothing in it is touched. "
                f"Give an empty or new folder as --out."
            )
        _begin(root, request)
    return None


def _holds_dataset(root: Files) -> bool:
    """Whether the folder holds a finished dataset of ours; other programs too write files of that name."""
    manifest = read_object(root, FILE_NAME)
    return manifest is not None and manifest.get("format") == FORMAT


def _refuse_to_drop(root: Files, unfinished: dict[str, Any], request: dict[str, Any], overwrite: bool) -> None:
    """Finished windows are hours of work; without any there is nothing to lose."""
    if not overwrite and root.children(WINDOWS_FOLDER):
        raise BuildError(
            f"{root.where}: holds an unfinished build that was asked for something else: "
            f"{_differences(unfinished, request)}. Repeat its options to continue it, give --overwrite to drop it, "
            f"or another --out."
        )


def _begin(root: Files, request: dict[str, Any]) -> None:
    """Start anew. At every line the folder is either what it was, or an unfinished build with the new request."""
    root.remove(WINDOWS_FOLDER)
    write_object(root, REQUEST_NAME, request)
    root.remove(FILE_NAME)
    root.flush()  # no longer a dataset, before the first shard goes
    for name in OURS:
        root.remove(name)


def _finished(root: Files, request: dict[str, Any]) -> Manifest:
    manifest = parse_manifest(root.read(FILE_NAME) or b"", root.address(FILE_NAME))
    log = read_build_log(root, manifest.id)
    if log is None or "request" not in log:
        raise BuildError(
            f"{root.where}: holds a finished dataset without its {LOG_NAME}, so nothing tells whether it is the one "
            f"asked for. Give --overwrite to replace it, or another --out."
        )
    if log["request"] != request:
        raise BuildError(_other_request(root, manifest, log["request"], request))
    shards = [shard for entry in manifest.entries for shard in entry.shards]
    for shard, found in zip(shards, root.facts_of([shard.path for shard in shards]), strict=True):
        if found is None or found.num_bytes != shard.num_bytes:
            address = root.address(shard.path)
            raise DataError(f"{address}: missing or damaged. Give --overwrite to build the dataset again.")
    settle(root, manifest, log)
    return manifest


def _other_request(root: Files, manifest: Manifest, before: dict[str, Any], now: dict[str, Any]) -> str:
    built = {key: value for key, value in before.items() if key != EXTENSIONS}
    if built != now:
        return (
            f"{root.where}: holds a finished dataset that was asked for something else: {_differences(built, now)}. "
            f"Give --overwrite to replace it (the token store is used again), or another --out."
        )
    first = manifest.build.extensions[0].first_step
    return (
        f"{root.where}: holds what this build makes, {first:,} steps, and it was extended since, to "
        f"{manifest.plan.total_steps:,}. Nothing is left to build; `curriculum extend` goes on with it. Give "
        f"--overwrite to have the {first:,} steps alone in its place, or another --out."
    )


def finish(root: Files, manifest: Manifest, facts: dict[str, Any]) -> None:
    """Everything beside shards and tokenizer; the manifest last, since its presence says that all the rest is there."""
    explain(root, manifest)
    write_object(root, LOG_NAME, facts)
    sweep(root, manifest)
    if root.facts(SIGNATURE_NAME) is not None:
        root.remove(SIGNATURE_NAME)  # of what an extension goes on from: it would look forged
    # The manifest keeps the order of its keys: it is read by people too.
    write_bytes(root, FILE_NAME, json.dumps(manifest.to_json(), indent=1, ensure_ascii=False).encode() + b"\n")
    root.remove(WORK_FOLDER)


def explain(root: Files, manifest: Manifest) -> None:
    """The files that tell people what it is: all that they say is in the manifest."""
    for name, data in explanations(manifest).items():
        write_bytes(root, name, data)


def begin_extension(root: Files, request: dict[str, Any], log: dict[str, Any], say: Callable[[str], None]) -> None:
    """Remember what is there and what is asked for; what another extension that was not finished has cut is dropped.

    Its shards may have the paths of new ones, so its records must not be believed any more.
    """
    before = read_object(root, REQUEST_NAME) or {}
    if before != request:
        if before.get("extends") == request["extends"] and root.children(WINDOWS_FOLDER):
            say(f"An unfinished extension is given up for another one: {_differences(before, request)}.")
        root.remove(WINDOWS_FOLDER)
    write_object(root, PARENT_LOG, log)
    write_object(root, REQUEST_NAME, request)


def tell_what_is_kept(root: Files, manifest: Manifest, say: Callable[[str], None]) -> None:
    """With nothing to do: say of an extension that was begun that it is kept."""
    if extension_begun(root, manifest.id):
        say(
            f"An unfinished extension is kept; its command continues it. To give it up, remove "
            f"{root.address(REQUEST_NAME)} and run this command again."
        )


def settle(root: Files, manifest: Manifest, log: dict[str, Any]) -> None:
    """Leave the finished dataset alone in its folder, but for what an extension has cut that its command continues:
    shards that neither manifest nor card names."""
    if root.facts(PARENT_LOG) is not None:  # it may have come as far as to tell of itself
        explain(root, manifest)
        write_object(root, LOG_NAME, log)
    if not extension_begun(root, manifest.id):
        sweep(root, manifest)
        root.remove(WORK_FOLDER)


def sweep(root: Files, manifest: Manifest) -> None:
    """Remove files under the shard folders that the manifest does not name: left by an interrupted --overwrite, or by
    an extension that was given up."""
    entries = manifest.entries
    expected = {shard.path for entry in entries for shard in entry.shards}
    for folder in ("phases", "validation"):
        for name in root.names(folder):
            if name not in expected:
                root.remove(name)
        root.remove_empty_folders(folder)


def _differences(before: dict[str, Any], now: dict[str, Any]) -> str:
    different = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    return "; ".join(f"{key} was {_short(before.get(key))}, now {_short(now.get(key))}" for key in different)


def _short(value: Any) -> str:
    text = "not given" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:16]}..."
