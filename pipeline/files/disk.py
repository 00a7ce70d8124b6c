"""Files of a build in a folder of a disk.

In:  the folder, and the name of the folder in it for unfinished files.   Out: `Files`.
Guarantee: every effect on the disk goes through `pipeline.publish`, so that a test can stop a build at each of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from curriculum.errors import BuildError
from curriculum.regular_file import require_regular
from pipeline.files.contract import FileFacts, OpenFile
from pipeline.files.own_folders import require_own_folders
from pipeline.files.storage_options import NO_OPTIONS, StorageOptions
from pipeline.files.together import settling_beside
from pipeline.lock import locked
from pipeline.publish import Aside, remove, remove_empty, sync_folder


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskFiles:
    """A folder; see `pipeline.files.contract.Files`."""

    folder: str
    aside: str
    """folder for unfinished files, relative: on the same file system, so that a rename publishes them"""

    @property
    def root(self) -> Path:
        """The folder as a path."""
        return Path(self.folder)

    @property
    def where(self) -> str:
        """The folder."""
        return self.folder

    @property
    def options(self) -> StorageOptions:
        """None."""
        return NO_OPTIONS

    def address(self, name: str) -> str:
        """The path of a file."""
        return str(self.root / name)

    def facts(self, name: str) -> FileFacts | None:
        """Size; inode, modification and change time: as git tells files apart."""
        try:
            state = (self.root / name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not (self.root / name).is_file():
            return None
        return FileFacts(num_bytes=state.st_size, stamp=f"{state.st_ino}:{state.st_mtime_ns}:{state.st_ctime_ns}")

    def facts_of(self, names: Sequence[str]) -> list[FileFacts | None]:
        """One after the other."""
        return [self.facts(name) for name in names]

    def children(self, under: str = "") -> list[str]:
        """Names directly below."""
        folder = self.root / under
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def names(self, under: str) -> list[str]:
        """Names of all files below."""
        folder = self.root / under
        if folder.is_symlink():
            raise BuildError(
                f"{folder}: is a link, so it is not ours to tidy. Remove it and run the same command again."
            )
        found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
        return sorted(path.relative_to(self.root).as_posix() for path in found)

    def read(self, name: str) -> bytes | None:
        """All bytes."""
        path = self.root / name
        try:
            require_regular(path, path.stat())  # a named pipe would block for ever
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:  # EIO comes without a name
            raise _cannot_read(self.root / name, error) from error

    def read_into(self, name: str, start: int, out: memoryview) -> int:
        """Read, not mapped: a truncated file ends in a sentence, not in SIGBUS."""
        done = 0
        try:
            with open(self.root / name, "rb", buffering=0) as file:
                file.seek(start)
                while done < len(out) and (count := file.readinto(out[done:])):
                    done += count
        except OSError as error:
            raise _cannot_read(self.root / name, error) from error
        return done

    def buffer(self, name: str) -> pa.Buffer:
        """A map of the file."""
        try:
            with pa.memory_map(self.address(name)) as source:
                return source.read_buffer()
        except OSError as error:
            raise _cannot_read(self.root / name, error) from error

    def local(self, name: str) -> Path:
        """The file itself."""
        return self.root / name

    def write(self, name: str, *, hashed: bool = False) -> Aside:
        """Aside, flushed, renamed."""
        return Aside(self.root / self.aside, self.root / name, hashed=hashed)

    @contextmanager
    def together(self) -> Iterator[OpenFile]:
        """Threads wait for the files; each folder is flushed once, at the end."""
        changed: set[Path] = set()

        def write(name: str, *, hashed: bool = False) -> Aside:
            return Aside(self.root / self.aside, self.root / name, hashed=hashed, flush_names=changed.add)

        with settling_beside(write) as settling:
            yield settling
        for folder in sorted(changed):
            sync_folder(folder)

    def remove(self, name: str) -> None:
        """A file or a folder."""
        remove(self.root / name)

    def forget_unfinished(self) -> None:
        """What lies aside."""
        remove(self.root / self.aside)

    def remove_empty_folders(self, under: str) -> None:
        """Deepest first."""
        folder = self.root / under
        for path in sorted([folder, *folder.rglob("*")], reverse=True):
            if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
                remove_empty(path)

    def flush(self) -> None:
        """Flush the names of the folder."""
        sync_folder(self.root)

    def held(self) -> AbstractContextManager[None]:
        """A lock of the operating system on the folder."""
        return locked(self.root)

    def require_own_folders(self, names: Sequence[str]) -> None:
        """Walks through them."""
        require_own_folders(self.root, names)

    def free_bytes(self) -> int | None:
        """Free space of the disk."""
        return shutil.disk_usage(self.root).free


def _cannot_read(path: Path, error: OSError) -> BuildError:
    return BuildError(f"{path}: {error.strerror or error}. Run the same command again: what is missing is made anew.")
