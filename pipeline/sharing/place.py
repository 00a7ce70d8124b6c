"""What pushing and pulling ask of the place at the other end.

In:  names relative to the place, with forward slashes.   Out: sizes, bytes, whole files.
Guarantee: a file appears at the place whole or not at all. What fails and may pass is tried again inside; what may not
is one sentence. A place says nothing of what the files are: digests, order and the manifest are the business of `push`
and `pull`.

    place.sizes()                                          {"manifest.json": 4211, "tokenizer.json": 524288}
    place.fetch(["tokenizer.json"], Path("aside"), seen)   aside/tokenizer.json
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from pipeline.progress import Advance

AT_ONCE = 8
"""Files that are moved at the same time, if nobody says otherwise."""
BEGUN = ".begun"
"""Below a folder that is fetched into: what a place keeps for the call that continues one that was killed."""


def unflushed(folder: Path) -> None:
    """For `flush_names` of `pipeline.publish`: files that were fetched are yet to be checked, and may be lost."""


class Place(Protocol):
    """Where a dataset is pushed to, or pulled from."""

    @property
    def where(self) -> str:
        """Its address, as people know it; of something with commits, with the commit once it is known. No secrets."""

    @property
    def batch_bytes(self) -> int:
        """How much one call of `fetch` or `send` is best asked for: several files at once, and few commits."""

    @property
    def begins_with_card(self) -> bool:
        """Whether a new one may have a README.md, and keeps it in its history when a push replaces it."""

    def held(self) -> AbstractContextManager[None]:
        """Hold the place while it is pushed to: of two pushes one is refused, or fails before it has done harm.

        Raises:
            BuildError: another process holds it, or takes it meanwhile; or it cannot be held.
        """

    def sizes(self) -> dict[str, int]:
        """Bytes of every file by its name; {} if there is nothing yet.

        Raises:
            BuildError: it cannot be listed.
        """

    def read(self, name: str, most_bytes: int) -> bytes | None:
        """A small file; None if there is none of that name.

        Raises:
            DataError: it has more than `most_bytes`, of which no more are read.
            BuildError: it cannot be read.
        """

    def fetch(self, sizes: Mapping[str, int], folder: Path, advance: Advance) -> None:
        """Copy files into a folder, several at once, each under its name (`folder / name`).

        Args:
            sizes: bytes of each by its name, as `sizes` told them. No more of any is written: what is said of a
                stranger's file may be a lie, and must not fill the disk.
            advance: told of bytes as they arrive, as finely as the place knows.

        Raises:
            DataError: one does not exist, or has another size by now.
            BuildError: one cannot be read.
        """

    def expect(self, names: Sequence[str]) -> None:
        """Told before the first `send` of everything that is to be sent.

        Raises:
            BuildError: the place does not take so much.
        """

    def send(self, names: Sequence[str], folder: Path, advance: Advance) -> None:
        """Copy files of a folder to the place, several at once; all are there when it returns.

        Raises:
            BuildError: one cannot be written.
        """

    def remove(self, names: Sequence[str]) -> None:
        """Remove files that are there.

        Raises:
            BuildError: one cannot be removed.
        """
