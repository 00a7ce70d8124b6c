"""Files of a build below a prefix of an object store.

In:  an address such as s3://bucket/dataset, and options of its client.   Out: `Files`.
Guarantee: an object appears whole or not at all, because stores publish an upload at its end; nothing relies on
renames, conditional writes or locks. Every request is tried again while it may pass. After an upload the store is asked
for the size of what it has. Needed of the store: an object that was written is read by everybody from then on.

    ObjectFiles(url="s3://bucket/dataset", aside=".build/aside").address("manifest.json")
    ->  "s3://bucket/dataset/manifest.json"
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from curriculum.errors import BuildError
from curriculum.regular_file import MAX_JSON_BYTES
from pipeline.files.bucket import Bucket
from pipeline.files.connection import ATTEMPT_SECONDS, Connection
from pipeline.files.contract import FileFacts, OpenFile
from pipeline.files.lease import LEASE_NAME, leased, require_held
from pipeline.files.local_copies import cannot_keep, drop_copies, keep_copy, local_copy, new_local_file
from pipeline.files.retries import PATIENT, Patience
from pipeline.files.spool import Spooled
from pipeline.files.storage_options import NO_OPTIONS, StorageOptions
from pipeline.files.together import settling_beside

T = TypeVar("T")
RANGE_BYTES = 16 << 20
"""Largest request to read a part of an object: what is lost when a connection drops."""
REQUESTS_AT_ONCE = 8


class _SizeError(OSError):
    """The store has another size than was sent: an upload that was cut off, or two writers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectFiles:
    """A prefix; see `pipeline.files.contract.Files`."""

    url: str
    aside: str
    """folder for what only the running build needs, relative"""
    options: StorageOptions = NO_OPTIONS

    @property
    def where(self) -> str:
        """The address."""
        return self.url

    def address(self, name: str) -> str:
        """The address of an object."""
        return f"{self.url}/{name}" if name else self.url

    def facts(self, name: str) -> FileFacts | None:
        """Size, and ETag or version."""

        def attempt(bucket: Bucket) -> FileFacts | None:
            try:
                found = bucket.identify(name, ATTEMPT_SECONDS)
            except FileNotFoundError:
                return None
            return FileFacts(num_bytes=found.size, stamp=",".join(found.version))

        return self._ask(attempt, name, "read")

    def facts_of(self, names: Sequence[str]) -> list[FileFacts | None]:
        """Eight requests at once."""
        return self._at_once(self.facts, names)

    def children(self, under: str = "") -> list[str]:
        """Names directly below, but for the lease, which is no content."""
        found = self._ask(lambda bucket: bucket.children(under, ATTEMPT_SECONDS), under, "listed")
        return [name for name in found if name != LEASE_NAME]

    def names(self, under: str) -> list[str]:
        """Names of all objects below."""
        found = self._ask(lambda bucket: sorted(bucket.listing(under, ATTEMPT_SECONDS)), under, "listed")
        return [name for name in found if name != LEASE_NAME]

    def read(self, name: str, patience: Patience = PATIENT, most_bytes: int = MAX_JSON_BYTES) -> bytes | None:
        """All bytes, if they are at most so many."""

        def attempt(bucket: Bucket) -> bytes | None:
            try:
                return bucket.read(name, None, ATTEMPT_SECONDS, most_bytes)
            except FileNotFoundError:
                return None

        return self._ask(attempt, name, "read", patience)

    def read_into(self, name: str, start: int, out: memoryview) -> int:
        """Ranges of at most 16 MiB, each tried again by itself."""
        done = 0
        while done < len(out):
            first, stop = start + done, start + min(len(out), done + RANGE_BYTES)
            data = self._ask(partial(_read_range, name=name, start=first, stop=stop), name, "read")
            if len(data) > stop - first:
                raise BuildError(f"{self.address(name)}: the store ignores byte ranges, by which files are read here.")
            out[done : done + len(data)] = data
            done += len(data)
            if len(data) < stop - first:
                break
        return done

    def buffer(self, name: str) -> pa.Buffer:
        """A map of a copy."""
        path = self.local(name)
        try:
            with pa.memory_map(str(path)) as source:
                return source.read_buffer()
        except OSError as error:
            raise cannot_keep(path, error) from error

    def local(self, name: str) -> Path:
        """A copy that stays until the process ends or changes the object."""
        path = local_copy(self.url, name)
        if path is None:
            path = self._download(name)
            keep_copy(self.url, name, path)
        return path

    def write(self, name: str, *, hashed: bool = False) -> Spooled:
        """Spooled on this machine, then one upload."""
        drop_copies(self.url, name)
        return Spooled(partial(self.upload, name), hashed=hashed)

    def together(self) -> AbstractContextManager[OpenFile]:
        """Uploads go on beside the next file."""
        return settling_beside(self.write)

    def write_small(self, name: str, data: bytes, patience: Patience = PATIENT) -> None:
        """Write an object at once, without asking for its size: the lease is read back anyway."""
        self._ask(lambda bucket: bucket.put(name, data, ATTEMPT_SECONDS), name, "written", patience)

    def remove(self, name: str) -> None:
        """An object, and everything below that name."""
        drop_copies(self.url, name)
        self.remove_object(name)
        self._at_once(self.remove_object, self.names(name))

    def forget_unfinished(self) -> None:
        """What lies aside, and uploads in parts that nobody will finish."""
        self.remove(self.aside)
        self._ask(lambda bucket: bucket.forget_uploads(ATTEMPT_SECONDS), "", "listed")

    def remove_empty_folders(self, under: str) -> None:
        """There are no folders."""

    def flush(self) -> None:
        """Every removal is known to all when it returns."""

    def held(self) -> AbstractContextManager[None]:
        """A lease, renewed while the block runs."""
        return leased(self)

    def require_own_folders(self, names: Sequence[str]) -> None:
        """There are no links."""

    def free_bytes(self) -> int | None:
        """Nobody can tell."""
        return None

    def sizes(self, patience: Patience = PATIENT) -> dict[str, int]:
        """Bytes of every object, by one listing."""
        found = self._ask(lambda bucket: bucket.listing("", ATTEMPT_SECONDS), "", "listed", patience)
        return {name: identity.size for name, identity in found.items() if name != LEASE_NAME}

    def _at_once(self, do: Callable[[str], T], names: Sequence[str]) -> list[T]:
        with ThreadPoolExecutor(REQUESTS_AT_ONCE) as threads:
            return list(threads.map(do, names))

    def _ask(self, attempt: Callable[[Bucket], T], name: str, doing: str, patience: Patience = PATIENT) -> T:
        return Connection(url=self.url, options=self.options).ask(attempt, self.address(name), doing, patience)

    def remove_object(self, name: str, patience: Patience = PATIENT) -> None:
        """One object, if it is there."""
        if name != LEASE_NAME:
            require_held(self.url)
        self._ask(lambda bucket: bucket.delete(name, ATTEMPT_SECONDS), name, "removed", patience)

    def upload(
        self,
        name: str,
        path: Path,
        num_bytes: int,
        *,
        patience: Patience = PATIENT,
        seen: Callable[[int], None] = lambda amount: None,
    ) -> None:
        """Replace an object by a file of this machine; `seen` is told of bytes, again where some are sent again."""

        def attempt(bucket: Bucket) -> None:
            require_held(self.url)  # before each: a connection that is cut may be that of a machine which slept
            bucket.upload(name, path, num_bytes, ATTEMPT_SECONDS, seen)
            found = bucket.identify(name, ATTEMPT_SECONDS).size
            if found != num_bytes:
                raise _SizeError(f"{num_bytes:,} bytes were sent, the store has {found:,}")

        self._ask(attempt, name, "written", patience)

    def _download(self, name: str) -> Path:
        facts = self.facts(name)
        if facts is None:
            raise BuildError(
                f"{self.address(name)}: the store has no such object. Run the same command again: what is missing is "
                f"made anew."
            )
        if facts.num_bytes < 0:
            raise BuildError(f"{self.address(name)}: the store does not say how many bytes it has. Copy it to a disk.")
        path = new_local_file()
        block = memoryview(bytearray(min(RANGE_BYTES, facts.num_bytes)))
        try:
            with open(path, "xb", buffering=0) as file:
                for start in range(0, facts.num_bytes, RANGE_BYTES):
                    file.write(block[: self.read_into(name, start, block[: facts.num_bytes - start])])
        except OSError as error:
            raise cannot_keep(path, error) from error
        return path


def _read_range(bucket: Bucket, name: str, start: int, stop: int) -> bytes:
    return bucket.read_range(name, start, stop, ATTEMPT_SECONDS)
