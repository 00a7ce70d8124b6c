"""datatrove's tokenized file: NAME.ds with the ids, NAME.ds.index with the ends of the documents.

In:  the path of a .ds.   Out: its ids and their width; the documents that begin in a stretch of tokens.
Guarantee: no more of the index is read than the stretch needs, found by bisection; the width of an id follows from
the two sizes, so it can not be given wrongly.

    a.ds        05 00 06 00 00 00 07 00 00 00      5 6 0 | 7 0 as uint16
    a.ds.index  03 00 .. (u64)  05 00 .. (u64)     document 0 ends before token 3, document 1 before token 5
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from curriculum.errors import BuildError
from pipeline.folders import companion_path, printable
from pipeline.tokenized.id_array import (
    BLOCK_TOKENS,
    IdArray,
    IdBlock,
    IntArray,
    document_blocks,
    read_numbers,
    source_bytes,
)

DTYPE_OF_WIDTH = {2: "<u2", 4: "<u4"}


@dataclass(frozen=True, kw_only=True, slots=True)
class DatatroveFile:
    """A .ds and its index, whose sizes agree."""

    ids: IdArray
    index_path: str
    num_documents: int

    def ends(self, start: int, stop: int) -> IntArray:
        """The token after the last of documents `start <= d < stop`."""
        return read_numbers(self.index_path, "<u8", 8 * start, stop - start).astype(np.int64)


def open_datatrove(path: str) -> DatatroveFile:
    """Read what the sizes of the two files say.

    Raises:
        BuildError: they contradict each other.
    """
    index = companion_path(path, "datatrove")
    num_bytes, index_bytes = source_bytes(path), source_bytes(index)
    if index_bytes % 8:
        raise BuildError(
            f"{printable(index)}: has {index_bytes:,} bytes, no multiple of 8: it was cut off. Copy it again."
        )
    num_documents = index_bytes // 8
    num_tokens = 0
    if num_documents:
        num_tokens = int(read_numbers(index, "<u8", index_bytes - 8, 1)[0])
    width = next((width for width in DTYPE_OF_WIDTH if width * num_tokens == num_bytes), None)
    if width is None:
        raise BuildError(
            f"{printable(index)}: its documents end with token {num_tokens:,}, and {printable(path)} has "
            f"{num_bytes:,} bytes, which is neither 2 nor 4 for each token. One of the two was cut off: copy both "
            f"again."
        )
    ids = IdArray(path=path, dtype=DTYPE_OF_WIDTH[width], first_byte=0, num_tokens=num_tokens)
    return DatatroveFile(ids=ids, index_path=index, num_documents=num_documents)


def read_datatrove(file: DatatroveFile, start: int, stop: int, block_tokens: int = BLOCK_TOKENS) -> Iterator[IdBlock]:
    """The documents that begin at a token `start <= t < stop`; positions are their numbers.

    Raises:
        BuildError: the index is not in order there.
    """
    first = _first_document(file, start)
    last = file.num_documents if stop >= file.ids.num_tokens else _first_document(file, stop)
    if last <= first:
        return
    begin = int(file.ends(first - 1, first)[0]) if first else 0
    borders = np.concatenate(([begin], file.ends(first, last)))
    wrong = np.flatnonzero((np.diff(borders) < 0) | (borders[1:] > file.ids.num_tokens))
    if len(wrong):
        at = int(wrong[0])
        raise BuildError(
            f"{printable(file.index_path)}: document {first + at:,} begins at token {int(borders[at]):,} and ends "
            f"before token {int(borders[at + 1]):,} of {file.ids.num_tokens:,}: the index is damaged. Copy it again."
        )
    yield from document_blocks(file.ids, first, borders, block_tokens)


def _first_document(file: DatatroveFile, token: int) -> int:
    """The first document that begins at `token` or later: the one after the first that ends there or later."""
    if token <= 0:
        return 0
    low, high = 0, file.num_documents
    while low < high:
        middle = (low + high) // 2
        if int(file.ends(middle, middle + 1)[0]) < token:
            low = middle + 1
        else:
            high = middle
    return min(low + 1, file.num_documents)
