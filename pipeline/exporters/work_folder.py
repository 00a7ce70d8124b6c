"""Where an export is written before it is finished.

In:  the folder OUT.   Out: files below `OUT/.export`.
Guarantee: nothing has its final place before everything is complete; what a task wrote is on the disk before its
record says so. Every effect on the disk goes through `pipeline.publish`.

    OUT/.export/request.json        what is exported how
    OUT/.export/tree/...            what moves to OUT at the end
    OUT/.export/scratch/...         what only a later stage needs
    OUT/.export/done/000003.json    what task 3 wrote
    OUT/.export/aside/...           files that are not complete yet
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.publish import Aside, allocate, write_at

NAME = ".export"


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkFolder:
    """The unfinished files of an export into a folder."""

    out: str

    @property
    def root(self) -> Path:
        """The work folder itself."""
        return Path(self.out) / NAME

    @property
    def tree(self) -> Path:
        """What moves to OUT at the end."""
        return self.root / "tree"

    def write(self, name: str) -> Aside:
        """A file of the tree: it is there, complete and durable, when the block ends."""
        return Aside(self.root / "aside", self.tree / name)

    def allocate(self, name: str, num_bytes: int, head: bytes = b"") -> None:
        """A file of the tree, with its first bytes, that tasks fill at places of their own."""
        allocate(self.tree / name, num_bytes, head)

    def write_at(self, name: str, start: int, blocks: Iterable[Any]) -> None:
        """Bytes of such a file; durable when this returns."""
        write_at(self.tree / name, start, blocks)

    def scratch(self, name: str) -> Path:
        """The path of a file that only a later stage needs."""
        return self.root / "scratch" / name

    def write_scratch(self, name: str, blocks: Iterable[Any]) -> None:
        """Write such a file."""
        with Aside(self.root / "aside", self.scratch(name)) as file:
            for block in blocks:
                file.write(block)
