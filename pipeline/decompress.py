"""A compressed file as a readable stream that tells a complete file from a truncated one.

In: the stream of a gzip or Zstandard file, closed with the one that comes out. Out: a buffered binary stream of
the text in it, across members and frames. Guaranteed: whatever is read without a `StreamError` is exactly what
was compressed; a stream that ends too early, or is damaged, raises `StreamError` after the bytes that were still
good; memory does not grow with the file. (`zstandard.stream_reader` gives short data for a truncated file and no
error: hence this module.)

    with open_zstd(open("a.jsonl.zst", "rb")) as stream:
        for line in stream: ...
"""

from __future__ import annotations

import gzip
import io
import zlib
from abc import abstractmethod
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# One zstd block of 4 bytes may stand for 128 KiB, so that 4 KiB of input give at most 128 MiB.
ZSTD_INPUT_BYTES = 4096
BUFFER_BYTES = 1 << 20


class StreamError(Exception):
    """The compressed stream is damaged or ends too early; the message continues a sentence about the file."""


def open_gzip(file: BinaryIO) -> io.BufferedReader:
    """Members, zero padding and checksums are handled by the standard library."""
    return io.BufferedReader(_GzipStream(file), BUFFER_BYTES)


def open_zstd(file: BinaryIO) -> io.BufferedReader:
    """Frames of any window size (`--long=31` too), skippable frames included."""
    return io.BufferedReader(_ZstdStream(file), BUFFER_BYTES)


class _Stream(io.RawIOBase):
    """What both formats share: subclasses give the next bytes, at most `size` of them, b"" at the end."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self._failure: StreamError | None = None

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()

    def readinto(self, buffer: WriteableBuffer) -> int:
        # BufferedReader may ask once more after an error; the answer must not become "end of file".
        if self._failure is not None:
            raise self._failure
        view = memoryview(buffer)
        try:
            data = self._next(len(view))
        except StreamError as error:
            self._failure = error
            raise
        view[: len(data)] = data
        return len(data)

    @abstractmethod
    def _next(self, size: int) -> bytes | memoryview:
        """At most `size` bytes, none at the end."""


class _GzipStream(_Stream):
    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self._gzip = gzip.GzipFile(fileobj=self._file, mode="rb")
        self._is_empty = not self._file.read(1)
        self._file.seek(0)

    def _next(self, size: int) -> bytes:
        if self._is_empty:
            raise StreamError("is empty, which no gzip file is: it was probably cut off; copy it again")
        try:
            return self._gzip.read1(size)
        except EOFError as error:
            raise StreamError("is a gzip stream that ends too early: it was cut off; copy it again") from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise StreamError(f"is not a sound gzip stream from here on ({error}); copy it again") from error


class _ZstdStream(_Stream):
    def __init__(self, file: BinaryIO) -> None:
        import zstandard

        super().__init__(file)
        self._error_type = zstandard.ZstdError
        # The largest window that the format's tools write; the default refuses files of `zstd --long=31`.
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 31)
        self._frame = self._decompressor.decompressobj()
        self._in_frame = True  # an empty file is a truncated one
        self._input = b""
        self._output = memoryview(b"")

    def _next(self, size: int) -> memoryview:
        while not self._output:
            self._input = self._input or self._file.read(ZSTD_INPUT_BYTES)
            if not self._input:
                if self._in_frame:
                    raise StreamError("is a zstd stream that ends too early: it was cut off; copy it again")
                break
            self._feed()
        data, self._output = self._output[:size], self._output[size:]
        return data

    def _feed(self) -> None:
        if not self._in_frame:
            self._frame = self._decompressor.decompressobj()
            self._in_frame = True
        try:
            self._output = memoryview(self._frame.decompress(self._input))
        except self._error_type as error:
            raise StreamError(f"is not a sound zstd stream from here on ({error}); copy it again") from error
        self._in_frame = not self._frame.eof
        self._input = self._frame.unused_data if self._frame.eof else b""
