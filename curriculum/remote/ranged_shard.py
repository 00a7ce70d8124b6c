"""A shard of which only some rows are there, as the `Shard` that a batch looks at.

In:  a sparse file whose first `data_offset` bytes and footer were fetched; later whole, all but the tokens.
Out: `RangedShard`: tokens are a view of the map; the other columns are fetched when somebody asks for them.
Guarantee: the structure is checked as far as head and footer say it. No hole of the file is read here: on a full tmpfs
that would end the process with SIGBUS.

    shard.tokens[8:12]      rows that were fetched       shard.doc_offsets      fetches the columns behind the tokens
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curriculum.arrow_layout import MAX_FOOTER_BYTES, Compressed, require_plain_batch
from curriculum.errors import DataError
from curriculum.printable import one_line
from curriculum.remote.shard_source import ShardDescription
from curriculum.shard_format import Shard, compressed_shard, shard_schema

FOOTER_BYTES = MAX_FOOTER_BYTES + 10
"""So many bytes of the end are fetched with the head. The footer has about 1 KiB; the columns behind the tokens come
along where they are as small."""


class RangedShard(Shard):
    """Rows of plain shards, their other columns fetched at first use."""

    __slots__ = ("_columns", "_fetch_columns")
    _columns: Shard | None
    _fetch_columns: Callable[[], Shard]

    def __init__(self, tokens: np.ndarray[Any, Any], data_offset: int, fetch_columns: Callable[[], Shard]) -> None:
        """Wrap a view.

        Args:
            tokens: [num_rows, seq_len + 1], of which some rows are there.
            data_offset: byte of the file where the token values begin.
            fetch_columns: gives a shard whose other columns are there; called once, when one of them is asked for.
        """
        values = {"tokens": tokens, "data_offset": data_offset, "_fetch_columns": fetch_columns}
        absent = ("num_tokens", "piece_offset", "piece_document", "_columns")
        for name, value in {**values, **dict.fromkeys(absent)}.items():
            object.__setattr__(self, name, value)

    def _of_columns(self) -> Shard:
        if self._columns is None:
            object.__setattr__(self, "_columns", self._fetch_columns())
        assert self._columns is not None
        return self._columns

    @property
    def doc_positions(self) -> np.ndarray[Any, np.dtype[np.uint32]]:
        """See `Shard`."""
        return self._of_columns().doc_positions

    @property
    def doc_offsets(self) -> np.ndarray[Any, np.dtype[np.int32]]:
        """See `Shard`."""
        return self._of_columns().doc_offsets

    @property
    def offset(self) -> np.ndarray[Any, np.dtype[np.uint64]]:
        """See `Shard`."""
        return self._of_columns().offset

    @property
    def document(self) -> np.ndarray[Any, np.dtype[np.uint64]]:
        """See `Shard`."""
        return self._of_columns().document


def map_tokens(path: Path, where: str, about: ShardDescription) -> np.ndarray[Any, Any]:
    """The tokens of a plain shard [num_rows, seq_len + 1], after a check of its head and footer.

    Args:
        path: the sparse file.
        where: address of the shard; begins messages.
        about: what the manifest says.

    Raises:
        DataError: this is no Arrow file, or another layout than the manifest says.
    """
    seq_len, dtype = about.seq_len, about.dtype
    num_rows, data_offset = about.entry.num_rows, about.entry.data_offset
    try:
        whole = pa.memory_map(str(path)).read_buffer()
        require_plain_batch(memoryview(whole), data_offset, about.tokens.stop)
        reader = pa.ipc.open_file(whole)
        batch = reader.get_batch(0) if reader.schema.equals(shard_schema(seq_len, dtype)) else None
        data = batch.column(0).buffers()[-1] if batch is not None else None
        if batch is None or batch.num_rows != num_rows or data is None:
            found = f"{batch.num_rows:,} rows" if batch is not None else "other columns"
            raise DataError(
                f"{where}: its head describes {found}, the manifest says {num_rows:,} rows of {seq_len} {dtype} "
                f"inputs. This is another shard: copy the right one."
            )
        if data.address - whole.address != data_offset:
            raise DataError(
                f"{where}: its head does not place the token values at byte {data_offset}, as the manifest does. The "
                f"shard is compressed, damaged or another one: copy it again."
            )
        numpy_dtype = np.uint16 if dtype == "uint16" else np.uint32
        return np.frombuffer(data, numpy_dtype, num_rows * (seq_len + 1)).reshape(num_rows, seq_len + 1)
    except (pa.ArrowException, OSError, ValueError, IndexError) as error:
        if isinstance(error, DataError):
            raise
        if isinstance(error, Compressed):
            raise compressed_shard(where) from None
        raise DataError(
            f"{where}: its head and footer are not those of an Arrow file ({one_line(error)}). Copy the shard again."
        ) from None
