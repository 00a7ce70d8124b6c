"""Commits on a branch of a dataset repository.

In:  files of a folder, or paths.   Out: commits, of a thousand files at most each.
Guarantee: a repository that is missing is created, and so is a branch, which then begins at the first commit of
`main`; one that somebody else created and filled meanwhile is not added to. A commit is made on top of the one that
was seen last: a branch that somebody else moved meanwhile is not added to, also not when a failed
attempt is repeated. If commits were made since the last one that was seen, all must say that they are of this run:
then an answer was lost, not the work.

    commits.upload({"8k/shard.arrow": Path("my-dataset/shard.arrow")})       the branch has it
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipeline.files.local_copies import new_local_folder
from pipeline.sharing.hub_failures import overtaken
from pipeline.sharing.hub_repository import Branch, HubRepository

OF_THE_HUB = ".gitattributes"
"""The Hub puts it into what is created, and needs it; it is no file of a dataset."""
MOST_OF_A_COMMIT = 1_000
"""Files; the Hub answers larger commits too late."""


class HubCommits:
    """The branch that the address names."""

    def __init__(self, repository: HubRepository, *, private: bool) -> None:
        """
        Args:
            private: of a repository that is created.
        """
        self._repository, self._private = repository, private
        self._seen: Branch | None = None
        self._own = f"push {secrets.token_hex(16)}"
        self._known: set[str | None] = set()
        self.made: str | None = None
        """the last commit that was made here"""

    @property
    def branch(self) -> Branch:
        """As it was seen last, after the commits made here."""
        if self._seen is None:
            self._seen = self._repository.branch()
        return self._seen

    def create(self) -> None:
        """The repository and the branch, where they are missing.

        Raises:
            BuildError: it may not be created, or somebody else has filled it meanwhile.
        """
        before = self.branch
        if before.exists:
            return
        api, name, revision = self._repository.api, self._repository.name, self._repository.revision

        def attempt() -> Branch:
            branch = self._repository.look()
            if branch.head is None:
                api.create_repo(name, repo_type="dataset", private=self._private, exist_ok=True)
                branch = self._repository.look()
            if branch.head is not None and not branch.exists:
                api.create_branch(name, branch=revision, revision=branch.head, repo_type="dataset", exist_ok=True)
                branch = self._repository.look()
            if not branch.exists:
                raise ConnectionError("it was created and is not seen yet")
            return branch

        now = self._repository.ask(attempt, "created")
        if before.head is None:
            empty = now.head is None or self._repository.listing(now.head).keys() <= {OF_THE_HUB}
        else:
            empty = now.head == before.head
        if not empty:
            raise overtaken(self._repository.address.at(self._repository.revision), "written")
        self._seen = now

    def upload(self, files: Mapping[str, Path]) -> None:
        """Add files, or replace them, in one commit (the library may make a few).

        Raises:
            BuildError: it cannot be written.
        """

        def attempt(parent: str | None) -> str:
            # Links, not patterns: `upload_folder` compares each pattern with each file of the folder.
            with new_local_folder() as links:
                for path, file in files.items():
                    link = links / path
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.symlink_to(file.resolve())
                return self._repository.api.upload_folder(
                    repo_id=self._repository.name,
                    folder_path=str(links),
                    commit_message=_message("Add", list(files)),
                    commit_description=self._own,
                    repo_type="dataset",
                    revision=self._repository.revision,
                    parent_commit=parent,
                ).oid

        self._commit(attempt, "written")

    def remove(self, paths: Sequence[str]) -> None:
        """Remove those of these files that are there.

        Raises:
            BuildError: they cannot be removed.
        """
        from huggingface_hub import CommitOperationDelete

        def attempt(parent: str | None) -> str | None:
            still = list(self._repository.look_at(paths, self._repository.revision))
            if not still:
                return parent
            return self._repository.api.create_commit(
                self._repository.name,
                [CommitOperationDelete(path_in_repo=path, is_folder=False) for path in still],
                commit_message=_message("Remove", still),
                commit_description=self._own,
                repo_type="dataset",
                revision=self._repository.revision,
                parent_commit=parent,
            ).oid

        if self.branch.exists and self.branch.head is not None:
            self._commit(attempt, "removed")

    def _commit(self, attempt: Callable[[str | None], str | None], doing: str) -> None:
        parent = self.branch.head
        self._known.add(parent)

        def once() -> str | None:
            head = self._repository.look().head
            if head in self._known:  # an answer may be older than the last commit: the Hub compares the parent, too
                return attempt(parent)
            if not self._all_ours(parent, head):
                raise overtaken(self._repository.address.at(self._repository.revision), doing)
            return attempt(head)

        self.made = self._repository.ask(once, doing)
        self._seen = Branch(head=self.made, exists=True)

    def _all_ours(self, parent: str | None, head: str | None) -> bool:
        """Whether every commit after one, up to another, was made by this run."""
        if head is None:
            return False
        for commit in self._repository.api.list_repo_commits(self._repository.name, repo_type="dataset", revision=head):
            if commit.commit_id == parent:
                return True
            if self._own not in commit.message:
                return False
        return parent is None


def _message(verb: str, paths: Sequence[str]) -> str:
    return f"{verb} {paths[0]}" if len(paths) == 1 else f"{verb} {len(paths):,} files"
