"""Files of this process on the disk of this machine: what it is about to upload, and copies of what it reads often.

In:  nothing.   Out: paths in a private folder, which goes with the process; what a killed one left, the next removes.
Guarantee: the folder lies where TMPDIR says (`curriculum.remote.cache_folder`). It holds one file per writer, and the
copies that somebody asked for: indexes of the token store (56 bytes per document) and tokenizers.

    new_local_file()      /tmp/curriculum-1000/run-7h2k9x/file-0
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from curriculum.errors import BuildError, ConfigError
from curriculum.remote.cache_folder import CacheFolder

_LOCK = threading.Lock()
_FOLDERS: dict[int, CacheFolder] = {}
_COPIES: dict[tuple[int, str, str], Path] = {}


def new_local_file() -> Path:
    """A path that nothing is at yet.

    Raises:
        BuildError: the folder for temporary files cannot be used.
    """
    return _folder().new_file()


@contextmanager
def new_local_folder() -> Iterator[Path]:
    """A folder for several files, until the block ends.

    Raises:
        BuildError: as `new_local_file`.
    """
    path = _folder().new_folder()
    try:
        path.mkdir()
    except OSError as error:
        raise cannot_keep(path, error) from error
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _folder() -> CacheFolder:
    with _LOCK:
        folder = _FOLDERS.get(os.getpid())
        if folder is None:
            try:
                folder = _FOLDERS[os.getpid()] = CacheFolder(None)
            except ConfigError as error:
                raise BuildError(f"{error} Here: set TMPDIR to a folder with space for it.") from None
        return folder


def local_copy(url: str, name: str) -> Path | None:
    """The copy of a file that this process has made, if any."""
    return _COPIES.get((os.getpid(), url, name))


def keep_copy(url: str, name: str, path: Path) -> None:
    """Note a copy."""
    _COPIES[os.getpid(), url, name] = path


def drop_copies(url: str, name: str) -> None:
    """Forget the copy of a file, or of everything in a folder, which is being changed."""
    for key in [key for key in _COPIES if key[1] == url and (key[2] == name or key[2].startswith(f"{name}/"))]:
        path = _COPIES.pop(key, None)
        if path is not None and key[0] == os.getpid():
            path.unlink(missing_ok=True)  # maps of it stay valid


def cannot_keep(path: Path, error: OSError) -> BuildError:
    """The sentence for a local disk that does not take what is to be uploaded, or was downloaded."""
    return BuildError(
        f"{path}: cannot be written on this machine ({error.strerror or error}). Free space there, or set TMPDIR to a "
        f"folder with more of it, and run the same command again: it continues where it stopped."
    )
