"""What belongs to a dataset at a place, by its name.

In:  names, manifests.   Out: whether they are of a dataset, and how two datasets are related.
Guarantee: only shards below `phases/` and `validation/` move under the names that a manifest gives; one that asks for
other names, or for one twice, is refused. A file counts as a shard that was left there only under a name that builds
give: what else lies in those folders is somebody's.

    is_shard_name("phases/00000-len0000008/shard-000000.arrow.zst")     True; of "phases/notes.md" False
    relation(new, old)     "same", "extension" (of old), "before" (old is an extension of it), "other"
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import orjson

from curriculum.errors import DataError
from curriculum.manifest import FORMAT, Manifest, ShardEntry, parse_manifest
from pipeline.layout import LOG_NAME, SIGNATURE_NAME

CARD = "README.md"
PICTURE = "schedule.svg"
EXPLANATIONS = (PICTURE, CARD)
"""Made of the manifest alone, so that they are made where they are wanted."""
TOKENIZER = "tokenizer.json"
BUILD_LOG, SIGNATURE = LOG_NAME, SIGNATURE_NAME
MARKER = ".push.json"
"""At a place while a dataset is pushed there: which one. Shards of equal plans have equal names and sizes."""
FOLDERS = ("phases", "validation")
_SHARD = re.compile(r"(phases/[0-9]{5,}-len[0-9]{7,}|validation)/shard-[0-9]{6,}\.arrow(\.zst)?")
FRESH = frozenset({".gitattributes", ".gitignore", "LICENSE", "LICENSE.md"})
"""What a new repository may hold. No push touches them."""
MAX_MANIFEST_BYTES = 256 << 20
MAX_TOKENIZER_BYTES = 256 << 20
MAX_SIGNATURE_BYTES = 64 << 10
MAX_LOG_BYTES = 64 << 20

Relation = Literal["same", "extension", "before", "other"]


def shards_of(manifest: Manifest) -> list[ShardEntry]:
    """Every shard, held-out rows last."""
    return [shard for entry in manifest.entries for shard in entry.shards]


def require_movable(manifest: Manifest, where: str) -> None:
    """Refuse paths that no build writes: outside the folders of shards, one twice, or one inside another.

    Raises:
        DataError: names the first.
    """
    seen: dict[str, str] = {}
    for shard in shards_of(manifest):
        path = shard.path
        if path.split("/")[0] not in FOLDERS or "/" not in path or not path.endswith(".arrow"):
            raise DataError(
                f"{where}: a shard has the path {path[:80]!r}, expected one below phases/ or validation/ that ends in "
                f".arrow. Do not trust a dataset that asks for other files."
            )
        same = seen.setdefault(path.casefold(), path)  # some disks do not tell capitals
        if same is not path:
            raise DataError(f"{where}: the path {path[:80]!r} is given to two shards. Do not trust this dataset.")
    for folded, path in seen.items():
        parts = folded.split("/")
        inside = next((n for n in range(2, len(parts)) if "/".join(parts[:n]) in seen), None)
        if inside is not None:
            raise DataError(f"{where}: the shard {path[:80]!r} lies inside another. Do not trust this dataset.")


def parse_replaceable(text: bytes, where: str, *, overwrite: bool) -> Manifest | None:
    """The manifest of what is there already; None of a damaged or newer one, if it may go.

    Raises:
        DataError: it is damaged or newer, and may not go; or it is no manifest of ours.
    """
    try:
        return parse_manifest(text, where)
    except DataError:
        if overwrite and f'"{FORMAT}"'.encode() in text:
            return None
        raise


def relation(new: Manifest, old: Manifest) -> Relation:
    """What `new` is to `old`; an extension is one only if it keeps every shard of the dataset before."""
    if new.id == old.id:
        return "same"
    if _extends(new, old):
        return "extension"
    if _extends(old, new):
        return "before"
    return "other"


def _extends(new: Manifest, old: Manifest) -> bool:
    if not any(entry.parent == old.id for entry in new.build.extensions):
        return False
    kept = {shard.path: shard.sha256 for shard in shards_of(new)}
    return all(kept.get(shard.path) == shard.sha256 for shard in shards_of(old))


def tells_of(log: bytes, manifest: Manifest) -> bool:
    """Whether a build log is that of a dataset."""
    try:
        value = orjson.loads(log)
    except orjson.JSONDecodeError:
        return False
    return isinstance(value, dict) and value.get("id") == manifest.id


def damaged(path: Path, found: str) -> DataError:
    """The refusal to send a file."""
    return DataError(
        f"{path}: {found}. It is damaged and is not sent: pull it again from where it is whole, or build the dataset "
        f"again with --overwrite."
    )


def is_shard_name(name: str) -> bool:
    """Whether a file has a name that a build gives to a shard, or a push to a compressed one."""
    return _SHARD.fullmatch(name) is not None


def is_of_a_dataset(name: str) -> bool:
    """Whether a file may have been put there by a push or a pull."""
    return is_shard_name(name) or name in (*EXPLANATIONS, TOKENIZER, BUILD_LOG, SIGNATURE, MARKER)
