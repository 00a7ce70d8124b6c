"""Is a node of a cluster fit to work on this build?

In:  what the driver has and sees (`NodeCheck`).   Out, on a node: None, or one sentence that names the node.
Guarantee: a node with another release, other source files or another tokenizer encodes nothing: it might give other
bytes. A node that does not see the corpus, the store or the output is found before work begins.

    node 10.0.0.7 (3f9c0c12): has fastokens 0.3.4, this build uses 0.3.5. Install the same versions on every node ...
"""

from __future__ import annotations

import hashlib
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import curriculum
import pipeline
from curriculum.errors import BuildError
from pipeline.engines.fence import Fence
from pipeline.files.contract import Files
from pipeline.layout import write_bytes

DECIDE_BYTES = ("seqlen-curriculum", "numpy", "pyarrow", "tokenizers", "fastokens")
"""Packages whose release may show in the bytes of a store or a dataset."""
WHAT_MUST_BE_SHARED = (
    "Every node must see the corpus, the store and the output under the same name: put them on a file system that all "
    "nodes share, or in an object store."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedFolder:
    """A place that tasks write to, and the folder in it for what is not finished."""

    files: Files
    aside: str

    def name(self, token: str, node: str) -> str:
        """The file that a node leaves for the driver."""
        return f"{self.aside}/seen-{token}-{node}"


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeCheck:
    """What a node must have in common with the driver."""

    versions: dict[str, str]
    fence: Fence | None
    writes: tuple[SharedFolder, ...]
    reads: tuple[tuple[str, int], ...]
    """path and bytes of a few files of the corpus"""
    patience_seconds: float = 10.0
    """network file systems may remember for a while that a name was missing"""

    def complaint(self, node: str) -> str | None:
        """On the node: what is wrong with its packages and what it sees."""
        return self._other_versions(node) or self._unseen(node)

    def _other_versions(self, node: str) -> str | None:
        here = installed_versions()
        for name, wanted in self.versions.items():
            if here.get(name) != wanted:
                return (
                    f"{node}: has {name} {here.get(name)}, this build uses {wanted}. Install the same versions on "
                    f"every node, or take that node out of the cluster: other versions may give other bytes."
                )
        return None

    def _unseen(self, node: str) -> str | None:
        fence = self.fence
        if fence is not None and not _soon(fence.stands, self.patience_seconds):
            return f"{node}: does not see {fence.store.address(fence.name)}. {WHAT_MUST_BE_SHARED}"
        for path, num_bytes in self.reads:
            found = Path(path).stat().st_size if os.path.lexists(path) else None
            if found != num_bytes:
                sees = "does not see" if found is None else f"sees {found:,} instead of {num_bytes:,} bytes of"
                return f"{node}: {sees} {path}. {WHAT_MUST_BE_SHARED}"
        return None

    def leave_traces(self, node: str, node_id: str) -> str | None:
        """On the node: a file in every place that it will write to."""
        for place in self.writes:
            try:
                write_bytes(place.files, place.name(self._token, node_id), node_id.encode())
            except (BuildError, OSError) as error:
                return f"{node}: cannot write where this build does: {error} {WHAT_MUST_BE_SHARED}"
        return None

    def find_traces(self, node: str, node_id: str) -> str | None:
        """On the driver: whether what a node has written is here too; removes it."""
        for place in self.writes:
            name = place.name(self._token, node_id)
            if not _soon(lambda: place.files.read(name) == node_id.encode(), self.patience_seconds):  # noqa: B023
                return (
                    f"{node}: what it writes to {place.files.where} is not seen here: that is a disk of its own. "
                    f"{WHAT_MUST_BE_SHARED}"
                )
            place.files.remove(name)
        return None

    @property
    def _token(self) -> str:
        return self.fence.token if self.fence is not None else ""


@cache
def installed_versions() -> dict[str, str]:
    """Python, the packages that decide bytes, and a digest of our own source files."""
    versions = {name: _version(name) for name in DECIDE_BYTES}
    return {"Python": ".".join(platform.python_version_tuple()[:2]), **versions, "source files": source_digest()}


def source_digest() -> str:
    """Of every Python file of both packages: a checkout has the same release number for months."""
    digest = hashlib.sha256()
    for package in (curriculum, pipeline):
        root = Path(package.__path__[0])
        for path in sorted(root.rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _soon(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True
