"""One build, push or pull at a time in a folder.

In:  a folder.   Out: the folder is ours until the block ends, or an error at once.
Guarantee: the lock is the operating system's and on the folder itself: it vanishes with the process, however that
ends, and leaves no file behind.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from curriculum.errors import BuildError
from pipeline.publish import make_folder, remove_empty


class HeldError(BuildError):
    """Another process holds the folder."""


@contextmanager
def locked(folder: Path, others: str = "--out and --store") -> Iterator[None]:
    """Hold a folder, creating it if need be, as `locked_handle`."""
    with locked_handle(folder, others):
        yield


@contextmanager
def locked_handle(folder: Path, others: str) -> Iterator[int]:
    """Hold a folder, creating it if need be; who inherits the open folder that the block is given holds it, too.

    Args:
        folder: what is held.
        others: how people give other folders, for messages.

    Raises:
        HeldError: another process holds it.
        BuildError: nobody can; a folder that was made for it is gone again.
    """
    if folder.exists() and not folder.is_dir():
        raise BuildError(f"{folder}: is a file. Give a folder, or a name that is free.")
    made = [each for each in (folder, *folder.parents) if not each.exists()]
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
            raise HeldError(
                f"{folder}: another process is writing there. Wait until it ends, or give another {others}."
            ) from None
        except OSError as error:
            with suppress(BuildError):  # somebody may have written there meanwhile
                for each in made:
                    remove_empty(each)
            raise BuildError(
                f"{folder}: cannot be locked ({error.strerror}): this file system may have no locks. Give another "
                f"{others}, on a file system that has them."
            ) from None
        yield handle
    finally:
        os.close(handle)
