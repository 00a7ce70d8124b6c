"""Write one shard: the columns of consecutive rows as an Arrow IPC file.

In:  rows in training order.  Out: the published file and its manifest entry.
Guarantee: uncompressed, one record batch, no nulls; the file is on the disk before its entry exists, and the entry's
digest is of the bytes that were written.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from curriculum.manifest import ShardEntry
from curriculum.shard_format import open_shard, shard_schema
from pipeline.publish import Aside
from pipeline.segment import Rows


def write_shard(root: Path, aside_folder: Path, path: str, rows: Rows) -> ShardEntry:
    """Publish rows as `root / path`.

    Args:
        root: folder of the dataset.
        aside_folder: folder for the unfinished file, on the same file system.
        path: path of the shard relative to `root`, forward slashes.
        rows: what to write.
    """
    num_rows, row_tokens = rows.tokens.shape
    schema = shard_schema(row_tokens - 1, rows.tokens.dtype.name)
    batch = pa.record_batch(_columns(rows, schema), schema=schema)
    with Aside(aside_folder, root / path, hashed=True) as file:
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
        )
    return ShardEntry(path=path, num_rows=num_rows, num_bytes=num_bytes, data_offset=written.data_offset, sha256=digest)


def _columns(rows: Rows, schema: pa.Schema) -> list[pa.Array]:
    """Arrow arrays over the numpy memory, nothing copied."""
    num_rows, row_tokens = rows.tokens.shape
    tokens_type, starts_type = schema.field("tokens").type, schema.field("doc_starts").type

    def values(type_: pa.DataType, array: object, length: int) -> pa.Array:
        return pa.Array.from_buffers(type_, length, [None, pa.py_buffer(array)])

    token_values = values(tokens_type.value_type, rows.tokens, num_rows * row_tokens)
    start_values = values(pa.uint32(), rows.doc_positions, len(rows.doc_positions))
    return [
        pa.Array.from_buffers(tokens_type, num_rows, [None], children=[token_values]),
        pa.Array.from_buffers(starts_type, num_rows, [None, pa.py_buffer(rows.doc_offsets)], children=[start_values]),
        values(pa.uint64(), rows.offset, num_rows),
        values(pa.uint64(), rows.document, num_rows),
    ]
