"""Shards as they travel with `push --compress zstd`: blocks of plain bytes, each a zstd frame, then a seek table.

In:  a file and where it is to go; or a compressed file, possibly damaged or hostile, and its plain size by the
manifest.
Out: the other one; or some of the plain bytes, for which only the frames around them are read.
Guarantee: `zstd -d` and every zstd library decode the file. The same bytes give the same file with any number of
threads, as long as the release of zstd inside `zstandard` is the same; another release may pack differently, never to
another content. Of a hostile file nothing is written beyond `num_bytes`, and memory stays within a few blocks per
thread.

    10 MiB of shard -> frames of 4, 4 and 2 MiB plain, with their sizes and checksums -> table of three entries
    read_range(file, 5 MiB, 6 MiB, num_bytes) decodes the second frame alone
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import zstandard

from curriculum.errors import BuildError, DataError
from pipeline.engines.cores import num_cores
from pipeline.progress import Advance
from pipeline.publish import Aside
from pipeline.sharing.seek_table import MOST_BLOCK_BYTES, REPAIR, Frames, read_at, read_seek_table, seek_table

LEVEL = 9
"""10 % fewer bytes than level 3, at 50 to 60 MB/s of a core; 12 gains 1 % at half of it. Figures: docs/design.md."""
MOST_THREADS = 8
"""For one file: several travel at once, and a thread that packs takes 20 MB."""
BLOCK_BYTES = 4 << 20
"""Plain bytes of a block. 1 MiB costs 8 % more bytes, a whole shard as one frame would save 6 %."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def compress_file(source: Path, target: Path, advance: Advance, *, threads: int | None = None) -> str:
    """Write `target` from `source`, whole or not at all; returns the sha256 of the plain bytes, in hex.

    Args:
        advance: told of plain bytes.
        threads: that pack blocks; None for one per core, eight at most.

    Raises:
        BuildError: `source` cannot be read, or `target` not written.
    """
    sizes: list[tuple[int, int]] = []
    digest = hashlib.sha256()
    with _opened(source) as file, Aside(target.parent, target) as out:
        for block, frame in _in_order(_pack, _blocks(file, source), threads):
            digest.update(block)
            out.write(frame)
            sizes.append((len(frame), len(block)))
            advance(len(block))
        out.write(seek_table(sizes))
    return digest.hexdigest()


def decompress_file(source: Path, target: Path, num_bytes: int, advance: Advance, *, threads: int | None = None) -> str:
    """Write the `num_bytes` plain bytes of `source` to `target`, whole or not at all; returns their sha256, in hex.

    Args:
        advance: told of plain bytes.
        threads: that decode blocks; None for one per core, eight at most.

    Raises:
        DataError: `source` is damaged, or stands for more or fewer bytes.
        BuildError: it cannot be read, or `target` not written.
    """
    with _opened(source) as file:
        frames = read_seek_table(file, num_bytes, str(source))
        packed = _stored(file, frames, range(len(frames.plain) - 1), str(source))
        with Aside(target.parent, target, hashed=True) as out:
            for plain in _in_order(_unpack, packed, threads):
                out.write(plain)
                advance(len(plain))
            return out.sha256()


def read_range(source: Path | BinaryIO, start: int, stop: int, num_bytes: int) -> bytes:
    """Plain bytes `start` to `stop` of the `num_bytes` that a compressed file, local or opened anywhere, stands for.

    Reads the seek table and the frames that hold the bytes, nothing else.

    Raises:
        DataError: the file is damaged there, or stands for more or fewer bytes.
        BuildError: it cannot be read.
        ValueError: there are no such bytes.
    """
    if isinstance(source, Path):
        with _opened(source) as file:
            return read_range(file, start, stop, num_bytes)
    if not 0 <= start <= stop <= num_bytes:
        raise ValueError(f"bytes {start} to {stop} of {num_bytes}: choose 0 <= start <= stop <= {num_bytes}.")
    where = str(getattr(source, "name", "the compressed shard"))
    frames = read_seek_table(source, num_bytes, where)
    if start == stop:
        return b""
    first = int(np.searchsorted(frames.plain, start, "right")) - 1
    last = int(np.searchsorted(frames.plain, stop, "left"))
    plain = b"".join(map(_unpack, _stored(source, frames, range(first, last), where)))
    begin = int(frames.plain[first])
    return plain[start - begin : stop - begin]


def _pack(block: bytes) -> tuple[bytes, bytes]:
    """A block and its frame. A compressor serves one thread; a new one costs little beside 4 MiB."""
    return block, zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(block)


def _unpack(stored: tuple[bytes, int, str]) -> bytes:
    """The plain bytes of a frame, exactly as many as the seek table says; `stored[2]` begins every message."""
    frame, num_bytes, where = stored
    try:
        claims = zstandard.get_frame_parameters(frame)
        tells_size = claims.content_size != zstandard.CONTENTSIZE_UNKNOWN  # frames of some other writers do not
        if claims.window_size > MOST_BLOCK_BYTES or claims.dict_id or (tells_size and claims.content_size != num_bytes):
            raise DataError(
                f"{where} claims {claims.content_size:,} plain bytes, a window of {claims.window_size:,} and "
                f"dictionary {claims.dict_id}; allowed are {num_bytes:,} (by the seek table), {MOST_BLOCK_BYTES:,} and "
                f"none. {REPAIR}"
            )
        decompressor = zstandard.ZstdDecompressor(max_window_size=MOST_BLOCK_BYTES)
        plain = decompressor.decompress(frame, max_output_size=num_bytes, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise DataError(f"{where} is damaged ({error}). {REPAIR}") from None
    if len(plain) != num_bytes:
        raise DataError(f"{where} holds {len(plain):,} bytes, the seek table says {num_bytes:,}. {REPAIR}")
    return plain


def _stored(file: BinaryIO, frames: Frames, wanted: range, where: str) -> Iterator[tuple[bytes, int, str]]:
    """Frames as they are stored, for `_unpack`."""
    for i in wanted:
        start, stop = int(frames.starts[i]), int(frames.starts[i + 1])
        frame = read_at(file, start, stop - start, where)
        yield frame, int(frames.plain[i + 1] - frames.plain[i]), f"{where}: the frame at byte {start:,}"


def _blocks(file: BinaryIO, source: Path) -> Iterator[bytes]:
    try:
        while block := file.read(BLOCK_BYTES):
            yield block
    except OSError as error:
        raise BuildError(f"{source}: cannot be read: {error.strerror or error}.") from error


@contextmanager
def _opened(source: Path) -> Iterator[BinaryIO]:
    try:
        file = open(source, "rb")  # noqa: SIM115 - an error while it is used is another one
    except OSError as error:
        raise BuildError(f"{source}: cannot be read: {error.strerror or error}. Make it readable.") from error
    with file:
        yield file


def _in_order(work: Callable[[_Item], _Result], items: Iterable[_Item], threads: int | None) -> Iterator[_Result]:
    """What `work` makes of the items, in their order; done by threads, which are at most one item ahead each."""
    num_threads = threads or min(num_cores(), MOST_THREADS)
    done: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        for item in items:
            done.append(pool.submit(work, item))
            if len(done) > num_threads:
                yield done.popleft().result()
        while done:
            yield done.popleft().result()
