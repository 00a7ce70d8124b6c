"""What a place that is pushed to holds, and which of its shards need not be sent.

In:  a place, and the manifest that is to be there.   Out: `Holding`, or a refusal that names both datasets.
Guarantee: another dataset is replaced only with --overwrite; a place that holds anything else is never touched, and
what else lies beside a dataset stays. Shards of equal plans have equal names and sizes, so one that is there counts
only if the manifest there gives it the same digest, or if the marker says that a push of this very dataset put it
there. One that is there in both forms, plain and compressed, counts in none: one of them was to replace the other, and
may not be whole. Looking changes nothing.

    nothing                                     a push begins
    manifest.json, of this dataset              what is missing is sent
    manifest.json, of which it is an extension  the new shards are sent; it stays what it is until they are there
    manifest.json, another                      refused, unless --overwrite
    .push.json, no manifest.json                an interrupted push: it goes on if it was of this dataset
    .push.json that says "anew"                 an interrupted push that was to send all again: so does this one, also
                                                if it is of an extension
    README.md, in a new repository of the Hub   replaced, and told: its commits keep it
    anything else                               refused
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import orjson

from curriculum.errors import BuildError
from curriculum.manifest import FILE_NAME, Manifest
from curriculum.shard_format import COMPRESSED
from pipeline.sharing.contents import (
    CARD,
    FRESH,
    MARKER,
    MAX_MANIFEST_BYTES,
    is_of_a_dataset,
    is_shard_name,
    parse_replaceable,
    relation,
    shards_of,
)
from pipeline.sharing.place import Place

MAX_MARKER_BYTES = 1 << 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Holding:
    """What a push may do at a place."""

    sizes: dict[str, int]
    manifest_text: bytes | None
    """of the manifest there"""
    fresh_card: bool
    """its README.md is what people wrote on the page of a new repository"""
    same: bool
    """it is that of the dataset that is pushed"""
    replaces: bool
    """what is there ends being a dataset before the first shard is sent: it is another one"""
    anew: bool
    """everything is sent again: that was asked for, now or by a push that was interrupted"""
    unfinished: bool
    """by one that was interrupted"""
    marked: bool
    """the marker is there that this push is to write"""
    trusted: frozenset[str]
    """paths of shards that are there, plain or compressed"""
    doubtful: tuple[str, ...]
    """names of this dataset's shards that hold something else, or may"""
    strangers: tuple[str, ...]
    """shards that are none of this dataset"""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Marker:
    """What `.push.json` says."""

    id: str
    anew: bool


def look(place: Place, manifest: Manifest, *, overwrite: bool) -> Holding:
    """Look at a place.

    Raises:
        BuildError: it holds what must not be replaced.
        DataError: it holds a damaged manifest.
    """
    sizes = place.sizes()
    text = place.read(FILE_NAME, MAX_MANIFEST_BYTES) if FILE_NAME in sizes else None
    marker = _marked(place) if MARKER in sizes else None
    before = (
        None if text is None else parse_replaceable(text, f"{place.where.rstrip('/')}/{FILE_NAME}", overwrite=overwrite)
    )
    if text is None:
        _require_ours(place, sizes, marker, overwrite=overwrite)
    how = None if before is None else relation(manifest, before)
    ancestors = {manifest.id, *(entry.parent for entry in manifest.build.extensions)}
    if not overwrite:
        if before is not None:
            _require_related(place.where, manifest, before)
        if marker is not None and marker.id not in ancestors:
            raise BuildError(
                f"{place.where}: a push of another dataset, {marker.id or 'of unknown id'}, goes on there or was "
                f"interrupted; this one is {manifest.id}. Let it end, give --overwrite to replace it, or another place."
            )
    replaces = text is not None and how not in ("same", "extension")
    # With --overwrite what is there counts for nothing: it may be damaged.
    there = {} if before is None or overwrite else {shard.path: shard.sha256 for shard in shards_of(before)}
    ours = marker is not None and marker.id == manifest.id
    unfinished = marker is not None and marker.anew and marker.id in ancestors
    anew = unfinished or (overwrite and how in ("same", "extension"))
    trusted, doubtful = set(), []
    for shard in shards_of(manifest):
        known = not anew and (ours or there.get(shard.path) == shard.sha256)
        forms = [name for name in (shard.path, shard.path + COMPRESSED) if name in sizes]
        if known and (sizes.get(shard.path) == shard.num_bytes or sizes.get(shard.path + COMPRESSED, 0) > 0):
            trusted.update([shard.path] if len(forms) == 1 else [])
        elif not anew:
            doubtful += forms
    own = {name for shard in shards_of(manifest) for name in (shard.path, shard.path + COMPRESSED)}
    return Holding(
        sizes=sizes,
        manifest_text=text,
        same=how == "same",
        replaces=replaces,
        anew=anew,
        unfinished=unfinished,
        marked=marker == _Marker(id=manifest.id, anew=anew),
        trusted=frozenset(trusted),
        doubtful=tuple(doubtful),
        fresh_card=text is None and marker is None and place.begins_with_card and CARD in sizes,
        strangers=tuple(name for name in sizes if is_shard_name(name) and name not in own),
    )


def marker_of(manifest: Manifest, *, anew: bool) -> bytes:
    """The content of the marker.

    Args:
        manifest: of the dataset that is pushed.
        anew: nothing that was there before counts.
    """
    value = {"format": "curriculum-push", "id": manifest.id}
    return json.dumps({**value, "anew": True} if anew else value).encode() + b"\n"


def _marked(place: Place) -> _Marker:
    """What the marker says; of no dataset if it is damaged."""
    try:
        value = orjson.loads(place.read(MARKER, MAX_MARKER_BYTES) or b"")
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        return _Marker(id="", anew=False)
    return _Marker(id=str(value.get("id", ""))[:80], anew=value.get("anew") is True)


def _require_ours(place: Place, sizes: dict[str, int], marker: _Marker | None, *, overwrite: bool) -> None:
    """A place without a manifest: empty, a new repository, or an interrupted push, which may have begun anywhere."""
    if marker is not None:
        return
    names = set(sizes) - FRESH
    if place.begins_with_card:
        names -= {CARD}
    foreign = sorted(name for name in names if not overwrite or not is_of_a_dataset(name))
    if foreign:
        hint = "" if any(not is_of_a_dataset(name) for name in names) else " --overwrite replaces it."
        raise BuildError(
            f"{place.where}: holds {foreign[0][:80]!r} and is not a curriculum dataset, so nothing there is touched. "
            f"Give an empty or new place.{hint}"
        )


def _require_related(where: str, manifest: Manifest, before: Manifest) -> None:
    how = relation(manifest, before)
    if how == "before":
        raise BuildError(
            f"{where}: holds {before.id}, an extension of {manifest.id}, which is to be pushed. It holds all steps of "
            f"it already; give --overwrite to go back, or another place."
        )
    if how == "other":
        raise BuildError(
            f"{where}: holds dataset {before.id}; {manifest.id} is to be pushed. Give --overwrite to replace it, or "
            f"another place."
        )
