"""A dataset in a store, as a `curriculum.storage.Storage`.

In:  its address, such as s3://bucket/dataset.   Out: the shards of places, whose rows are there and checked.
Guarantee: batches are equal to those of a local copy. Opening costs one manifest read. Whoever reads every row
(world size 1), and everybody who reads small shards, gets shards that were compared with their sha256.

    storage = RemoteStorage("s3://bucket/dataset")      Reader(storage).steps(rank=3, world_size=8)
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from curriculum.errors import ConfigError, CurriculumError, DataError
from curriculum.manifest import FILE_NAME, Manifest, parse_manifest
from curriculum.remote.cache_folder import CacheFolder
from curriculum.remote.cached_shard import CachedShard
from curriculum.remote.failures import final_error
from curriculum.remote.fetcher import Fetcher, Job
from curriculum.remote.guess import Pattern, continuing, following
from curriculum.remote.read_ahead import ReadAhead
from curriculum.remote.shard_cache import Key, ShardCache
from curriculum.remote.shard_source import ShardDescription, ShardSource
from curriculum.remote.store import Store
from curriculum.shard_format import Shard
from curriculum.storage import HELD_OUT, Place

Verify = Literal["auto", "shard", "ranges"]
WHOLE_BYTES = 8 << 20
"""A shard up to this is one request: fetched whole and verified even where only some of its rows are needed."""


class RemoteStorage:
    """A finished dataset in a store that fsspec can read."""

    def __init__(
        self,
        url: str,
        *,
        cache_dir: str | Path | None = None,
        cache_bytes: int = 8 << 30,
        timeout_seconds: float = 60.0,
        verify: Verify = "auto",
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Read the manifest.

        Args:
            url: address of the folder that holds manifest.json.
            cache_dir: folder for what is downloaded; each process makes one of its own in it. None: in the system's
                folder for temporary files, which TMPDIR names.
            cache_bytes: at most so much is kept on disk.
            timeout_seconds: a range that does not arrive within it, all attempts together, is an error.
            verify: "auto" fetches a shard whole and compares its sha256 before use where every row of it is read
                (world size 1) or where it is at most 8 MiB; "shard" always; "ranges" never.
            storage_options: for the file system of fsspec: credentials, endpoint_url and so on.

        Raises:
            ConfigError: a wrong option, or the package for the protocol is not installed.
            DataError: there is no finished dataset, or it cannot be read.
        """
        if verify not in get_args(Verify):
            raise ConfigError(f"verify is {verify!r}; it is one of {', '.join(map(repr, get_args(Verify)))}.")
        if timeout_seconds <= 0 or cache_bytes < 1:
            raise ConfigError(f"timeout_seconds={timeout_seconds} and cache_bytes={cache_bytes}: both are positive.")
        self._again = partial(
            RemoteStorage,
            url,
            cache_dir=cache_dir,
            cache_bytes=cache_bytes,
            timeout_seconds=timeout_seconds,
            verify=verify,
            storage_options=storage_options,
        )
        self._verify = verify
        self._pid = os.getpid()
        try:
            self._store = Store(url, storage_options or {})
        except CurriculumError:
            raise
        except Exception as error:  # some clients connect while they are made
            raise final_error(error, url) from error
        self.where = self._store.url
        self._fetcher = Fetcher(timeout_seconds)
        weakref.finalize(self, self._fetcher.close)
        self.manifest = parse_manifest(self._read_manifest(), self._store.address(FILE_NAME))
        self._folder = CacheFolder(Path(cache_dir) if cache_dir is not None else None)
        make = partial(_cached_shard, self.manifest, self._store, self._folder, self._fetcher)  # without a cycle
        self._cache = ShardCache(make, cache_bytes)
        self._guessing = threading.Lock()
        self._pattern = Pattern(self.manifest)
        self._stride_rows = 0
        self._expected: Place | None = None
        self._guess: Iterator[tuple[Place, Shard]] = iter(())

    def shard(self, place: Place) -> Shard:
        """The shard, once the rows of the place are there.

        Raises:
            DataError: they cannot be had, or are damaged.
            ConfigError: this process is a fork of the one that opened the dataset.
        """
        self._require_same_process()
        with self._guessing:
            if self._expected is None or self._expected[:4] != place[:4]:
                stride_rows = self._pattern.stride(place)
                if not stride_rows:
                    self._expected, self._guess = None, iter(())
                    return next(shard for _, shard in self._stream(iter([place]), self._reads_whole))
                # Who reads every row leaves none out between two places.
                whole = partial(self._reads_whole, every_row=stride_rows == place.stop - place.start)
                self._stride_rows = stride_rows
                self._guess = self._stream(continuing(self.manifest, place, stride_rows), whole)
            self._expected = None  # if it fails, nothing is expected any more
            shard = next(shard for _, shard in self._guess)
            self._expected = following(self.manifest, place, self._stride_rows)
            return shard

    def stream(self, places: Iterator[Place]) -> Iterator[tuple[Place, Shard]]:
        """The same for one place after the other, fetching ahead."""
        self._require_same_process()
        return self._stream(places, self._reads_whole)

    def _stream(
        self, places: Iterator[Place], reads_whole: Callable[[Place, Place | None], bool]
    ) -> Iterator[tuple[Place, Shard]]:
        ahead = ReadAhead(places, cache=self._cache, fetcher=self._fetcher, reads_whole=reads_whole)
        with closing(ahead.tickets()) as tickets:
            for ticket in tickets:
                try:
                    shard = ticket.shard.shard(partial(_columns, self._cache, self._fetcher, ticket.key))
                except DataError:  # a digest that was wrong once may have been damaged on the way: read it anew
                    self._cache.drop(ticket.shard)
                    raise
                yield ticket.place, shard
                self._require_same_process()

    def check(self) -> None:
        """Size of every shard, without reading any."""
        self._require_same_process()
        phases, held_out = self.manifest.phases, self.manifest.validation
        keys = [(phase, index) for phase, entry in enumerate(phases) for index in range(len(entry.shards))]
        keys += [(HELD_OUT, index) for index in range(len(held_out.shards) if held_out else 0)]
        wanted = [True]
        jobs = []
        for key in keys:
            source = ShardSource(_describe(self.manifest, key), self._store)
            jobs.append(self._fetcher.submit(Job(source.check, source.where, lambda: wanted[0])))
        try:
            for job in jobs:
                self._fetcher.wait(job)
        finally:
            wanted[0] = False

    @property
    def bytes_fetched(self) -> int:
        """Bytes of shards that the store gave so far."""
        return self._store.bytes_read

    def _reads_whole(self, place: Place, then: Place | None, *, every_row: bool = False) -> bool:
        """Whether the shard of a place is fetched whole; `then` is the place read after it."""
        entry = _describe(self.manifest, (place.phase, place.shard)).entry
        if self._verify == "ranges":
            return False
        every_row = every_row or self._reads_every_row(place, then)
        if self._verify == "auto" and entry.num_bytes > WHOLE_BYTES and not every_row:
            return False
        if 2 * entry.num_bytes > self._cache.cache_bytes:
            raise ConfigError(
                f"{self.where}: {entry.path} has {entry.num_bytes:,} bytes and is fetched whole to compare its digest, "
                f"while another is read; cache_bytes is {self._cache.cache_bytes:,}. Give at least "
                f"{2 * entry.num_bytes:,}, or verify='ranges' to fetch rows only, without the digest."
            )
        return True

    def _reads_every_row(self, place: Place, then: Place | None) -> bool:
        """Whether these are the places of world size 1: rank r of W begins micro-batch m at row (m * W + r) * b."""
        if place.phase == HELD_OUT:
            return True
        rows_per_step = self.manifest.plan.phases[place.phase].rows_per_step
        rows, row = place.stop - place.start, place.start % rows_per_step  # shards hold whole steps
        if place.micro:
            return row == place.micro * rows
        if row or rows == rows_per_step:
            return not row
        # The first rows of a step are rank 0's for every W: only with W = 1 does it read on where it stopped.
        return then is not None and then[:3] == (place.phase, place.shard, place.stop)

    def _read_manifest(self) -> bytes:
        self._fetcher.run(self._store.pin, self.where)
        try:
            return self._fetcher.run(partial(self._store.read, FILE_NAME, None), self._store.address(FILE_NAME))
        except DataError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise DataError(
                    f"{self.where}: not a curriculum dataset, it has no {FILE_NAME}. Give the address of the folder "
                    f"that `curriculum build` wrote, as it was copied to the store; {FILE_NAME} is copied last."
                ) from None
            raise

    def _require_same_process(self) -> None:
        if os.getpid() != self._pid:
            raise ConfigError(
                f"{self.where}: opened in process {self._pid} and read in its fork {os.getpid()}. Connections and "
                f"threads do not survive a fork: open the dataset in the process that reads it, or start it "
                f"with spawn."
            )

    def __reduce__(self) -> tuple[partial[RemoteStorage], tuple[()]]:
        return self._again, ()


def _describe(manifest: Manifest, key: Key) -> ShardDescription:
    phase, index = key
    entry = manifest.validation if phase == HELD_OUT else manifest.phases[phase]
    assert entry is not None
    return ShardDescription(
        entry=entry.shards[index],
        seq_len=entry.seq_len,
        dtype=manifest.dtype,
        vocab_size=manifest.tokenizer.vocab_size,
        packed=manifest.packed and phase != HELD_OUT,  # held-out rows are plain
    )


def _cached_shard(manifest: Manifest, store: Store, folder: CacheFolder, fetcher: Fetcher, key: Key) -> CachedShard:
    about = _describe(manifest, key)
    path = folder.shard_file(*key, about.entry.num_bytes)
    return CachedShard(ShardSource(about, store), path, folder, fetcher)


def _columns(cache: ShardCache, fetcher: Fetcher, key: Key) -> Shard:
    """A shard with everything but its tokens, fetched if it is not there any more, or not yet."""
    shard = cache.pin(key)
    try:
        for fetch in shard.want_columns():
            fetcher.wait(fetch)
        cache.make_room()
        return shard.opened()
    except DataError:
        cache.drop(shard)
        raise
    finally:
        cache.unpin(shard)
