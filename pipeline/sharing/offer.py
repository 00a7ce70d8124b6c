"""What a place has: its manifest, checked before anything else, and where each shard lies.

In:  a place.   Out: `Offer`.
Guarantee: at most 256 MiB of the manifest are read; it is parsed, and its signature compared, before any other file is
asked for. A shard lies under its path, or compressed under its path and `.zst`; another size than the manifest's is
none.

    read_offer(place).source(shard)     Source(name="phases/.../shard-000000.arrow.zst", num_bytes=201_326, ...)
"""

from __future__ import annotations

from dataclasses import dataclass

from curriculum.errors import DataError
from curriculum.manifest import FILE_NAME, Manifest, parse_manifest
from curriculum.shard_format import COMPRESSED
from pipeline.sharing.contents import (
    MARKER,
    MAX_MANIFEST_BYTES,
    MAX_SIGNATURE_BYTES,
    SIGNATURE,
    require_movable,
)
from pipeline.sharing.place import Place
from pipeline.sharing.selection import Selected
from pipeline.sharing.signature import check_signature, is_armored

SLACK_BYTES = 1 << 20
"""What cannot be compressed grows a little: a compressed shard that is larger than the plain one by more is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where a shard comes from."""

    wanted: Selected
    name: str
    num_bytes: int
    """of that file"""

    @property
    def compressed(self) -> bool:
        """Whether it has to be decompressed."""
        return self.name != self.wanted.entry.path


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """A dataset at a place."""

    where: str
    text: bytes
    """of manifest.json"""
    manifest: Manifest
    signature: bytes | None
    """None also where the file of that name is something else"""
    signer: str | None
    """who signed it, if that was asked for"""
    sizes: dict[str, int]

    def source(self, wanted: Selected) -> Source | None:
        """The plain shard, else the compressed one; None if neither is there, or has a size that it cannot have."""
        path, plain = wanted.entry.path, wanted.entry.num_bytes
        if self.sizes.get(path) == plain:
            return Source(wanted=wanted, name=path, num_bytes=plain)
        return self._compressed(wanted)

    def other_form(self, source: Source) -> Source | None:
        """The compressed shard beside a plain one, which a push that was interrupted had begun to replace it by."""
        return None if source.compressed else self._compressed(source.wanted)

    def _compressed(self, wanted: Selected) -> Source | None:
        path, plain = wanted.entry.path, wanted.entry.num_bytes
        compressed = self.sizes.get(path + COMPRESSED)
        if compressed is not None and 0 < compressed <= plain + plain // 64 + SLACK_BYTES:
            return Source(wanted=wanted, name=path + COMPRESSED, num_bytes=compressed)
        return None

    def sources(self, wanted: list[Selected]) -> list[Source]:
        """Of all of them.

        Raises:
            DataError: one is not there, or has another size.
        """
        found = [self.source(each) for each in wanted]
        missing = [each for each, source in zip(wanted, found, strict=True) if source is None]
        if missing:
            raise DataError(self._lacks(missing))
        return [source for source in found if source is not None]

    def _lacks(self, missing: list[Selected]) -> str:
        first = missing[0].entry
        more = f" (the first of {len(missing):,} such shards)" if len(missing) > 1 else ""
        size = self.sizes.get(first.path)
        if size is not None and size < 0:
            return (
                f"{self.where}: the server does not say how many bytes {first.path} has{more}. Have it send its files "
                f"as they are, with their lengths."
            )
        if size is not None:
            return (
                f"{self.where}: {first.path} has {size:,} bytes, the manifest says {first.num_bytes:,}{more}. The copy "
                f"there is damaged: push the dataset again from where it is whole (curriculum push --overwrite)."
            )
        return (
            f"{self.where}: {first.path} is not there{more}: the dataset was pushed in part, or the place is damaged. "
            f"Pull what is there by --phases or --steps, or have the rest pushed (curriculum push)."
        )


def read_offer(place: Place, verify_key: str | None = None) -> Offer:
    """Read and check the manifest of the dataset at a place.

    Args:
        place: where it is.
        verify_key: whose signature the manifest must have; None to ask for none.

    Raises:
        DataError: there is none, it is not to be trusted, or its signature is missing or another's.
    """
    text = place.read(FILE_NAME, MAX_MANIFEST_BYTES)
    where = f"{place.where.rstrip('/')}/{FILE_NAME}"
    if text is None:
        raise DataError(f"{place.where}: {_why_none(place)}")
    sizes = place.sizes()  # after the manifest: shards of a push that goes on meanwhile are there then
    if FILE_NAME not in sizes:
        raise DataError(
            f"{place.where}: there is a {FILE_NAME}, and no list of files, as of a web server without an index. Pull "
            f"from a store or a folder."
        )
    signature = place.read(SIGNATURE, MAX_SIGNATURE_BYTES) if SIGNATURE in sizes else None
    signer = None
    if verify_key is not None:
        signer = check_signature(text, signature, verify_key, where)
    manifest = parse_manifest(text, where)
    require_movable(manifest, where)
    if signature is not None and not is_armored(signature):
        signature = None  # a file that nothing vouches for, or a link to a secret: it is not taken along
    return Offer(where=place.where, text=text, manifest=manifest, signature=signature, signer=signer, sizes=sizes)


def _why_none(place: Place) -> str:
    if place.read(MARKER, 1 << 12) is not None:
        return "a dataset is being pushed there, or its push was interrupted. Wait, or run that push again."
    return (
        f"not a curriculum dataset, it has no {FILE_NAME}. Give the address that `curriculum push` wrote to, or the "
        f"folder that `curriculum build` wrote."
    )
