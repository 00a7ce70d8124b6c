"""One part of an export: rows of one shard, as a task of a worker.

In:  the dataset, the part, where it goes.   Out: files, and a record that they are there.
Guarantee: the shard's bytes have the digest of the manifest, and every id is in the vocabulary, which a digest that
somebody else wrote does not tell; they are looked at in blocks. A record exists only when what it tells of is on the
disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from curriculum.errors import DataError
from curriculum.manifest import ShardEntry
from curriculum.storage import HELD_OUT, LocalStorage, Place, Storage
from pipeline.export_folder import write_object
from pipeline.exporters import exporter
from pipeline.exporters.contract import Target, Written
from pipeline.exporters.selection import Part
from pipeline.exporters.work_folder import WorkFolder
from pipeline.files.address import is_url
from pipeline.files.storage_options import StorageOptions
from pipeline.shard_checks import check_digest, check_ids

CACHE_BYTES = 1 << 30
"""Of shards of a store, in each worker: each is read once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """The dataset that is exported."""

    dataset: str
    """folder or address"""
    options: StorageOptions
    """of the client of its store"""
    dataset_id: str


def export_part(source: Source, work: WorkFolder, to: str, target: Target, part: Part, number: int) -> Written:
    """Write one part, then a record of it.

    Raises:
        DataError: its shard is missing or damaged, or the dataset is another one by now.
        BuildError: it cannot be written.
    """
    storage = _opened(source)
    if isinstance(storage, LocalStorage):
        _check_shard(storage, part)
    # Not `shard`: that of a store would read ahead what other workers take.
    _, shard = next(storage.stream(iter([Place(part.phase, part.shard, part.start, part.stop)])))
    where = f"{source.dataset.rstrip('/')}/{_entry(storage, part).path}"
    check_ids(where, shard, storage.manifest.tokenizer.vocab_size, part.start, part.stop)
    said = exporter(to).write(work, target, part, shard)
    write_object(work, record_path(work, number), said)
    return said


def record_path(work: WorkFolder, number: int) -> Path:
    """Where the record of a part is."""
    return work.root / "done" / f"{number:06d}.json"


def open_dataset(dataset: str, options: StorageOptions) -> Storage:
    """A folder, or the address of one in a store.

    Raises:
        DataError: there is no finished dataset.
    """
    if not is_url(dataset):
        return LocalStorage(Path(dataset))
    from curriculum.remote import RemoteStorage

    return RemoteStorage(dataset, cache_bytes=CACHE_BYTES, verify="shard", storage_options=options.values())


@lru_cache(maxsize=1)
def _opened(source: Source) -> Storage:
    """Opened once in a process."""
    storage = open_dataset(source.dataset, source.options)
    if storage.manifest.id != source.dataset_id:
        raise DataError(f"{source.dataset}: was replaced while it was exported. Run the same command again.")
    return storage


def _entry(storage: Storage, part: Part) -> ShardEntry:
    entry = storage.manifest.validation if part.phase == HELD_OUT else storage.manifest.phases[part.phase]
    assert entry is not None
    return entry.shards[part.shard]


def _check_shard(storage: LocalStorage, part: Part) -> None:
    """A storage on a disk compares no digests."""
    shard = _entry(storage, part)
    path = storage.root / shard.path
    if not path.is_file() or path.stat().st_size != shard.num_bytes:
        return  # what the storage says of it is more to the point
    try:
        check_digest(path, shard.sha256)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}. Make it readable.") from error
