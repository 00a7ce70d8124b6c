"""The files beside the shards, in a folder that is pulled into.

In:  what a place offers, and what the folder has.   Out: what is missing there; those files.
Guarantee: the tokenizer has the sha256 of the manifest; the card and its picture are made from the manifest, never
taken from a stranger; a build log tells of this dataset, or is refused.

    missing_beside(offer, target, build_log=False)     ["tokenizer.json", "schedule.svg", "README.md", ...]
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from curriculum.errors import DataError
from curriculum.manifest import FILE_NAME
from pipeline.card import explanations
from pipeline.files.disk import DiskFiles
from pipeline.layout import write_bytes
from pipeline.sharing.contents import (
    BUILD_LOG,
    EXPLANATIONS,
    MAX_LOG_BYTES,
    MAX_TOKENIZER_BYTES,
    SIGNATURE,
    TOKENIZER,
    tells_of,
)
from pipeline.sharing.counting import uncounted
from pipeline.sharing.digests import digest_of, size_of
from pipeline.sharing.offer import Offer
from pipeline.sharing.place import Place
from pipeline.sharing.target import Target


def made_here(offer: Offer) -> dict[str, bytes]:
    """Files that need no further request: what explains the manifest, and the manifest."""
    return {**explanations(offer.manifest), FILE_NAME: offer.text}


def missing_beside(offer: Offer, target: Target, *, build_log: bool) -> list[str]:
    """Names of the files beside the shards that are missing, or of another dataset."""
    folder = target.folder
    names = []
    if digest_of(folder / TOKENIZER, uncounted) != offer.manifest.tokenizer.sha256:
        names.append(TOKENIZER)
    names += [name for name in EXPLANATIONS if not target.same or size_of(folder / name) is None]
    if build_log and BUILD_LOG in offer.sizes and (not target.same or size_of(folder / BUILD_LOG) is None):
        names.append(BUILD_LOG)
    if offer.signature is not None and not _holds(folder / SIGNATURE, offer.signature):
        names.append(SIGNATURE)
    if not target.same:
        names.append(FILE_NAME)
    return names


def read_build_log(place: Place, offer: Offer) -> bytes:
    """Before the first shard moves: one of another dataset is no reason to stop when all is done.

    Raises:
        DataError: it tells of another dataset.
    """
    text = place.read(BUILD_LOG, MAX_LOG_BYTES) or b""
    if not tells_of(text, offer.manifest):
        raise DataError(f"{place.where}: {BUILD_LOG} does not tell of this dataset. Pull without --build-log.")
    return text


def read_tokenizer(place: Place, offer: Offer) -> bytes:
    """Before the first shard moves, too.

    Raises:
        DataError: it is not that of the manifest.
    """
    text = place.read(TOKENIZER, MAX_TOKENIZER_BYTES)
    expected = offer.manifest.tokenizer.sha256
    if text is None or hashlib.sha256(text).hexdigest() != expected:
        found = "is not there" if text is None else f"has the sha256 {hashlib.sha256(text).hexdigest()}"
        raise DataError(
            f"{place.where}: {TOKENIZER} {found}, the manifest says {expected}. Have the dataset pushed again."
        )
    return text


def write_beside(
    offer: Offer, files: DiskFiles, names: Sequence[str], tokenizer: bytes | None, log: bytes | None
) -> None:
    """What is missing; tokenizer and build log as they were read, None if they stay away."""
    if tokenizer is not None:
        write_bytes(files, TOKENIZER, tokenizer)
    for name, data in explanations(offer.manifest).items():
        if name in names:
            write_bytes(files, name, data)
    if log is not None:
        write_bytes(files, BUILD_LOG, log)
    elif FILE_NAME in names:
        files.remove(BUILD_LOG)  # of another dataset


def _holds(path: Path, data: bytes) -> bool:
    return size_of(path) == len(data) and path.read_bytes() == data
