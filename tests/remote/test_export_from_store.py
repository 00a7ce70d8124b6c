"""Exports of a dataset that lies in a store: as those of a folder, each shard compared with its digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from curriculum.errors import DataError
from curriculum.manifest import load_manifest
from pipeline.export import Export, export_dataset
from pipeline.progress import Silent
from remote.http_store import HttpStore


def export(dataset: str, out: Path, workers: int = 1) -> dict[str, bytes]:
    """The bytes of all files of an export."""
    asked = Export(to="npy", phases="0,7")
    export_dataset(dataset, str(out), asked, workers=workers, progress=Silent())
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_an_export_from_an_address_is_that_of_the_folder(
    small_dataset: Path, small_store: HttpStore, tmp_path: Path
) -> None:
    """Nobody has to pull a dataset first; each shard that is needed is fetched once."""
    found = export(small_store.url, tmp_path / "from-store")
    assert found == export(str(small_dataset), tmp_path / "from-folder")


def test_a_damaged_shard_of_a_store_is_refused(small_dataset: Path, small_store: HttpStore, tmp_path: Path) -> None:
    """A bit flipped in the store would be trained on."""
    victim = load_manifest(small_dataset).phases[7].shards[2]
    damaged = bytearray(small_store.files[victim.path])
    damaged[victim.data_offset] ^= 1
    small_store.files[victim.path] = bytes(damaged)
    with pytest.raises(DataError, match=victim.path):
        export(small_store.url, tmp_path / "out")
    assert not (tmp_path / "out" / "export.json").exists()
