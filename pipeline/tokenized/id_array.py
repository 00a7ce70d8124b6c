"""Ids in a file: little-endian integers one after the other, and the documents that they form.

In:  a path and where in it ids lie.   Out: `IdArray`, which reads any stretch of them; `IdBlock`, ids of whole
documents.
Guarantee: all files of the flat formats are opened by `open_source`, and only there; nothing is mapped, so a file that
shrinks ends in a sentence; memory is that of the stretch that is asked for.

    00 c0  05 00  06 00  32 c4    IdArray(dtype="<u2", first_byte=2, num_tokens=3).read(0, 3)  ->  [5, 6, 50226]
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from curriculum.errors import BuildError
from pipeline.folders import printable

IntArray = np.ndarray[Any, np.dtype[np.int64]]
Ids = npt.NDArray[np.integer[Any]]

BLOCK_TOKENS = 4 << 20
"""Ids that are read and converted at a time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IdBlock:
    """Some neighbouring documents of a file, in its order, their EOS (if they have one) included."""

    ids: Ids
    """[sum of lengths], the integers of the file"""
    lengths: IntArray
    """[documents]"""
    positions: IntArray
    """[documents]: what names each document in its file: its number, or where it begins"""


@dataclass(frozen=True, kw_only=True, slots=True)
class IdArray:
    """`num_tokens` ids of `dtype` (numpy's name of it, such as "<u2") from byte `first_byte` of a file."""

    path: str
    dtype: str
    first_byte: int
    num_tokens: int

    @property
    def itemsize(self) -> int:
        """Bytes of one id."""
        return np.dtype(self.dtype).itemsize

    def read(self, start: int, stop: int) -> Ids:
        """Ids `start <= i < stop`."""
        return read_numbers(self.path, self.dtype, self.first_byte + start * self.itemsize, stop - start)


def open_source(path: str) -> BinaryIO:
    """The file of a corpus, for reading at any place."""
    return open(path, "rb", buffering=0)


def source_bytes(path: str) -> int:
    """Size of a file.

    Raises:
        BuildError: it is not there.
    """
    try:
        with open_source(path) as file:
            return file.seek(0, os.SEEK_END)
    except OSError as error:
        raise _unreadable(path, error) from error


def read_bytes(path: str, first_byte: int, num_bytes: int) -> bytes:
    """That stretch of a file, or what there is of it."""
    try:
        with open_source(path) as file:
            file.seek(first_byte)
            return file.read(num_bytes)
    except OSError as error:
        raise _unreadable(path, error) from error


def read_numbers(path: str, dtype: str, first_byte: int, count: int) -> Ids:
    """`count` integers from byte `first_byte` on.

    Raises:
        BuildError: the file ends before them, or cannot be read.
    """
    data = np.empty(count, dtype)
    view, done = data.data.cast("B") if count else memoryview(b""), 0
    try:
        with open_source(path) as file:
            file.seek(first_byte)
            while done < len(view) and (read := file.readinto(view[done:])):  # type: ignore[attr-defined]
                done += read
    except OSError as error:
        raise _unreadable(path, error) from error
    if done < len(view):
        raise BuildError(
            f"{printable(path)}: ends at byte {first_byte + done:,}, and {first_byte + len(view):,} were expected: "
            f"it was cut off or is being written. Copy it again, then run the same command again."
        )
    return data


def document_blocks(
    array: IdArray, first_document: int, borders: IntArray, block_tokens: int = BLOCK_TOKENS
) -> Iterator[IdBlock]:
    """Documents that lie between neighbouring `borders` [documents + 1], about `block_tokens` at a time.

    Args:
        first_document: number of the first of them in the file.
    """
    done, num_documents = 0, len(borders) - 1
    while done < num_documents:
        stop = int(np.searchsorted(borders, borders[done] + block_tokens, side="right")) - 1
        stop = min(max(stop, done + 1), num_documents)
        yield IdBlock(
            ids=array.read(int(borders[done]), int(borders[stop])),
            lengths=np.diff(borders[done : stop + 1]),
            positions=np.arange(first_document + done, first_document + stop, dtype=np.int64),
        )
        done = stop


def _unreadable(path: str, error: OSError) -> BuildError:
    return BuildError(
        f"{printable(path)}: cannot be read ({error.strerror or error}). Make it readable, then run the same "
        f"command again."
    )
