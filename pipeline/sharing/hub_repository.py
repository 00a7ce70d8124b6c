"""Questions to a dataset repository of the Hugging Face Hub.

In:  an address and options of the client.   Out: commits, sizes.
Guarantee: each question is tried again while it may pass (`pipeline.sharing.hub_failures`) and changes nothing; each
names a revision, so that any server with this interface can answer.

    repository.commit()                                        "9f2c...": what the address stands for now
    repository.sizes_of(["manifest.json"], "9f2c...")          {"manifest.json": 4211}
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from curriculum.errors import BuildError, DataError
from pipeline.files.retries import FIRST_CONTACT, PATIENT, Patience
from pipeline.files.storage_options import NO_OPTIONS, StorageOptions
from pipeline.sharing.hub_address import HubAddress
from pipeline.sharing.hub_client import hub_api, quiet
from pipeline.sharing.hub_failures import ask, is_not_there

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")
MAIN = "main"
MOST_ASKED = 500
"""Paths in one question."""
TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Branch:
    """What a push adds to."""

    head: str | None
    """its commit, or the one it would begin at; None of a repository that is missing or has no commit"""
    exists: bool


class HubRepository:
    """One repository at the revision of its address."""

    def __init__(
        self,
        address: HubAddress,
        options: StorageOptions = NO_OPTIONS,
        patience: Patience = PATIENT,
        first_contact: Patience = FIRST_CONTACT,
    ) -> None:
        """
        Raises:
            ConfigError: huggingface_hub is missing, or an option is unknown.
        """
        self.address, self.name = address, address.name
        self.revision = address.revision or MAIN
        self.api: HfApi = hub_api(options)
        self.first_contact = first_contact
        self._patience, self._options = patience, options

    def ask(self, attempt: Callable[[], T], doing: str, patience: Patience | None = None) -> T:
        """The answer, while the library is silent.

        Raises:
            BuildError: there is none.
        """

        def once() -> T:
            with quiet():
                return attempt()

        return ask(once, self.address.at(self.address.revision), doing, patience or self._patience, self._options)

    def commit(self) -> str:
        """The commit that the revision stands for now."""

        def attempt() -> str:
            info = self.api.repo_info(self.name, repo_type="dataset", revision=self.revision, timeout=TIMEOUT_SECONDS)
            if info.sha is None:
                raise DataError(f"{self.address.at(self.revision)}: the Hub names no commit. Name one after the @.")
            return info.sha

        return self.ask(attempt, "read", self.first_contact)

    def branch(self) -> Branch:
        """The branch that is pushed to."""
        return self.ask(self.look, "read", self.first_contact)

    def look(self) -> Branch:
        """One attempt of `branch`."""
        try:
            refs = self.api.list_repo_refs(self.name, repo_type="dataset")
        except Exception as error:
            if is_not_there(error):
                return Branch(head=None, exists=False)
            raise
        if any(tag.name == self.revision for tag in refs.tags):
            raise BuildError(f"{self.address.at(self.revision)}: is a tag, and cannot be added to. Name a branch.")
        for branch in refs.branches:
            if branch.name == self.revision:
                return Branch(head=branch.target_commit, exists=True)
        if self.revision == MAIN:
            return Branch(head=None, exists=True)
        first = self.api.list_repo_commits(self.name, repo_type="dataset", revision=MAIN)[-1]
        return Branch(head=first.commit_id, exists=False)

    def listing(self, commit: str) -> dict[str, int]:
        """Bytes of every file of the whole repository, by its path."""

        def attempt() -> dict[str, int]:
            tree = self.api.list_repo_tree(self.name, recursive=True, revision=commit, repo_type="dataset")
            return {entry.path: entry.size for entry in tree if hasattr(entry, "size")}

        return self.ask(attempt, "listed")

    def sizes_of(self, paths: Sequence[str], revision: str) -> dict[str, int]:
        """Bytes of those of these files that are there."""
        return self.ask(lambda: self.look_at(paths, revision), "read")

    def look_at(self, paths: Sequence[str], revision: str) -> dict[str, int]:
        """One attempt of `sizes_of`."""
        found: dict[str, int] = {}
        for start in range(0, len(paths), MOST_ASKED):
            part = list(paths[start : start + MOST_ASKED])
            infos = self.api.get_paths_info(self.name, part, repo_type="dataset", revision=revision)
            found.update({info.path: info.size for info in infos if hasattr(info, "size")})
        return found
