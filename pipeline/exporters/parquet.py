"""Parquet: a file per shard, for `datasets`, the Hub's viewer, duckdb, polars, Spark.

In:  parts of a phase.   Out: in its folder shard-000000.parquet and so on, in the order of the rows.
Guarantee: every column of the shards. `tokens` is called `input_ids`, as trainers of Hugging Face have it; packed rows
have `labels` besides, -100 where there is no target. Row groups of about 16 MB, zstd, nothing that older readers lack.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet

from curriculum.manifest import Manifest
from curriculum.shard_format import Shard, shard_path, shard_schema
from pipeline.exporters.contract import Target, Written
from pipeline.exporters.rows import aligned_labels, blocks, labels_refusal, rows_between
from pipeline.exporters.selection import Part
from pipeline.exporters.work_folder import WorkFolder
from pipeline.shard import fixed_size_lists, shard_columns

GROUP_TOKENS = 4 << 20
"""A row group is at most 16 MB before compression: Parquet has no 16-bit integers, ids take four bytes."""
GROUP_ROWS = 1 << 17
"""Rows have other columns too."""
ZSTD_LEVEL = 1
"""Of GPT-2 ids of real text 38 % is left, without a dictionary; 48 % with one, which takes longer to write and to read.
Level 3 leaves 36 % and takes a fifth more time."""
READ = """\
import datasets

rows = datasets.load_dataset("OUT", "NAME", split="SPLIT", streaming=True).with_format("numpy")
row = next(iter(rows))["input_ids"]  # seq_len + 1 tokens
inputs, targets = row[:-1], row[1:]"""
READ_PACKED = """\
import datasets

rows = datasets.load_dataset("OUT", "NAME", split="SPLIT", streaming=True).with_format("numpy")
row = next(iter(rows))  # seq_len + 1 tokens and labels
inputs, targets = row["input_ids"][:-1], row["labels"][1:]  # -100: no target"""
NOTE = """\
The other columns are those of the dataset: `doc_starts` (positions, from 1 on, where documents begin in the row),
`offset` and `document` (where it comes from in the stream of the corpus)."""


def refusal(manifest: Manifest) -> str | None:
    """None, but for a vocabulary that labels do not hold."""
    return labels_refusal(manifest)


def begin(work: WorkFolder, target: Target) -> None:
    """Nothing."""


def write(work: WorkFolder, target: Target, part: Part, shard: Shard) -> Written:
    """One file."""
    name = shard_path(target.name, part.index, target.num_parts).replace(".arrow", ".parquet")
    schema = _schema(target)
    options = {"compression": "zstd", "compression_level": ZSTD_LEVEL, "use_dictionary": False}
    with work.write(name) as file, pa.parquet.ParquetWriter(file, schema, **options) as writer:
        block_tokens = min(GROUP_TOKENS, GROUP_ROWS * target.row_tokens)
        for start, stop in blocks(part.start, part.stop, target.row_tokens, block_tokens):
            writer.write_table(_table(target, schema, shard, start, stop), row_group_size=stop - start)
    return {}


def end(work: WorkFolder, target: Target, written: Sequence[Written]) -> None:
    """Nothing."""


def _table(target: Target, schema: pa.Schema, shard: Shard, start: int, stop: int) -> pa.Table:
    columns = shard_columns(rows_between(shard, start, stop))
    if target.packed:
        columns.insert(1, fixed_size_lists(schema.field("labels").type, aligned_labels(shard, start, stop)))
    return pa.table(columns, schema=schema)


def _schema(target: Target) -> pa.Schema:
    schema = shard_schema(target.seq_len, target.dtype, target.packed)
    schema = schema.set(0, schema.field("tokens").with_name("input_ids"))
    if not target.packed:
        return schema
    label = pa.field("item", pa.int32(), nullable=False)
    return schema.insert(1, pa.field("labels", pa.list_(label, target.row_tokens), nullable=False))
