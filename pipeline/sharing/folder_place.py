"""A folder of this machine as a place.

In:  the folder.   Out: `Place`.
Guarantee: what is sent appears by a rename, after it is on the disk; unfinished files lie in `.push`, which nobody
lists. Only ordinary files count: a name that is a pipe or a device is none, and no folder that is a link is entered.

    FolderPlace(Path("/mnt/share/my-dataset")).sizes()     {"manifest.json": 4211, ...}
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from curriculum.errors import BuildError, DataError
from pipeline.lock import locked
from pipeline.progress import Advance
from pipeline.publish import Aside, make_folder, remove, remove_empty, sync_folder
from pipeline.sharing.batches import do_each
from pipeline.sharing.place import AT_ONCE

BATCH_BYTES = 1 << 30
BLOCK_BYTES = 4 << 20
ASIDE = ".push"


class FolderPlace:
    """See `pipeline.sharing.place.Place`."""

    def __init__(self, folder: Path, at_once: int = AT_ONCE) -> None:
        self.folder = folder
        self._at_once = at_once

    @property
    def where(self) -> str:
        """The folder."""
        return str(self.folder)

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
        """A lock of the operating system on the folder; one that is made for it goes again if nothing gets there."""
        made = not self.folder.exists()
        with locked(self.folder, "place"):
            try:
                yield
            except BaseException:
                if made and not any(self.folder.iterdir()):
                    remove_empty(self.folder)
                raise

    def sizes(self) -> dict[str, int]:
        """Bytes of every ordinary file."""
        if self.folder.exists() and not self.folder.is_dir():
            raise BuildError(f"{self.folder}: is a file. Give a folder, or a name that is free.")
        found = {}

        def cannot(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                raise BuildError(f"{error.filename}: cannot be listed: {error.strerror}. Make it readable.") from error

        for parent, folders, files in os.walk(self.folder, onerror=cannot):
            if Path(parent) == self.folder:
                folders[:] = [name for name in folders if name != ASIDE]
            for name in files:
                path = Path(parent) / name
                with suppress(FileNotFoundError):
                    state = path.stat()
                    if stat.S_ISREG(state.st_mode):
                        found[path.relative_to(self.folder).as_posix()] = state.st_size
        return found

    def read(self, name: str, most_bytes: int) -> bytes | None:
        """A small file."""
        path = self.folder / name
        try:
            with open(path, "rb", buffering=0, opener=_not_waiting) as file:
                data = bytearray()  # a read takes room for all that it is asked for
                while len(data) <= most_bytes and (more := file.read(min(BLOCK_BYTES, most_bytes + 1 - len(data)))):
                    data += more
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _cannot_read(path, error) from error
        if len(data) > most_bytes:
            raise DataError(f"{path}: more than {most_bytes:,} bytes, too many for what it should be. Do not trust it.")
        return bytes(data)

    def fetch(self, sizes: Mapping[str, int], folder: Path, advance: Advance) -> None:
        """Copies, each renamed when it is whole."""
        changed: set[Path] = set()
        aside = folder / ASIDE

        def copy(name: str) -> None:
            _copy(self.folder / name, folder / name, aside, sizes[name], advance, changed.add)

        do_each(copy, list(sizes), self._at_once)
        remove(aside)

    def expect(self, names: Sequence[str]) -> None:
        """A folder takes any number."""

    def send(self, names: Sequence[str], folder: Path, advance: Advance) -> None:
        """Copies, each flushed and renamed when it is whole."""
        changed: set[Path] = set()
        aside = self.folder / ASIDE

        def copy(name: str) -> None:
            _copy(folder / name, self.folder / name, aside, None, advance, changed.add)

        do_each(copy, names, self._at_once)
        for path in sorted(changed):
            sync_folder(path)
        remove(aside)

    def remove(self, names: Sequence[str]) -> None:
        """Files, and folders that hold nothing any more."""
        folders: set[Path] = set()
        for name in names:
            path = self.folder / name
            remove(path)
            folders |= {parent for parent in path.parents if self.folder in parent.parents}
        for empty in sorted(folders, reverse=True):
            if empty.is_dir() and not empty.is_symlink() and not any(empty.iterdir()):
                remove_empty(empty)
        if self.folder.is_dir():
            sync_folder(self.folder)


def _copy(
    source: Path,
    target: Path,
    aside: Path,
    expected: int | None,
    advance: Advance,
    changed: Callable[[Path], object],
) -> None:
    """One file; `expected` bytes of it and no more, or as many as it has when it is opened."""
    make_folder(aside)
    with Aside(aside, target, flush_names=changed) as whole:
        try:
            with open(source, "rb", buffering=0, opener=_not_waiting) as file:
                state = os.fstat(file.fileno())
                if not stat.S_ISREG(state.st_mode):
                    raise DataError(f"{source}: is no ordinary file. Do not trust who put it there.")
                num_bytes = state.st_size if expected is None else expected
                block = memoryview(bytearray(min(BLOCK_BYTES, num_bytes + 1)))
                while count := file.readinto(block[: num_bytes + 1 - whole.num_bytes]):
                    if whole.num_bytes + count > num_bytes:
                        raise _other_size(source, num_bytes)
                    whole.write(block[:count])
                    advance(count)
        except FileNotFoundError:
            raise DataError(f"{source}: is not there any more. Put it back and run the same command again.") from None
        except OSError as error:
            raise _cannot_read(source, error) from error
        if whole.num_bytes != num_bytes:
            raise _other_size(source, num_bytes)


def _not_waiting(path: str, flags: int) -> int:
    """A pipe that nobody writes to would be waited for when it is opened."""
    return os.open(path, flags | os.O_NONBLOCK)


def _other_size(path: Path, num_bytes: int) -> DataError:
    return DataError(f"{path}: had {num_bytes:,} bytes and changed while it was copied. Run the same command again.")


def _cannot_read(path: Path, error: OSError) -> BuildError:
    return BuildError(f"{path}: cannot be read: {error.strerror or error}. Repair that and run the same command again.")
