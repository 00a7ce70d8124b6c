"""Megatron's indexed dataset: rows.bin with the tokens, rows.idx with where each row begins.

In:  parts of a phase.   Out: a pair of files that `IndexedDataset("FOLDER/rows")` opens; row i is document i.
Guarantee: as `pipeline.tokenized.megatron` reads it. All tasks fill the .bin at once, each at its rows, which have one
size; the .idx is arithmetic.

The format has no place for which tokens are targets: packed rows are refused.

    2 rows of 3 tokens, uint16: rows.bin of 12 bytes; rows.idx: lengths 3 3, begin at bytes 0 6, documents 0 1 2
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from curriculum.manifest import Manifest
from curriculum.shard_format import Shard
from pipeline.exporters.contract import Target, Written
from pipeline.exporters.selection import Part
from pipeline.exporters.work_folder import WorkFolder
from pipeline.tokenized.id_array import IntArray
from pipeline.tokenized.megatron import DTYPES, HEADER, MAGIC, VERSION

BLOCK_ROWS = 1 << 20
STORED_AS = {"uint16": "<u2", "uint32": "<i4"}
"""Megatron has no uint32; ids that an int32 does not hold are refused."""
READ = """\
from megatron.core.datasets.indexed_dataset import IndexedDataset

rows = IndexedDataset("FOLDER/rows")
row = rows[0]  # seq_len + 1 tokens
inputs, targets = row[:-1], row[1:]"""
READ_PACKED = ""
NOTE = """\
Every row is one sequence and one document. Read rows by their number: Megatron's `GPTDataset` shuffles documents and
cuts them anew, into samples that share a token, so it would keep neither the order nor the rows."""


def refusal(manifest: Manifest) -> str | None:
    """Packed rows, and ids beyond int32."""
    if manifest.packed:
        return (
            f"rows of mode {manifest.plan.mode!r} are pieces of documents and padding, and not every token of them is "
            f"a target: Megatron's format cannot say so, and a trainer would train on all. Use --format parquet, mds "
            f"or npy, which have labels."
        )
    if manifest.tokenizer.vocab_size > 2**31:
        return "Megatron stores ids as int32, and the vocabulary is larger. Use --format parquet or npy."
    return None


def begin(work: WorkFolder, target: Target) -> None:
    """The .bin, as large as it will be."""
    work.allocate(f"{target.name}/rows.bin", target.num_rows * _row_bytes(target))


def write(work: WorkFolder, target: Target, part: Part, shard: Shard) -> Written:
    """The part's rows of the .bin."""
    tokens = shard.tokens[part.start : part.stop]
    work.write_at(f"{target.name}/rows.bin", part.first_row * _row_bytes(target), [tokens])
    return {}


def end(work: WorkFolder, target: Target, written: Sequence[Written]) -> None:
    """The .idx."""
    code = next(code for code, dtype in DTYPES.items() if dtype == STORED_AS[target.dtype])
    rows = target.num_rows
    with work.write(f"{target.name}/rows.idx") as file:
        file.write(HEADER.pack(MAGIC, VERSION, code, rows, rows + 1))
        for block in _numbers(rows):
            file.write(np.full(len(block), target.row_tokens, "<i4"))
        for block in _numbers(rows):
            file.write((block * _row_bytes(target)).astype("<i8"))
        for block in _numbers(rows + 1):
            file.write(block.astype("<i8"))


def _row_bytes(target: Target) -> int:
    return target.row_tokens * np.dtype(target.dtype).itemsize


def _numbers(stop: int) -> Iterator[IntArray]:
    for first in range(0, stop, BLOCK_ROWS):
        yield np.arange(first, min(first + BLOCK_ROWS, stop), dtype=np.int64)
