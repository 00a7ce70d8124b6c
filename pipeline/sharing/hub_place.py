"""A dataset repository of the Hugging Face Hub as a place.

In:  hf://datasets/ORG/NAME[@REVISION][/folder], and options `token` and `endpoint`.   Out: `Place`.
Guarantee: a pull resolves the revision once, and everything comes from that commit, wherever the branch moves. A push
goes to a branch, `main` or the one named; what one call of `send` sends is committed before it returns, so that what
is sent later is seen later.

    HubPlace(hub_address("hf://datasets/org/books@v2")).where     hf://datasets/org/books@9f2c..., once it was asked
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from curriculum.errors import BuildError, ConfigError, DataError
from pipeline.files.local_copies import new_local_folder
from pipeline.files.retries import FIRST_CONTACT, PATIENT, Patience
from pipeline.files.storage_options import NO_OPTIONS, StorageOptions
from pipeline.progress import Advance
from pipeline.publish import make_folder, move_into_place
from pipeline.sharing.counting import uncounted
from pipeline.sharing.hub_address import HubAddress
from pipeline.sharing.hub_arrivals import Arrivals
from pipeline.sharing.hub_commits import MOST_OF_A_COMMIT, OF_THE_HUB, HubCommits
from pipeline.sharing.hub_download import download
from pipeline.sharing.hub_limits import check_counts
from pipeline.sharing.hub_repository import HubRepository
from pipeline.sharing.place import AT_ONCE, BEGUN, unflushed

PUSH_BYTES = 2 << 30
"""One commit, after which progress moves on: 500 of them for a terabyte."""
PULL_BYTES = 8 << 30
"""Each call lists the repository, and ends when its slowest file is there."""


class HubPlace:
    """See `pipeline.sharing.place.Place`."""

    def __init__(
        self,
        address: HubAddress,
        options: StorageOptions = NO_OPTIONS,
        at_once: int = AT_ONCE,
        *,
        pushing: bool = False,
        private: bool = True,
        patience: Patience = PATIENT,
        first_contact: Patience = FIRST_CONTACT,
    ) -> None:
        """
        Args:
            pushing: a repository or branch that is missing is empty, instead of an error.
            private: of a repository that a push creates.

        Raises:
            ConfigError: it is pushed to what cannot be added to; huggingface_hub is missing; an option is unknown.
        """
        if pushing and (address.is_commit or (address.revision or "").startswith("refs/")):
            raise ConfigError(f"{address.at(address.revision)}: nothing can be added to it; name a branch after the @.")
        self._address, self._at_once, self._pushing = address, at_once, pushing
        self._repository = HubRepository(address, options, patience, first_contact)
        self._commits = HubCommits(self._repository, private=private)
        self._pinned: str | None = None

    @property
    def where(self) -> str:
        """Its address; at the commit that is pulled once that is known, at the last one that a push made."""
        return self._address.at(self._pinned or self._commits.made or self._address.revision)

    @property
    def batch_bytes(self) -> int:
        """Eight gibibytes of a pull; two of a push, which makes a commit of them."""
        return PUSH_BYTES if self._pushing else PULL_BYTES

    @property
    def begins_with_card(self) -> bool:
        """Of a whole repository: people write one on its page before there is anything else."""
        return not self._address.folder

    def held(self) -> AbstractContextManager[None]:
        """Nothing: a commit names the one before, and is refused if the branch has moved."""
        return nullcontext()

    def sizes(self) -> dict[str, int]:
        """Bytes of every file of the folder, but for the Hub's own."""
        start = self._address.path("")
        found = {path: num_bytes for path, num_bytes in self._listing().items() if path.startswith(start)}
        return {path.removeprefix(start): num_bytes for path, num_bytes in found.items() if path != OF_THE_HUB}

    def read(self, name: str, most_bytes: int) -> bytes | None:
        """A small file, after a question for its size."""
        commit, path = self._commit(), self._address.path(name)
        num_bytes = None if commit is None else self._repository.sizes_of([path], commit).get(path)
        if num_bytes is None:
            return None
        if num_bytes > most_bytes:
            raise DataError(
                f"{self.where}: {name} has {num_bytes:,} bytes, at most {most_bytes:,} are read. Do not trust it."
            )
        with new_local_folder() as folder:
            self.fetch({name: num_bytes}, folder, uncounted)
            return (folder / name).read_bytes()

    def fetch(self, sizes: Mapping[str, int], folder: Path, advance: Advance) -> None:
        """By `snapshot_download`, at the commit; a call that was killed is continued by the next one for the folder."""
        commit = self._commit()
        if commit is None:
            raise DataError(f"{self.where}: has no files yet.")
        aside = folder / BEGUN / commit[:12]
        for left in (folder / BEGUN).glob("*"):
            if left != aside:
                shutil.rmtree(left, ignore_errors=True)
        make_folder(aside, unflushed)
        paths = {self._address.path(name): num_bytes for name, num_bytes in sizes.items()}
        arrivals = Arrivals(advance, sum(sizes.values()))

        def attempt() -> None:
            arrivals.begin(sum((aside / path).stat().st_size for path in paths if (aside / path).is_file()))
            missing = download(
                self._repository.api, self._address.name, commit, paths, aside, arrivals, at_once=self._at_once
            )
            if missing:  # why, in the words of the Hub; or it does not know such a file
                there = self._repository.look_at(missing, commit)
                gone = next((path for path in missing if path not in there), None)
                if gone is not None:
                    raise DataError(f"{self.where}: has no file {gone}. Pull another revision.")
                raise ConnectionError(f"{len(missing):,} files did not come")

        self._repository.ask(attempt, "read")
        for name in sizes:
            move_into_place(aside / self._address.path(name), folder / name, unflushed)
        arrivals.end()
        shutil.rmtree(folder / BEGUN, ignore_errors=True)

    def expect(self, names: Sequence[str]) -> None:
        """Refused if the repository would have more files than the Hub takes."""
        check_counts(self.where, self._listing(), [self._address.path(name) for name in names])

    def send(self, names: Sequence[str], folder: Path, advance: Advance) -> None:
        """By `upload_folder`, a thousand files at a time; a repository or branch that is missing is created before."""
        if not names:
            return
        self._commits.create()
        for start in range(0, len(names), MOST_OF_A_COMMIT):
            files = {self._address.path(name): folder / name for name in names[start : start + MOST_OF_A_COMMIT]}
            sizes = {path: _size(file) for path, file in files.items()}
            self._commits.upload(files)
            has = self._repository.sizes_of(list(files), self._commits.branch.head or self._repository.revision)
            wrong = next((path for path in files if has.get(path) != sizes[path]), None)
            if wrong is not None:
                raise BuildError(
                    f"{self.where}: the Hub took {len(files):,} files and has no {wrong} of {sizes[wrong]:,} bytes. "
                    f"Look for a .gitignore of the repository that names it, and whether the file changed meanwhile."
                )
            advance(sum(sizes.values()))

    def remove(self, names: Sequence[str]) -> None:
        """In one commit for each thousand."""
        for start in range(0, len(names), MOST_OF_A_COMMIT):
            self._commits.remove([self._address.path(name) for name in names[start : start + MOST_OF_A_COMMIT]])

    def _commit(self) -> str | None:
        """What is read: of a pull always the same; None of what a push may create."""
        if self._pushing:
            return self._commits.branch.head
        if self._pinned is None:
            self._pinned = self._repository.commit()
        return self._pinned

    def _listing(self) -> dict[str, int]:
        commit = self._commit()
        return {} if commit is None else self._repository.listing(commit)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise BuildError(f"{path}: cannot be read: {error.strerror}. Repair that and run again.") from error
