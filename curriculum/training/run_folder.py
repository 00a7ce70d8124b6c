"""The folder of a run: one run at a time, and nobody else's files.

In:  a path.   Out: the folder, made and held, until the block ends.
Guarantee: what cannot be written is known before the first step and not when the first checkpoint is due. The lock is
the operating system's, on the folder itself: it vanishes with the process.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from curriculum.errors import ConfigError, CurriculumError

CHECKPOINT, LOG, MODEL = "checkpoint.pt", "stability.jsonl", "model"


@contextmanager
def run_folder(folder: Path) -> Iterator[None]:
    """Make and hold it.

    Raises:
        ConfigError: it holds something else.
        CurriculumError: another process holds it, or it cannot be written.
    """
    if (folder / "manifest.json").exists():
        raise ConfigError(f"{folder}: holds a dataset; give another folder to the run with --out.")
    if (folder / MODEL).exists() and not (folder / CHECKPOINT).exists():
        raise ConfigError(
            f"{folder}: has a {MODEL}/ and no {CHECKPOINT} beside it, so that it is no run's; give another --out."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise CurriculumError(f"{folder}: cannot be written ({error.strerror}); give another --out.") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CurriculumError(
                f"{folder}: another run is writing there; wait until it ends, or give another --out."
            ) from None
        except OSError:
            pass  # a file system without locks: two runs in one folder are then not told apart
        yield
    finally:
        os.close(handle)
