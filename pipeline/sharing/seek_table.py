"""Where the frames of a compressed shard lie: the seek table of the zstd seekable format.

In:  the sizes of the frames of a file, or a file that may be damaged or hostile.
Out: the table's bytes, for the end of the file; or `Frames`, checked against the sizes of the file and of its plain
bytes.
Guarantee: frames lie end to end from byte 0 up to the table and stand for exactly `num_bytes` plain bytes; none is
large enough to fill a memory. What they hold is for `frames` to check.

    frames of 5 and 3 bytes for 10 and 4 plain ones (real ones are larger), little-endian words of 4 bytes:
    5E 2A 4D 18  25 | 5 10 | 3 4 | 2  00  B1 EA 92 8F     skippable frame of 25 bytes | entries | number, flags, magic

The format is published: contrib/seekable_format/zstd_seekable_compression_format.md of github.com/facebook/zstd. To
programs that do not know it the table is a skippable frame.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any, BinaryIO

import numpy as np

from curriculum.errors import BuildError, DataError

HEAD = Struct("<II")
HEAD_MAGIC = 0x184D2A5E
FOOT = Struct("<IBI")
FOOT_MAGIC = 0x8F92EAB1
CHECKSUM_FLAG = 0x80
"""Entries have a third word, of a checksum: other writers set it. It is not looked at, frames have their own."""
RESERVED_BITS = 0x7C
LEAST_BLOCK_BYTES = 1 << 16
"""All blocks but the last have at least so many plain bytes: a table is at most 1/5,461 of the plain bytes."""
MOST_BLOCK_BYTES = 1 << 24
"""No block has more plain bytes, nor a window: what decoding one takes of memory."""
REPAIR = "Fetch it again, or push the dataset again."

_Sizes = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Frames:
    """Frame i is bytes `starts[i]` to `starts[i + 1]` of the file, for plain bytes `plain[i]` to `plain[i + 1]`."""

    starts: _Sizes
    """int64 [n + 1]"""
    plain: _Sizes
    """int64 [n + 1]"""


def seek_table(sizes: Sequence[tuple[int, int]]) -> bytes:
    """The table of frames of so many bytes, for so many plain ones."""
    entries = np.array(sizes, "<u4").reshape(-1, 2).tobytes()
    return HEAD.pack(HEAD_MAGIC, len(entries) + FOOT.size) + entries + FOOT.pack(len(sizes), 0, FOOT_MAGIC)


def read_seek_table(file: BinaryIO, num_bytes: int, where: str) -> Frames:
    """The table at the end of a file of frames.

    Args:
        num_bytes: how many plain bytes the manifest says.
        where: begins every message.

    Raises:
        DataError: there is none, or it contradicts itself, the file or `num_bytes`.
    """
    size = _size(file, where)
    count, flags, magic = FOOT.unpack(read_at(file, max(0, size - FOOT.size), FOOT.size, where))
    if magic != FOOT_MAGIC or flags & RESERVED_BITS:
        raise DataError(
            f"{where}: it does not end with a zstd seek table: it was cut off, has something behind its end, or was "
            f"compressed by other means. {REPAIR}"
        )
    entry_words = 3 if flags & CHECKSUM_FLAG else 2
    table_bytes = HEAD.size + 4 * entry_words * count + FOOT.size
    if count > -(-num_bytes // LEAST_BLOCK_BYTES) or table_bytes > size:
        raise DataError(
            f"{where}: its seek table says {count:,} frames, which is too many for {num_bytes:,} bytes in a file of "
            f"{size:,}. {REPAIR}"
        )
    table = read_at(file, size - table_bytes, table_bytes, where)
    if HEAD.unpack_from(table) != (HEAD_MAGIC, table_bytes - HEAD.size):
        raise DataError(f"{where}: its seek table is damaged: no skippable frame of its size begins there. {REPAIR}")
    words = np.frombuffer(table, "<u4", entry_words * count, HEAD.size).reshape(count, entry_words).astype(np.int64)
    packed, plain = words[:, 0], words[:, 1]
    found, frame_bytes = int(plain.sum()), int(packed.sum())
    if found != num_bytes:
        raise DataError(f"{where}: its frames stand for {found:,} bytes, the manifest says {num_bytes:,}. {REPAIR}")
    if frame_bytes != size - table_bytes:
        raise DataError(
            f"{where}: its seek table says {frame_bytes:,} bytes of frames, there are {size - table_bytes:,}. {REPAIR}"
        )
    small, large = plain[:-1] < LEAST_BLOCK_BYTES, plain > MOST_BLOCK_BYTES
    swollen = packed > plain + plain // 128 + 256  # zstd never makes a block longer than this, a hostile writer can
    if small.any() or large.any() or swollen.any() or (plain == 0).any():
        raise DataError(
            f"{where}: its seek table has a frame that no push writes: frames are of {LEAST_BLOCK_BYTES:,} to "
            f"{MOST_BLOCK_BYTES:,} plain bytes (the last may have fewer) and hardly longer than those. {REPAIR}"
        )
    return Frames(starts=_ends(packed), plain=_ends(plain))


def _size(file: BinaryIO, where: str) -> int:
    try:
        return file.seek(0, os.SEEK_END)
    except OSError as error:
        raise BuildError(f"{where}: cannot be read: {error.strerror or error}.") from error


def _ends(sizes: _Sizes) -> _Sizes:
    """[3, 5] -> [0, 3, 8]"""
    return np.concatenate(([0], np.cumsum(sizes)), dtype=np.int64)


def read_at(file: BinaryIO, start: int, num_bytes: int, where: str) -> bytes:
    """Exactly so many bytes from `start` on.

    Raises:
        DataError: the file ends before.
        BuildError: it cannot be read.
    """
    try:
        file.seek(start)
        data = file.read(num_bytes)
    except OSError as error:
        raise BuildError(f"{where}: cannot be read: {error.strerror or error}.") from error
    if len(data) != num_bytes:
        raise DataError(f"{where}: it has {start + len(data):,} bytes, too few for what it should hold. {REPAIR}")
    return data
