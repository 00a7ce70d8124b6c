"""Datasets whose digests, sizes and ids fit, but whose content was changed, as anyone can who knows the format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curriculum.manifest import Manifest, PhaseEntry, load_manifest
from curriculum.shard_format import open_shard
from pipeline.files.address import dataset_files
from pipeline.progress import Silent
from pipeline.segment import Rows
from pipeline.shard import write_shard
from pipeline.verify import VerifyReport, verify_dataset

JsonManifest = dict[str, Any]


def verify(root: Path, *, quick: bool = False, workers: int = 1) -> VerifyReport:
    return verify_dataset(root, quick=quick, workers=workers, progress=Silent())


def entry_of(root: Path, path: str) -> Any:
    manifest = load_manifest(root)
    return next(shard for phase in manifest.phases for shard in phase.shards if shard.path == path)


@dataclass(kw_only=True)
class Columns:
    """The columns of a shard, free to be changed."""

    tokens: Any
    starts: list[list[int]]
    offset: Any
    document: Any
    num_tokens: Any = None
    """None, as the next two, where rows are not packed"""
    piece_offset: list[list[int]] | None = None
    piece_document: list[list[int]] | None = None


def open_shard_of(root: Path, path: str) -> Any:
    manifest, entry = load_manifest(root), entry_of(root, path)
    seq_len = next(phase.seq_len for phase in manifest.phases if entry in phase.shards)
    return open_shard(
        root / path,
        seq_len=seq_len,
        dtype=manifest.dtype,
        num_rows=entry.num_rows,
        num_bytes=entry.num_bytes,
        packed=manifest.packed,
    )


def forge_shard(root: Path, path: str, change: Callable[[Columns], None]) -> None:
    """Rewrite a shard and make digest, size and id of the manifest fit."""
    columns = columns_of(root, path)
    change(columns)
    write_columns(root, path, columns)


def columns_of(root: Path, path: str) -> Columns:
    """A copy of a shard's columns."""
    shard = open_shard_of(root, path)
    columns = Columns(
        tokens=shard.tokens.copy(),
        starts=_by_row(shard, shard.doc_positions),
        offset=shard.offset.copy(),
        document=shard.document.copy(),
    )
    if shard.num_tokens is not None:
        columns.num_tokens = shard.num_tokens.copy()
        columns.piece_offset = _by_row(shard, shard.piece_offset)
        columns.piece_document = _by_row(shard, shard.piece_document)
    return columns


def write_columns(root: Path, path: str, columns: Columns) -> None:
    """Write a shard and make digest, size and id of the manifest fit."""
    rows = Rows(
        tokens=columns.tokens,
        doc_positions=_end_to_end(columns.starts, np.uint32),
        doc_offsets=np.cumsum([0, *map(len, columns.starts)]).astype(np.int32),
        offset=columns.offset,
        document=columns.document,
        num_tokens=columns.num_tokens,
        piece_offset=None if columns.piece_offset is None else _end_to_end(columns.piece_offset, np.uint64),
        piece_document=None if columns.piece_document is None else _end_to_end(columns.piece_document, np.uint64),
    )
    entry = write_shard(dataset_files(root).write, path, rows)
    dataset_files(root).remove(".build")
    manifest = load_manifest(root)
    forge_manifest(root, phases=tuple(_with_shard(phase, entry) for phase in manifest.phases))


def _by_row(shard: Any, items: Any) -> list[list[int]]:
    return [items[a:b].tolist() for a, b in pairwise(shard.doc_offsets)]


def _end_to_end(lists: list[list[int]], dtype: Any) -> Any:
    return np.array([item for of_row in lists for item in of_row], dtype)


def _with_shard(phase: PhaseEntry, entry: Any) -> PhaseEntry:
    return replace(phase, shards=tuple(entry if old.path == entry.path else old for old in phase.shards))


def forge_manifest(root: Path, **changes: Any) -> Manifest:
    manifest = replace(load_manifest(root), **changes)
    (root / "manifest.json").write_text(json.dumps(manifest.to_json()), "utf-8")
    return manifest


def row_with_start(columns: Columns) -> int:
    """A row with a document start that is neither its first nor its last position."""
    seq_len = columns.tokens.shape[1] - 1
    return next(i for i, starts in enumerate(columns.starts) if starts and 1 < starts[0] < seq_len - 1)


def shard_with_starts(root: Path) -> str:
    """The first shard in which a document starts in the middle of a row; shards before it are good."""
    for phase in load_manifest(root).phases[1:]:
        for shard in phase.shards:
            positions = open_shard_of(root, shard.path).doc_positions
            if ((positions > 1) & (positions < phase.seq_len - 1)).any():
                return shard.path
    raise AssertionError("no such shard")


def read_manifest(dataset: Path) -> JsonManifest:
    return json.loads((dataset / "manifest.json").read_bytes())


def write_manifest(dataset: Path, manifest: JsonManifest, *, fix_id: bool) -> None:
    """Write it; `fix_id` as an attacker would, who recomputes the digest that the format documents."""
    if fix_id:
        body = {key: value for key, value in manifest.items() if key != "id"}
        text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        manifest["id"] = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    (dataset / "manifest.json").write_text(json.dumps(manifest))


def last_shard(manifest: JsonManifest) -> JsonManifest:
    """The manifest's entry for the last shard of the longest phase."""
    return manifest["phases"][-1]["shards"][-1]


def replace_last_shard(
    dataset: Path, change: Callable[[pa.Table], pa.Table], *, pieces: int = 1, compression: str | None = None
) -> Path:
    """Write the last shard anew with pyarrow, and a manifest that agrees with it."""
    last = last_shard(read_manifest(dataset))["path"]
    return rewrite_shard(dataset, last, change, pieces=pieces, compression=compression)


def rewrite_shard(
    dataset: Path,
    name: str,
    change: Callable[[pa.Table], pa.Table],
    *,
    pieces: int = 1,
    compression: str | None = None,
) -> Path:
    """Write a shard anew with pyarrow, and a manifest that agrees with it."""
    manifest = read_manifest(dataset)
    entry = next(shard for phase in manifest["phases"] for shard in phase["shards"] if shard["path"] == name)
    path = dataset / entry["path"]
    with pa.ipc.open_file(path) as reader:
        table = change(reader.read_all())
    path.unlink()  # a new file: an open map of the old one stays whole
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(path, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=-(-len(table) // pieces))
    entry["num_bytes"] = path.stat().st_size
    entry["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    write_manifest(dataset, manifest, fix_id=True)
    return path


def with_type(table: pa.Table, name: str, type_: pa.DataType, *, nullable: bool = False) -> pa.Table:
    """The table with one column of another type."""
    i = table.schema.get_field_index(name)
    column = pa.array(table.column(name).to_pylist(), type_)
    return table.set_column(i, pa.field(name, type_, nullable=nullable), column)
