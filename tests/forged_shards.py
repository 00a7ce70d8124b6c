"""Datasets whose digests, sizes and ids fit, but whose content was changed: what only `verify` can find."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from curriculum.manifest import Manifest, PhaseEntry, load_manifest
from curriculum.shard_format import open_shard
from pipeline.progress import Silent
from pipeline.segment import Rows
from pipeline.shard import write_shard
from pipeline.verify import VerifyReport, verify_dataset


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


def open_shard_of(root: Path, path: str) -> Any:
    manifest, entry = load_manifest(root), entry_of(root, path)
    seq_len = next(phase.seq_len for phase in manifest.phases if entry in phase.shards)
    return open_shard(
        root / path, seq_len=seq_len, dtype=manifest.dtype, num_rows=entry.num_rows, num_bytes=entry.num_bytes
    )


def forge_shard(root: Path, path: str, change: Callable[[Columns], None]) -> None:
    """Rewrite a shard and make digest, size and id of the manifest fit."""
    shard = open_shard_of(root, path)
    edges = shard.doc_offsets
    columns = Columns(
        tokens=shard.tokens.copy(),
        starts=[shard.doc_positions[a:b].tolist() for a, b in pairwise(edges)],
        offset=shard.offset.copy(),
        document=shard.document.copy(),
    )
    change(columns)
    rows = Rows(
        tokens=columns.tokens,
        doc_positions=np.array([start for row in columns.starts for start in row], np.uint32),
        doc_offsets=np.cumsum([0, *map(len, columns.starts)]).astype(np.int32),
        offset=columns.offset,
        document=columns.document,
    )
    entry = write_shard(root, root / "aside", path, rows)
    (root / "aside").rmdir()
    manifest = load_manifest(root)
    forge_manifest(root, phases=tuple(_with_shard(phase, entry) for phase in manifest.phases))


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
