"""A prefix of an object store as a place: s3://, gs://, hf://buckets/ and whatever else fsspec has.

In:  the address, and options of its client.   Out: `Place`.
Guarantee: every request is tried again while it may pass (`pipeline.files.retries`); an upload is compared with the
size that the store then has; a file is fetched in ranges, and never more of it than was said.

    StorePlace("s3://bucket/my-dataset").sizes()     {"manifest.json": 4211, ...}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from curriculum.errors import BuildError, DataError
from pipeline.files.object_store import RANGE_BYTES, ObjectFiles
from pipeline.files.retries import FIRST_CONTACT
from pipeline.files.storage_options import NO_OPTIONS, StorageOptions
from pipeline.progress import Advance
from pipeline.publish import Aside
from pipeline.sharing.batches import do_each
from pipeline.sharing.counting import share
from pipeline.sharing.place import AT_ONCE, unflushed

BATCH_BYTES = 1 << 30
ASIDE = ".push"


class StorePlace:
    """See `pipeline.sharing.place.Place`."""

    def __init__(self, url: str, options: StorageOptions = NO_OPTIONS, at_once: int = AT_ONCE) -> None:
        self._files = ObjectFiles(url=url.rstrip("/"), aside=ASIDE, options=options)
        self._at_once = at_once

    @property
    def where(self) -> str:
        """The address."""
        return self._files.where

    @property
    def batch_bytes(self) -> int:
        """A gibibyte."""
        return BATCH_BYTES

    @property
    def begins_with_card(self) -> bool:
        """No: a README.md there is somebody's."""
        return False

    def held(self) -> AbstractContextManager[None]:
        """A lease, as builds have it."""
        return self._files.held()

    def sizes(self) -> dict[str, int]:
        """One listing; an address that nobody answers at is given up soon. What it leaves open is asked for."""
        sizes = self._files.sizes(FIRST_CONTACT)
        unknown = [name for name, num_bytes in sizes.items() if num_bytes < 0]  # of web servers with an index
        facts = zip(unknown, self._files.facts_of(unknown), strict=True)
        return sizes | {name: found.num_bytes for name, found in facts if found is not None}

    def read(self, name: str, most_bytes: int) -> bytes | None:
        """A small object, in ranges."""
        facts = self._files.facts(name)
        if facts is None:
            return None
        if facts.num_bytes < 0:  # a web server that does not say: as far as the limit
            return self._files.read(name, most_bytes=most_bytes)
        if facts.num_bytes > most_bytes:
            raise DataError(
                f"{self._files.address(name)}: {facts.num_bytes:,} bytes, at most {most_bytes:,} are read. Do not "
                f"trust it."
            )
        data = memoryview(bytearray(facts.num_bytes))
        if self._files.read_into(name, 0, data) != facts.num_bytes:
            raise self._other_size(name, facts.num_bytes)
        return bytes(data)

    def fetch(self, sizes: Mapping[str, int], folder: Path, advance: Advance) -> None:
        """In ranges of 16 MiB, each tried again by itself."""

        def fetch(name: str) -> None:
            num_bytes = sizes[name]
            block = memoryview(bytearray(min(RANGE_BYTES, num_bytes)))
            with Aside(folder / ASIDE, folder / name, flush_names=unflushed) as file:
                for start in range(0, num_bytes, RANGE_BYTES):
                    wanted = min(RANGE_BYTES, num_bytes - start)
                    if self._files.read_into(name, start, block[:wanted]) != wanted:
                        raise self._other_size(name, num_bytes)
                    file.write(block[:wanted])
                    advance(wanted)

        do_each(fetch, list(sizes), self._at_once)

    def expect(self, names: Sequence[str]) -> None:
        """A store takes any number."""

    def send(self, names: Sequence[str], folder: Path, advance: Advance) -> None:
        """An upload of each."""

        def send(name: str) -> None:
            path = folder / name
            try:
                num_bytes = path.stat().st_size
            except OSError as error:
                raise BuildError(f"{path}: cannot be read: {error.strerror}. Repair that and run again.") from error
            with share(advance, num_bytes, num_bytes) as seen:
                self._files.upload(name, path, num_bytes, seen=seen)

        do_each(send, names, self._at_once)

    def remove(self, names: Sequence[str]) -> None:
        """One request each."""
        do_each(self._files.remove_object, names, self._at_once)

    def _other_size(self, name: str, num_bytes: int) -> DataError:
        return DataError(
            f"{self._files.address(name)}: had {num_bytes:,} bytes and is shorter now: it was replaced while it was "
            f"read. Run the same command again."
        )
