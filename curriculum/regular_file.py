"""Small files of a dataset that somebody else may have made: read whole, and never anything but a file.

In:  a path and the most bytes that such a file can have.   Out: its bytes.
Guarantee: what is no regular file is refused without waiting for it: a named pipe would block the open for ever, a
device could be endless. Links are followed, as they are in the cache of the Hugging Face Hub, whose snapshots are
links; where one ends, there has to be a regular file. Memory is bounded by the limit.

    read_regular(Path("manifest.json"), 256 << 20)     a named pipe: DataError: manifest.json: is a named pipe, ...
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from curriculum.errors import DataError

MAX_JSON_BYTES = 256 << 20
"""Of manifest.json, tokenizer.json and build-log.json. A manifest of 100,000 shards has 23 MB, the largest published
tokenizers have 35 MB."""
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def read_regular(path: Path, most_bytes: int = MAX_JSON_BYTES) -> bytes:
    """All bytes of a file.

    Raises:
        DataError: it is no regular file, or larger than `most_bytes`.
        OSError: it is missing or cannot be read.
    """
    require_regular(path, os.stat(path))  # noqa: PTH116 - before the open, which may wake a device
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with open(file, "rb", buffering=0) as opened:
        state = os.fstat(file)
        require_regular(path, state)  # of what was opened
        if state.st_size <= most_bytes:
            chunks: list[bytes] = []
            left, size = most_bytes + 1, state.st_size + 1  # one more shows its end, or that it grows
            while left and (chunk := opened.read(min(left, size))):
                chunks.append(chunk)
                left, size = left - len(chunk), 1 << 24
            if left:
                return b"".join(chunks)
    raise DataError(
        f"{path}: {max(state.st_size, most_bytes + 1):,} bytes, expected {most_bytes:,} at most for such a file. It is "
        f"damaged or another file: copy it again."
    )


def require_regular(path: object, state: os.stat_result) -> None:
    """Refuse everything but a regular file.

    Raises:
        DataError: it says what it is.
    """
    if stat.S_ISREG(state.st_mode):
        return
    kind = next((name for is_kind, name in _KINDS if is_kind(state.st_mode)), "no regular file")
    raise DataError(
        f"{path}: is {kind}, expected a file. Do not trust a dataset that has one in this place: copy it again."
    )
