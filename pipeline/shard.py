"""Write one shard: the columns of consecutive rows as an Arrow IPC file.

In:  rows in training order.  Out: the published file and its manifest entry.
Guarantee: uncompressed, one record batch, no nulls; the file is on the disk before its entry exists, and the entry's
digest is of the bytes that were written. Packed rows (`Rows.num_tokens` is there) get their three further columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from curriculum.manifest import ShardEntry
from curriculum.shard_format import open_shard, shard_schema
from pipeline.files.contract import OpenFile
from pipeline.segment import Rows


def write_shard(write: OpenFile, path: str, rows: Rows) -> ShardEntry:
    """Publish rows as a file of a dataset.

    Args:
        write: opens a file of the dataset, see `pipeline.files.contract.OpenFile`.
        path: path of the shard in it, forward slashes.
        rows: what to write.
    """
    num_rows, row_tokens = rows.tokens.shape
    packed = rows.num_tokens is not None
    schema = shard_schema(row_tokens - 1, rows.tokens.dtype.name, packed)
    batch = pa.record_batch(shard_columns(rows), schema=schema)
    with write(path, hashed=True) as file:
        with pa.ipc.new_file(file, schema) as writer:
            writer.write_batch(batch)
        digest, num_bytes = file.sha256(), file.num_bytes
        file.flush()
        written = open_shard(
            file.path,
            seq_len=row_tokens - 1,
            dtype=rows.tokens.dtype.name,
            num_rows=num_rows,
            num_bytes=num_bytes,
            packed=packed,
        )
    return ShardEntry(path=path, num_rows=num_rows, num_bytes=num_bytes, data_offset=written.data_offset, sha256=digest)


def shard_columns(rows: Rows) -> list[pa.Array]:
    """Arrow arrays over the numpy memory, nothing copied."""
    num_rows, row_tokens = rows.tokens.shape
    schema = shard_schema(row_tokens - 1, rows.tokens.dtype.name, rows.num_tokens is not None)

    def lists(name: str, items: np.ndarray[Any, Any]) -> pa.Array:
        type_ = schema.field(name).type
        children = [_values(type_.value_type, items)]
        return pa.Array.from_buffers(type_, num_rows, [None, pa.py_buffer(rows.doc_offsets)], children=children)

    columns = [
        fixed_size_lists(schema.field("tokens").type, rows.tokens),
        lists("doc_starts", rows.doc_positions),
        _values(pa.uint64(), rows.offset),
        _values(pa.uint64(), rows.document),
    ]
    if rows.num_tokens is not None:
        assert rows.piece_offset is not None
        assert rows.piece_document is not None
        columns += [
            _values(pa.uint32(), rows.num_tokens),
            lists("piece_offset", rows.piece_offset),
            lists("piece_document", rows.piece_document),
        ]
    return columns


def fixed_size_lists(type_: pa.DataType, array: np.ndarray[Any, Any]) -> pa.Array:
    """A column of lists of one size over [rows, size] numpy memory."""
    return pa.Array.from_buffers(type_, len(array), [None], children=[_values(type_.value_type, array)])


def _values(type_: pa.DataType, array: np.ndarray[Any, Any]) -> pa.Array:
    return pa.Array.from_buffers(type_, array.size, [None, pa.py_buffer(array)])
