"""Digests of files, several at once.

In:  paths.   Out: sha256 in hex; None where there is no ordinary file.
Guarantee: no link is followed, unless that is asked for; no pipe is waited for; bytes are reported as they are read.

    digest_of(Path("shard-000000.arrow"), advance)     "9f86d081884c7d65..."
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from curriculum.errors import BuildError
from pipeline.progress import Advance

BLOCK_BYTES = 1 << 20


def size_of(path: Path, *, follow: bool = False) -> int | None:
    """Bytes of an ordinary file; None if there is none, or a folder, pipe or device of that name.

    Args:
        path: of the file.
        follow: a link to an ordinary file counts: in folders of one's own.
    """
    try:
        state = path.stat() if follow else path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _cannot_read(path, error) from error
    return state.st_size if stat.S_ISREG(state.st_mode) else None


def digest_of(path: Path, advance: Advance, *, follow: bool = False) -> str | None:
    """The sha256 of an ordinary file; None as of `size_of`."""
    if size_of(path, follow=follow) is None:
        return None
    digest, block = hashlib.sha256(), memoryview(bytearray(BLOCK_BYTES))
    try:
        with open(path, "rb", buffering=0, opener=_waiting_for_nobody if follow else _carefully) as file:
            while count := file.readinto(block):
                digest.update(block[:count])
                advance(count)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _cannot_read(path, error) from error
    return digest.hexdigest()


def _carefully(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _waiting_for_nobody(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _cannot_read(path: Path, error: OSError) -> BuildError:
    return BuildError(f"{path}: cannot be read: {error.strerror or error}. Repair that and run the same command again.")
