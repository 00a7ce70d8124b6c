"""The streams that a finished dataset was cut from, while the token store is there.

In:  the manifest, the build log of the same build (store, parts, what is held out).
Out: the `StreamSpec` of each source.
Guarantee: the same stream as the build's, or an error: parts must be there, and their tokens add up to the manifest's.

    built_stream(root, manifest, 0, log, store=None).parts     the parts that the build log names
"""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

from curriculum.errors import ConfigError
from curriculum.json_object import JsonObject
from curriculum.manifest import Manifest
from curriculum.printable import shown
from pipeline.files.address import is_url, refuse_secret, store_files, url_parts
from pipeline.files.contract import Files
from pipeline.layout import LOG_NAME
from pipeline.store_names import MARKER, index_name
from pipeline.stream import StreamSpec, count_partitions

SOURCE_STORES = "source_stores"
"""Key of a build log: the store of each source that is not in that of the build."""
PART_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


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
    name, where = manifest.sources[number].name, root.address(LOG_NAME)
    one = len(manifest.sources) == 1
    top = JsonObject(log, where)
    parts = tuple(top.strings("parts") if one else top.object("source_parts").strings(name))
    files = store or own_store(root, log, name)
    for part in parts:
        if not PART_NAME.fullmatch(part):
            raise ConfigError(f"{where} names the part {shown(part)}, which no store has.")
        if files.facts(index_name(part)) is None:
            raise ConfigError(f"its part {part} is missing.")
    return StreamSpec(
        store=files,
        parts=parts,
        dtype=manifest.dtype,
        seed=manifest.seed,
        held_out_below=top.integer("held_out_below", most=2**64),
        num_partitions=count_partitions(training_tokens(manifest, number)),
        source=name,
    )


def own_store(root: Files, log: dict[str, Any], source: str = "") -> Files:
    """The store of the build, or the one that a source which was added later was tokenized into; one in an object
    store is asked only by who has its options, for a dataset there.

    A log may be a stranger's: it must not make us look wherever it says. It is followed to a place beside the dataset
    (in an object store: in its bucket), where a build puts it, and to any folder if it was written on this machine.

    Raises:
        ConfigError: it is in an object store and the dataset is not, or the log is not to be believed.
    """
    top = JsonObject(log, root.address(LOG_NAME))
    stores = top.object(SOURCE_STORES).raw if SOURCE_STORES in log else {}
    address = stores[source] if source in stores else top.string("store")
    if not isinstance(address, str) or not address.isprintable():
        raise ConfigError(f"{top.where}: the store is {shown(address)}, expected the place of one. Give it as --store.")
    refuse_secret(f"{top.where}: the store", address)
    if is_url(address) and not is_url(root.where):
        raise ConfigError(
            f"{root.where}: its token store is {address}, which is asked only by who has the options of its client. "
            f"Give {address} as --store, with --storage-option if it needs any."
        )
    if not _is_believed(root, log, address):
        raise ConfigError(
            f"{root.where}: its {LOG_NAME} says that its token store is {address}, which is not beside it, and was not "
            f"written on this machine. If you trust that place, give it as --store."
        )
    return store_files(address, root.options) if is_url(address) else store_files(address)


def _is_believed(root: Files, log: dict[str, Any], address: str) -> bool:
    if is_url(address):  # whoever names another bucket gets requests signed with our key
        return url_parts(address)[:2] == url_parts(root.where)[:2]
    if log.get("host") == platform.node():
        return True
    # Of the store by its name alone: to resolve it would be to look there.
    beside = {Path(root.where).absolute().parent, Path(root.where).resolve().parent}
    return not is_url(root.where) and Path(os.path.normpath(address)).absolute().parent in beside


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
