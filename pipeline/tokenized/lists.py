"""Lists of ids in a column: what `datasets.map(tokenize)` leaves in Parquet and Arrow files.

In:  an Arrow array of lists of integers, and the row of its first list.   Out: `IdBlock`s.
Guarantee: ids are views of the array, no Python object is made for any; a list that is null, or holds a null, is
refused with its row.

    [[5, 6], [], [7]] from row 10 on    ids 5 6 7, lengths 2 0 1, positions 10 11 12
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from curriculum.errors import BadRecordError
from pipeline.folders import printable
from pipeline.tokenized.id_array import BLOCK_TOKENS, IdBlock, IntArray

BLOCK_ROWS = 8192


def is_list_of_ids(kind: Any) -> bool:
    """Whether a column of this type can hold ids."""
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(is_list and pa.types.is_integer(kind.value_type))


def read_lists(path: str, key: str, first_row: int, values: Any) -> Iterator[IdBlock]:
    """The lists of an array, which begin at row `first_row` of the file, in blocks of at most 8192 of them.

    Raises:
        BadRecordError: a list is null or holds a null.
    """
    for start in range(0, len(values), BLOCK_ROWS):
        piece = values.slice(start, BLOCK_ROWS)
        row = first_row + start
        ids = piece.flatten()
        if piece.null_count or ids.null_count:
            raise BadRecordError(_null(path, key, row, piece))
        lengths = _lengths(piece)
        numbers = np.empty(0, "<i8") if len(ids) == 0 else ids.to_numpy(zero_copy_only=True)
        yield from _blocks(numbers, lengths, row)


def _blocks(ids: Any, lengths: IntArray, row: int) -> Iterator[IdBlock]:
    """The same in blocks of about `BLOCK_TOKENS` ids."""
    borders = np.concatenate(([0], np.cumsum(lengths)))
    done = 0
    while done < len(lengths):
        stop = int(np.searchsorted(borders, borders[done] + BLOCK_TOKENS, side="right")) - 1
        stop = min(max(stop, done + 1), len(lengths))
        yield IdBlock(
            ids=ids[int(borders[done]) : int(borders[stop])],
            lengths=lengths[done:stop],
            positions=np.arange(row + done, row + stop, dtype=np.int64),
        )
        done = stop


def _lengths(values: Any) -> IntArray:
    if pa.types.is_fixed_size_list(values.type):
        return np.full(len(values), values.type.list_size, np.int64)
    lengths: IntArray = np.diff(values.offsets.to_numpy(zero_copy_only=True).astype(np.int64))
    return lengths


def _null(path: str, key: str, row: int, values: Any) -> str:
    """Which list it is; looked for one by one, since it ends the build."""
    bad = next(at for at, one in enumerate(values) if not one.is_valid or one.values.null_count)
    what = "is null" if not values[bad].is_valid else "holds a null"
    return (
        f'{printable(path)}, row {row + bad}: its list in column "{key}" {what}, and a document is a list of ids. '
        f"Repair "
        f"or drop the row."
    )
