"""A bucket of the Hugging Face Hub as a place.

In:  hf://buckets/ORG/NAME[/folder], and options `token` and `endpoint`.   Out: `Place`.
Guarantee: a bucket has no commits; what is sent appears when a batch of it ends, and replaces what was there. Files
come and go by Xet, which sends only what the Hub does not have, and chooses itself how many at once. A bucket that is
missing is created by a push, private unless asked otherwise.

    HubBucket(hub_address("hf://buckets/org/scratch/books")).sizes()     {"manifest.json": 4211, ...}
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any, TypeVar

from curriculum.errors import BuildError, ConfigError, DataError
from pipeline.files.lease import LEASE_NAME, leased, require_held
from pipeline.files.local_copies import new_local_folder
from pipeline.files.retries import FIRST_CONTACT, PATIENT, Patience
from pipeline.files.storage_options import NO_OPTIONS, StorageOptions
from pipeline.progress import Advance
from pipeline.publish import make_folder, move_into_place
from pipeline.sharing.counting import uncounted
from pipeline.sharing.hub_address import HubAddress
from pipeline.sharing.hub_client import hub_api, quiet, quiet_beside
from pipeline.sharing.hub_failures import ask, is_not_there
from pipeline.sharing.place import unflushed

T = TypeVar("T")
BATCH_BYTES = 1 << 30
MAX_LEASE_BYTES = 1 << 16
NEEDED = "list_bucket_tree", "get_bucket_paths_info", "create_bucket", "batch_bucket_files", "download_bucket_files"
ASIDE = ".hub"


class HubBucket:
    """See `pipeline.sharing.place.Place`."""

    def __init__(
        self,
        address: HubAddress,
        options: StorageOptions = NO_OPTIONS,
        *,
        pushing: bool = False,
        private: bool = True,
        patience: Patience = PATIENT,
        first_contact: Patience = FIRST_CONTACT,
    ) -> None:
        """
        Args:
            pushing: a bucket that is missing is empty, instead of an error.
            private: of a bucket that a push creates.

        Raises:
            ConfigError: huggingface_hub is missing or too old, or an option is unknown.
        """
        self._address, self._options, self._pushing, self._private = address, options, pushing, private
        self._patience, self._first_contact = patience, first_contact
        self._exists = False
        self._quiet = quiet
        self._api: Any = hub_api(options)
        if not all(hasattr(self._api, name) for name in NEEDED):
            from huggingface_hub import __version__

            raise ConfigError(
                f"{self.where}: huggingface_hub {__version__} knows no buckets: pip install 'huggingface_hub>=1.5'."
            )

    @property
    def where(self) -> str:
        """The address."""
        return self._address.at(None)

    @property
    def batch_bytes(self) -> int:
        """A gibibyte."""
        return BATCH_BYTES

    @property
    def begins_with_card(self) -> bool:
        """No: a README.md there is somebody's."""
        return False

    @contextmanager
    def held(self) -> Iterator[None]:
        """A lease, as builds have it in stores; a bucket that is missing is created before."""
        self._require_bucket()
        beside = copy(self)
        beside._quiet = quiet_beside  # a lease that waited for an upload would look abandoned
        with leased(_Leasable(beside)):
            yield

    def sizes(self) -> dict[str, int]:
        """One listing."""
        start = self._address.path("")

        def attempt() -> dict[str, int]:
            try:
                tree = self._api.list_bucket_tree(self._address.name, self._address.folder or None, recursive=True)
                return {entry.path: entry.size for entry in tree if entry.type == "file"}
            except Exception as error:
                if self._pushing and is_not_there(error):
                    return {}
                raise

        found = self._ask(attempt, "listed", self._first_contact)
        names = {path.removeprefix(start): size for path, size in found.items() if path.startswith(start)}
        return {name: size for name, size in names.items() if name != LEASE_NAME}

    def read(self, name: str, most_bytes: int) -> bytes | None:
        """A small file, after a question for its size."""
        found = self._ask(lambda: self._infos([name]), "read", self._first_contact)
        if not found:
            return None
        if found[0].size > most_bytes:
            raise DataError(
                f"{self.where}: {name} has {found[0].size:,} bytes, at most {most_bytes:,} are read. Do not trust it."
            )
        with new_local_folder() as folder:
            self.fetch({name: found[0].size}, folder, uncounted)
            return (folder / name).read_bytes()

    def fetch(self, sizes: Mapping[str, int], folder: Path, advance: Advance) -> None:
        """Several at once, each moved into place when it is whole."""
        aside = folder / ASIDE
        make_folder(aside, unflushed)

        def attempt() -> None:
            infos = {info.path: info for info in self._infos(list(sizes))}
            for name, num_bytes in sizes.items():
                info = infos.get(self._address.path(name))
                if info is None or info.size != num_bytes:
                    has = "is not there" if info is None else f"has {info.size:,} bytes"
                    raise DataError(f"{self.where}: {name} {has}, and had {num_bytes:,}. Run the same command again.")
            self._api.download_bucket_files(
                self._address.name,
                [(infos[self._address.path(name)], aside / name) for name in sizes],
                raise_on_missing_files=True,
            )

        try:
            self._ask(attempt, "read")
            for name, num_bytes in sizes.items():
                if (aside / name).stat().st_size != num_bytes:
                    raise DataError(f"{self.where}: {name} came with another size than {num_bytes:,}. Do not trust it.")
                move_into_place(aside / name, folder / name, unflushed)
                advance(num_bytes)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def expect(self, names: Sequence[str]) -> None:
        """A bucket takes any number."""

    def send(self, names: Sequence[str], folder: Path, advance: Advance) -> None:
        """In one batch; a bucket that is missing is created before."""
        if not names:
            return
        self._require_bucket()
        files = [(folder / name, self._address.path(name)) for name in names]
        for path, _ in files:
            if not path.is_file():
                raise BuildError(f"{path}: is not there any more. Put it back and run the same command again.")

        def attempt() -> None:
            require_held(self.where)  # before each attempt
            self._api.batch_bucket_files(self._address.name, add=files)

        self._ask(attempt, "written")
        advance(sum(path.stat().st_size for path, _ in files))

    def remove(self, names: Sequence[str]) -> None:
        """In one batch."""

        def attempt() -> None:
            there = [info.path for info in self._infos(names)]
            if there:
                self._api.batch_bucket_files(self._address.name, delete=there)

        if names:
            if list(names) != [LEASE_NAME]:
                require_held(self.where)
            self._ask(attempt, "removed")

    def put(self, name: str, data: bytes) -> None:
        """A small file from memory."""
        added = [(data, self._address.path(name))]
        self._ask(lambda: self._api.batch_bucket_files(self._address.name, add=added), "written", self._first_contact)

    def _require_bucket(self) -> None:
        if not self._exists:
            self._ask(self._create, "created")
            self._exists = True

    def _create(self) -> None:
        self._api.create_bucket(self._address.name, private=self._private, exist_ok=True)

    def _infos(self, names: Sequence[str]) -> list[Any]:
        """Those of these files that are there."""
        try:
            paths = [self._address.path(name) for name in names]
            return list(self._api.get_bucket_paths_info(self._address.name, paths))
        except Exception as error:
            if self._pushing and is_not_there(error):
                return []
            raise

    def _ask(self, attempt: Callable[[], T], doing: str, patience: Patience | None = None) -> T:
        def once() -> T:
            with self._quiet():
                return attempt()

        return ask(once, self.where, doing, patience or self._patience, self._options)


class _Leasable:
    """What a lease needs of a bucket: see `pipeline.files.lease.Place`."""

    def __init__(self, bucket: HubBucket) -> None:
        self._bucket = bucket
        self.where = bucket.where

    def read(self, name: str, patience: Patience) -> bytes | None:
        return self._bucket.read(name, MAX_LEASE_BYTES)

    def write_small(self, name: str, data: bytes, patience: Patience) -> None:
        self._bucket.put(name, data)

    def remove_object(self, name: str, patience: Patience) -> None:
        self._bucket.remove([name])
