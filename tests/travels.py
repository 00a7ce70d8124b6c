"""Pushing and pulling as tests do it, and what they compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.progress import Silent
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
