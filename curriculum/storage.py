"""Where shards come from: the folder of a dataset, mapped.

In:  places, runs of rows that a reader is about to hand out.   Out: the mapped shard that holds each.
Guarantee: a shard is checked when it is first touched, and its size again each time rows of it are asked for: reading a
mapped file that shrank, or vanished from a network file system, kills the process with SIGBUS. At most
`MAX_OPEN_SHARDS` maps are kept.

`Storage` is what a reader needs; `curriculum.remote` has one that fetches ranges of rows into a local cache.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, Protocol

from curriculum.errors import DataError
from curriculum.manifest import Manifest, load_manifest
from curriculum.shard_format import Shard, open_shard

MAX_OPEN_SHARDS = 64
"""Each open shard is one map of the process; systems allow 65,530 of them, and other libraries want some too."""
HELD_OUT = -1
"""The phase index of held-out rows."""


class Place(NamedTuple):
    """Consecutive rows of one shard, and what they are for."""

    phase: int
    """index into manifest.phases, or HELD_OUT"""
    shard: int
    """index into the phase's shards"""
    start: int
    """first row in the shard"""
    stop: int
    step: int = -1
    micro: int = 0


class Storage(Protocol):
    """A finished dataset somewhere."""

    where: str
    """folder or address; begins messages"""
    manifest: Manifest

    def shard(self, place: Place) -> Shard:
        """The shard of which the place's rows can be read now.

        Raises:
            DataError: the shard is missing, damaged, or shrank since it was opened.
        """

    def stream(self, places: Iterator[Place]) -> Iterator[tuple[Place, Shard]]:
        """The same for one place after the other, in order; a remote storage fetches ahead."""

    def check(self) -> None:
        """Check every shard as far as that is possible without reading it.

        Raises:
            DataError: names the first shard that is missing or damaged.
        """


class LocalStorage:
    """A folder that `curriculum build` wrote."""

    def __init__(self, root: Path) -> None:
        """Read the manifest.

        Raises:
            DataError: there is no finished dataset, or its manifest is damaged.
        """
        self.root = root
        self.where = str(root)
        self.manifest = load_manifest(root)
        # Not a method: a cache that knew its owner would keep maps of a dropped reader until a garbage collection.
        self._open = lru_cache(maxsize=MAX_OPEN_SHARDS)(partial(_open_shard, root, self.manifest))

    def shard(self, place: Place) -> Shard:
        """The mapped shard; its file is looked at each time, which takes 3 us."""
        return self._whole(place.phase, place.shard)[0]

    def stream(self, places: Iterator[Place]) -> Iterator[tuple[Place, Shard]]:
        """The same, with one descriptor for all places of a shard: it tells in 0.3 us whether the file shrank.

        A file that is removed or replaced while its places are read is no danger: descriptor and map keep it.
        """
        for (phase, index), of_shard in groupby(places, key=itemgetter(0, 1)):
            shard, path, num_bytes = self._whole(phase, index)
            with _descriptor(path) as descriptor:
                for place in of_shard:
                    size = os.lseek(descriptor, 0, os.SEEK_END)
                    if size < num_bytes:
                        self._open.cache_clear()  # who copies it again gets a new map
                        raise _shrank(path, num_bytes, size)
                    yield place, shard

    def check(self) -> None:
        """Size and footer of every shard."""
        for phase, entry in enumerate(self.manifest.phases):
            for index in range(len(entry.shards)):
                _open_shard(self.root, self.manifest, phase, index)
        for index in range(len(self.manifest.validation.shards) if self.manifest.validation else 0):
            _open_shard(self.root, self.manifest, HELD_OUT, index)

    def _whole(self, phase: int, index: int) -> tuple[Shard, str, int]:
        """A shard whose file is there and no shorter than it was when it was mapped, its path and its size."""
        shard, path, num_bytes, inode = self._open(phase, index)
        try:
            now = os.stat(path)  # noqa: PTH116 - Path.stat takes three times as long
        except OSError as error:
            raise _vanished(path, error) from None
        if now.st_ino != inode:  # another file has its name: the map is of one that may have shrunk
            self._open.cache_clear()
            shard, path, num_bytes, inode = self._open(phase, index)
        elif now.st_size < num_bytes:
            raise _shrank(path, num_bytes, now.st_size)
        return shard, path, num_bytes

    def __reduce__(self) -> tuple[type[LocalStorage], tuple[Path]]:
        return LocalStorage, (self.root,)


def _open_shard(root: Path, manifest: Manifest, phase: int, index: int) -> tuple[Shard, str, int, int]:
    """A shard, its path, its size and the inode of its file."""
    entry = manifest.validation if phase == HELD_OUT else manifest.phases[phase]
    assert entry is not None
    shard = entry.shards[index]
    path = root / shard.path
    mapped = open_shard(
        path,
        seq_len=entry.seq_len,
        dtype=manifest.dtype,
        num_rows=shard.num_rows,
        num_bytes=shard.num_bytes,
        data_offset=shard.data_offset,
        packed=manifest.packed and phase != HELD_OUT,  # held-out rows are plain
    )
    return mapped, str(path), shard.num_bytes, path.stat().st_ino


@contextmanager
def _descriptor(path: str) -> Iterator[int]:
    try:
        with open(path, "rb", buffering=0) as file:
            yield file.fileno()
    except OSError as error:  # of the open, or of a question to a network file system that lost the file
        raise _vanished(path, error) from None


def _shrank(path: str, num_bytes: int, size: int) -> DataError:
    return DataError(
        f"{path}: the shard shrank while it was open, from {num_bytes:,} to {size:,} bytes. Copy it again and resume "
        f"from the last cursor."
    )


def _vanished(path: str, error: OSError) -> DataError:
    return DataError(
        f"{path}: the shard vanished while it was open ({error.strerror}). Put it back and resume from the last cursor."
    )
