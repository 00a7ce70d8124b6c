"""The private folder of one process for what it downloads.

In:  a folder that processes share.   Out: a new folder in it that belongs to this process alone.
Guarantee: only files that a process of ours made are ever removed: its own when it ends, and those of a process that
died, which the next one finds by a lock that nobody holds. A folder of another user is refused.

    CACHE/run-7h2k9x/lock                       held for as long as the process lives
    CACHE/run-7h2k9x/00003-000012-0.arrow       shard 12 of phase 3
    CACHE/run-7h2k9x/file-7                     what a build is about to upload, or reads again and again
    CACHE/run-7h2k9x/folder-8/...               the same of several files
"""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path

from curriculum.errors import ConfigError, DataError

LOCK = "lock"
_OURS = re.compile(r"(\d{5,}|validation)-\d{6,}-\d+\.arrow|file-\d+")
_OUR_FOLDERS = re.compile(r"folder-\d+")


def default_cache_folder() -> Path:
    """`curriculum-UID` in the system's folder for temporary files, which TMPDIR names: on clusters a local disk."""
    return Path(tempfile.gettempdir()) / f"curriculum-{os.getuid()}"


class CacheFolder:
    """A folder of this process, removed with everything in it when the object or the process ends."""

    def __init__(self, parent: Path | None) -> None:
        """Make a folder, after removing those of processes that died.

        Args:
            parent: folder that processes may share; None: `default_cache_folder()`.

        Raises:
            ConfigError: `parent` cannot be used.
        """
        is_default = parent is None
        parent = parent or default_cache_folder()
        try:
            parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if is_default:
                _require_own(parent)
            for other in parent.glob("run-*"):
                _remove_if_dead(other)
            self.path, lock = _new_folder(parent)
        except OSError as error:
            raise ConfigError(
                f"{parent}: cannot hold the cache ({error.strerror}). Give a folder on a local disk as cache_dir."
            ) from None
        self._numbers = itertools.count()
        self._remove = weakref.finalize(self, _remove, self.path, lock, os.getpid())

    def shard_file(self, phase: int, shard: int, num_bytes: int) -> Path:
        """A new file of that size without any block of its own.

        Raises:
            DataError: the disk does not allow it.
        """
        name = "validation" if phase < 0 else f"{phase:05d}"
        # A number of its own: what still arrives for a file that was given up must not get into its successor.
        path = self.path / f"{name}-{shard:06d}-{next(self._numbers)}.arrow"
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.ftruncate(file, num_bytes)
            finally:
                os.close(file)
        except OSError as error:
            raise self.full(error) from None
        return path

    def new_file(self) -> Path:
        """The path of a file that is not there yet."""
        return self.path / f"file-{next(self._numbers)}"

    def new_folder(self) -> Path:
        """The path of a folder that is not there yet; it goes with everything in it."""
        return self.path / f"folder-{next(self._numbers)}"

    def full(self, error: OSError) -> DataError:
        """The sentence for a disk that does not take what was downloaded."""
        return DataError(
            f"{self.path}: the cache cannot be written ({error.strerror}). Free some space, or open the dataset with "
            f"another cache_dir or a smaller cache_bytes; then resume from the last cursor."
        )

    def removed(self) -> DataError:
        """The sentence for a file of the cache that somebody else took away."""
        return DataError(
            f"{self.path}: the cache was removed while training read from it. Open the dataset again and resume "
            f"from the last cursor."
        )

    def close(self) -> None:
        """Remove the folder; views onto its files stay valid."""
        self._remove()


def _require_own(folder: Path) -> None:
    """A folder, or a link, of a known name in /tmp may have been put there by somebody else."""
    if folder.lstat().st_uid != os.getuid():
        raise PermissionError(0, "it belongs to another user")


def _new_folder(parent: Path) -> tuple[Path, int]:
    """A folder and the file descriptor that holds its lock."""
    while True:
        path = Path(tempfile.mkdtemp(prefix="run-", dir=parent))
        with suppress(FileNotFoundError):
            file = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Between making and locking it, another process may have taken it for a dead one's.
                if os.stat(path / LOCK).st_ino == os.fstat(file).st_ino:  # noqa: PTH116
                    return path, file
            except (BlockingIOError, FileNotFoundError):
                pass
            os.close(file)


def _remove_if_dead(folder: Path) -> None:
    """Remove what a process left that did not live to do it."""
    try:
        file = os.open(folder / LOCK, os.O_RDWR)
    except OSError:
        with suppress(OSError):
            folder.rmdir()  # killed before it made its lock; refused by the system if there is anything in it
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _empty(folder)
    except OSError:
        pass  # it lives, or is somebody else's
    finally:
        os.close(file)


def _remove(folder: Path, lock: int, owner: int) -> None:
    if os.getpid() != owner:  # a fork: the folder is the parent's
        return
    with suppress(OSError):
        _empty(folder)
    os.close(lock)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name):
            path.unlink()
        elif _OUR_FOLDERS.fullmatch(path.name) and not path.is_symlink():
            shutil.rmtree(path)
    (folder / LOCK).unlink()
    folder.rmdir()
