"""One build, push or pull at a time in a folder.

In:  a folder.   Out: the folder is ours until the block ends, or an error at once.
Guarantee: the lock is the operating system's and on the folder itself: it vanishes with the process, however that
ends, and leaves no file behind.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from curriculum.errors import BuildError
from pipeline.publish import make_folder


@contextmanager
def locked(folder: Path, others: str = "--out and --store") -> Iterator[None]:
    """Hold a folder, creating it if need be.

    Args:
        folder: what is held.
        others: how people give other folders, for messages.

    Raises:
        BuildError: another process holds it.
    """
    if folder.exists() and not folder.is_dir():
        raise BuildError(f"{folder}: is a file. Give a folder, or a name that is free.")
    make_folder(folder)
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise BuildError(f"{folder}: cannot be opened ({error.strerror}). Make it readable.") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.stat(folder), os.fstat(handle)):  # noqa: PTH116 - removed by who held it before
                raise BlockingIOError
        except (BlockingIOError, FileNotFoundError):
            raise BuildError(
                f"{folder}: another process is writing there. Wait until it ends, or give another {others}."
            ) from None
        except OSError as error:
            raise BuildError(
                f"{folder}: cannot be locked ({error.strerror}): this file system may have no locks. Give "
                f"{others} on one that has."
            ) from None
        yield
    finally:
        os.close(handle)
