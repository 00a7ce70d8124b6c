"""Pushing and pulling as tests do it, and what they compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curriculum.errors import BuildError
from pipeline.progress import Advance, Silent
from pipeline.sharing.folder_place import FolderPlace
from pipeline.sharing.moved import Moved
from pipeline.sharing.open_place import open_place
from pipeline.sharing.place import Place
from pipeline.sharing.pull import Wish
from pipeline.sharing.pull import pull as pull_from
from pipeline.sharing.push import Offering
from pipeline.sharing.push import push as push_to

LOG = "build-log.json"


def push(folder: Path, target: Path | str | Place, **offering: Any) -> Moved:
    """`curriculum push`."""
    place = open_place(target) if isinstance(target, Path | str) else target
    return push_to(folder, place, Offering(**offering), Silent())


def pull(source: Path | str | Place, folder: Path, **wish: Any) -> Moved:
    """`curriculum pull`."""
    place = open_place(source) if isinstance(source, Path | str) else source
    return pull_from(place, folder, Wish(**wish), Silent())


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too, by its name."""
    files = (path for path in folder.rglob("*") if not path.is_dir())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def travelling(folder: Path) -> dict[str, bytes]:
    """What of a built dataset moves."""
    return {name: data for name, data in content(folder).items() if name != LOG}


def flip(path: Path) -> None:
    """Change one bit in the middle; the size stays."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


class Broken(FolderPlace):
    """Fails after so many files."""

    def __init__(self, folder: Path, after: int) -> None:
        super().__init__(folder, at_once=1)
        self.after = after

    @property
    def batch_bytes(self) -> int:
        return 1

    def send(self, names: Sequence[str], folder: Path, advance: Advance) -> None:
        self._count()
        super().send(names, folder, advance)

    def fetch(self, sizes: Mapping[str, int], folder: Path, advance: Advance) -> None:
        self._count()
        super().fetch(sizes, folder, advance)

    def _count(self) -> None:
        self.after -= 1
        if self.after < 0:
            raise BuildError("the network is gone.")
