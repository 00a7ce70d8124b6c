"""The streams that a finished dataset was cut from, while the token store is there.

In:  the manifest, the build log of the same build (store, parts, what is held out).
Out: the `StreamSpec` of each source.
Guarantee: the same stream as the build's, or an error: parts must be there, and their tokens add up to the manifest's.

    built_stream(root, manifest, 0, log, store=None).parts     the parts that the build log names
"""

from __future__ import annotations

from typing import Any

from curriculum.errors import ConfigError
from curriculum.manifest import Manifest
from pipeline.files.address import is_url, store_files
from pipeline.files.contract import Files
from pipeline.store_names import MARKER, index_name
from pipeline.stream import StreamSpec, count_partitions

SOURCE_STORES = "source_stores"
"""Key of a build log: the store of each source that is not in that of the build."""


def built_stream(root: Files, manifest: Manifest, number: int, log: dict[str, Any], store: Files | None) -> StreamSpec:
    """The stream that the build cut of a source.

    Args:
        root: place of the dataset.
        manifest: its manifest.
        number: index of the source.
        log: its build log.
        store: the token store; None for the one that the log names.

    Raises:
        ConfigError: a part is missing, or nothing tells how to reach the store.
    """
    name = manifest.sources[number].name
    listed = log["parts"] if len(manifest.sources) == 1 else log["source_parts"][name]
    files, parts = store or own_store(root, log, name), tuple(str(part) for part in listed)
    for part in parts:
        if files.facts(index_name(part)) is None:
            raise ConfigError(f"its part {part} is missing.")
    return StreamSpec(
        store=files,
        parts=parts,
        dtype=manifest.dtype,
        seed=manifest.seed,
        held_out_below=int(log["held_out_below"]),
        num_partitions=count_partitions(training_tokens(manifest, number)),
        source=name,
    )


def own_store(root: Files, log: dict[str, Any], source: str = "") -> Files:
    """The store of the build, or the one that a source which was added later was tokenized into; one in an object
    store is asked only by who has its options, for a dataset there.

    Raises:
        ConfigError: it is in an object store and the dataset is not.
    """
    address = log.get(SOURCE_STORES, {}).get(source, log["store"])
    if not is_url(address):
        return store_files(address)
    if not is_url(root.where):
        raise ConfigError(
            f"{root.where}: its token store is {address}, which is asked only by who has the options of its client. "
            f"Give {address} as --store, with --storage-option if it needs any."
        )
    return store_files(address, root.options)


def require_store(store: Files, root: Files, manifest: Manifest, number: int | None) -> None:
    """Refuse a place that is no token store, before it is held: that would make the folder.

    Args:
        store: the place.
        root: place of the dataset.
        manifest: its manifest.
        number: index of the source that is read there; None for those that the dataset was built from.

    Raises:
        ConfigError: it is none.
    """
    if store.facts(MARKER) is None:
        raise ConfigError(
            f"{store.where}: there is no token store, it has no {MARKER}, and the new steps of {root.where} are cut "
            f"from the one {which_store(manifest, number)}. Give the place of that one as --store, or build the "
            f"dataset anew with more steps."
        )


def which_store(manifest: Manifest, number: int | None) -> str:
    """Which token store the tokens of a source are in, as people know it: the end of "the store ..."."""
    if number is None or number < manifest.num_built_sources:
        return "that it was built with"
    return f"that source {manifest.sources[number].name!r} was added with"


def training_tokens(manifest: Manifest, number: int) -> int:
    """Of one epoch of a source."""
    source, accounting = manifest.sources[number], manifest.accounting
    held_out = accounting.validation_tokens if source.validation_tokens is None else source.validation_tokens
    return source.tokens - held_out


def require_same_tokens(found: int, manifest: Manifest, number: int) -> None:
    """Refuse a store that was changed since the build: it would give other rows.

    Raises:
        ConfigError: it holds more or fewer tokens.
    """
    expected = training_tokens(manifest, number)
    if found != expected:
        raise ConfigError(f"its parts hold {found:,} training tokens, the dataset was cut from {expected:,}.")
