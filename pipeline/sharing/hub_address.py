"""Addresses of the Hugging Face Hub that a dataset is pushed to or pulled from.

In:  hf://datasets/ORG/NAME[@REVISION][/folder] or hf://buckets/ORG/NAME[/folder].   Out: `HubAddress`.
Guarantee: anything else is refused here, before the Hub is asked: a repository of models or a Space shows no dataset
and is not read by `load_dataset`. A slash within a branch is written %2F, but for refs/pr/N and refs/convert/NAME.

    hf://datasets/org/books@v2/8k       kind "datasets", name "org/books", revision "v2", folder "8k"
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast
from urllib.parse import quote, unquote

from curriculum.errors import ConfigError

_FORM = re.compile(
    r"hf://(?P<kind>[^/@]+)/(?P<name>[^/@]+/[^/@]+)"
    r"(?:@(?P<revision>refs/(?:pr|convert)/[^/]+|[^/]+))?(?:/(?P<folder>.*))?",
    re.DOTALL,
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SPECIAL = re.compile(r"refs/(?:pr|convert)/[^/]+")
FORMS = "hf://datasets/ORG/NAME, with @BRANCH and /folder behind it if wanted, or hf://buckets/ORG/NAME/folder"


@dataclass(frozen=True, kw_only=True, slots=True)
class HubAddress:
    """A folder of a dataset repository, or of a bucket."""

    kind: Literal["datasets", "buckets"]
    name: str
    """ORG/NAME"""
    revision: str | None
    """branch, tag or commit; None: the branch main; always None of a bucket, which has no commits"""
    folder: str
    """"" or a/b"""

    @property
    def is_commit(self) -> bool:
        """Whether its revision is a commit, which never changes."""
        return self.revision is not None and _COMMIT.fullmatch(self.revision) is not None

    def at(self, revision: str | None) -> str:
        """The address with this revision."""
        safe = "/" if revision is not None and _SPECIAL.fullmatch(revision) else ""
        shown = "" if revision is None else f"@{quote(revision, safe=safe)}"
        return f"hf://{self.kind}/{self.name}{shown}{'/' if self.folder else ''}{self.folder}"

    def path(self, name: str) -> str:
        """What the repository or bucket calls a file of the folder."""
        return f"{self.folder}/{name}" if self.folder else name


def hub_address(address: str) -> HubAddress:
    """Take an address apart.

    Raises:
        ConfigError: it names no dataset repository and no bucket.
    """
    form = _FORM.fullmatch(address.rstrip("/"))
    if form is None or form["kind"] not in ("datasets", "buckets"):
        raise ConfigError(f"{address!r} is no dataset repository and no bucket: give {FORMS}.")
    folder = form["folder"] or ""
    if _NAME.fullmatch(form["name"]) is None:
        raise ConfigError(
            f"{address!r}: a name is an organization or user, a slash and the name itself, each of A-Z, a-z, 0-9, '.', "
            f"'_' and '-'; give {FORMS}."
        )
    if form["kind"] == "buckets" and form["revision"] is not None:
        raise ConfigError(f"{address!r}: a bucket has no revisions; leave @{form['revision']} out.")
    if folder and any(part in ("", ".", "..") for part in folder.split("/")):
        raise ConfigError(f"{address!r}: a folder has no empty parts and no '.' or '..'; correct it.")
    kind = cast(Literal["datasets", "buckets"], form["kind"])
    revision = None if form["revision"] is None else unquote(form["revision"])
    return HubAddress(kind=kind, name=form["name"], revision=revision, folder=folder)
