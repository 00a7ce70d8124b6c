"""Shards of Mosaic's StreamingDataset (MDS, version 2).

In:  parts of a phase.   Out: .mds files of up to 64 MiB, and index.json, which lists them in the order of the rows.
Guarantee: the bytes that `MDSWriter` writes for the same samples (a test compares them), names aside. It takes a sample
at a time, 50,000 to 70,000 a second however short they are; here the samples of a block are laid out together, 10
million a second of 8 tokens, 0.8 million of 1,024. Its library also holds numpy and transformers at old versions.

A sample of the columns doc_starts, document, offset, tokens, for a row of two tokens with a document start at 1:

    04 00 00 00                  bytes of the one column without a fixed size
    01 00 00 00                  doc_starts: uint32 positions
    07 .. (u64)  64 .. (u64)     document 7, offset 100
    05 00 06 00                  tokens 5 6

    FILE = num_samples u32, where each begins and the last ends u32[num_samples + 1], columns as JSON, samples
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from curriculum.errors import ConfigError
from curriculum.manifest import Manifest
from curriculum.shard_format import Shard
from pipeline.exporters.contract import Target, Written
from pipeline.exporters.rows import aligned_labels, blocks, labels_refusal, rows_between
from pipeline.exporters.selection import Part
from pipeline.exporters.work_folder import WorkFolder
from pipeline.tokenized.id_array import IntArray

FILE_BYTES = 1 << 26
"""The default of MDSWriter."""
BLOCK_TOKENS = 2 << 20
"""Rows that are laid out together, in memory three times."""
MAX_SAMPLE_BYTES = 1 << 31
"""Places in a file are uint32."""
READ = """\
from streaming import StreamingDataset

assert rows_per_step % world_size == 0  # else batches are not steps
batch_size = rows_per_step // world_size  # of each rank
rows = StreamingDataset(local="FOLDER", shuffle=False, num_canonical_nodes=1, batch_size=batch_size)
row = rows[0]["tokens"]  # seq_len + 1 tokens
inputs, targets = row[:-1], row[1:]"""
READ_PACKED = """\
from streaming import StreamingDataset

assert rows_per_step % world_size == 0  # else batches are not steps
batch_size = rows_per_step // world_size  # of each rank
rows = StreamingDataset(local="FOLDER", shuffle=False, num_canonical_nodes=1, batch_size=batch_size)
row, labels = rows[0]["tokens"], rows[0]["labels"]  # seq_len + 1 of each; -100: no target
inputs, targets = row[:-1], labels[1:]"""
NOTE = """\
`doc_starts` is bytes: `numpy.frombuffer(sample["doc_starts"], numpy.uint32)` are the positions, from 1 on, where
documents begin in the row. So read, with `num_canonical_nodes=1` on one node or several, every global batch is the rows
of one step if the number of ranks divides its rows per step; with another number of ranks it is not, and steps mix."""
_Column = tuple[str, str, str, int]
"""name, encoding, dtype of numpy, items"""


def refusal(manifest: Manifest) -> str | None:
    """None, but for a vocabulary that labels do not hold."""
    return labels_refusal(manifest)


def begin(work: WorkFolder, target: Target) -> None:
    """Nothing; rows that are too long are refused."""
    if _row_dtype(target).itemsize + 4 * target.row_tokens > MAX_SAMPLE_BYTES:
        raise ConfigError(f"{target.name}: rows of {target.seq_len:,} tokens are too long for MDS. Use --format npy.")


def write(work: WorkFolder, target: Target, part: Part, shard: Shard) -> Written:
    """The part's rows, in as many files as they need."""
    least_bytes = _row_dtype(target).itemsize
    most_rows = FILE_BYTES // least_bytes + 1  # of a file: a shard of short rows has very many
    files: list[tuple[str, int, int]] = []
    start = part.start
    while start < part.stop:
        edges = shard.doc_offsets[start : min(start + most_rows, part.stop) + 1].astype(np.int64)
        sizes = least_bytes + 4 * np.diff(edges)
        count = _rows_that_fit(sizes, len(_config(target)))
        name = f"shard.{part.index:06d}.{len(files):04d}.mds"
        num_bytes = _write_file(work, f"{target.name}/{name}", target, shard, start, sizes[:count])
        files.append((name, count, num_bytes))
        start += count
    return {"files": files}


def end(work: WorkFolder, target: Target, written: Sequence[Written]) -> None:
    """index.json."""
    shards = [
        {
            **_description(target),
            "raw_data": {"basename": name, "bytes": num_bytes, "hashes": {}},
            "samples": samples,
            "zip_data": None,
        }
        for of_part in written
        for name, samples, num_bytes in of_part["files"]
    ]
    with work.write(f"{target.name}/index.json") as file:
        file.write(json.dumps({"shards": shards, "version": 2}, sort_keys=True).encode())


def _columns(target: Target) -> list[_Column]:
    """Those of a fixed size, sorted by name, after `doc_starts`."""
    tokens, dtype = target.row_tokens, target.dtype
    columns = [
        ("document", "uint64", "<u8", 1),
        ("offset", "uint64", "<u8", 1),
        ("tokens", f"ndarray:{dtype}:{tokens}", f"<u{np.dtype(dtype).itemsize}", tokens),
    ]
    if target.packed:
        columns += [("labels", f"ndarray:int32:{tokens}", "<i4", tokens), ("num_tokens", "uint32", "<u4", 1)]
    return sorted(columns)


def _row_dtype(target: Target) -> np.dtype[np.void]:
    """A sample without its document starts: how many bytes those have, then the other columns."""
    fields: list[Any] = [("size", "<u4")]
    for name, _, dtype, items in _columns(target):
        fields.append((name, dtype) if items == 1 else (name, dtype, (items,)))
    return np.dtype(fields)


def _description(target: Target) -> dict[str, Any]:
    columns = _columns(target)
    return {
        "column_encodings": ["bytes", *(encoding for _, encoding, _, _ in columns)],
        "column_names": ["doc_starts", *(name for name, _, _, _ in columns)],
        "column_sizes": [None, *(np.dtype(dtype).itemsize * items for _, _, dtype, items in columns)],
        "compression": None,
        "format": "mds",
        "hashes": [],
        "size_limit": FILE_BYTES,
        "version": 2,
    }


def _config(target: Target) -> bytes:
    return json.dumps(_description(target), sort_keys=True).encode()


def _rows_that_fit(sizes: IntArray, config_bytes: int) -> int:
    """As MDSWriter counts: 4 bytes for each sample and 8 for the file, besides the columns as JSON."""
    ends = np.cumsum(sizes + 4) + 8 + config_bytes
    return max(1, int(np.searchsorted(ends, FILE_BYTES, side="right")))


def _write_file(work: WorkFolder, name: str, target: Target, shard: Shard, start: int, sizes: IntArray) -> int:
    """The samples of the rows from `start` on, of these sizes; the bytes of the file."""
    config = _config(target)
    first = 4 + 4 * (len(sizes) + 1) + len(config)
    places = first + np.concatenate(([0], np.cumsum(sizes)))
    with work.write(name) as file:
        file.write(np.uint32(len(sizes)).tobytes())
        file.write(places.astype("<u4"))
        file.write(config)
        for block in blocks(start, start + len(sizes), target.row_tokens, BLOCK_TOKENS):
            file.write(_samples(target, shard, *block))
        return file.num_bytes


def _samples(target: Target, shard: Shard, start: int, stop: int) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Samples end to end, as 16-bit words: no column has an odd size."""
    rows = rows_between(shard, start, stop)
    edges = rows.doc_offsets.astype(np.int64)
    samples = np.empty(stop - start, _row_dtype(target))
    samples["size"] = 4 * np.diff(edges)
    samples["document"], samples["offset"], samples["tokens"] = rows.document, rows.offset, rows.tokens
    if target.packed:
        samples["num_tokens"], samples["labels"] = rows.num_tokens, aligned_labels(shard, start, stop)
    words = samples.view(np.uint16)
    if not len(rows.doc_positions):
        return words
    row_words = samples.itemsize // 2
    before = np.arange(stop - start) * row_words + 2  # behind the size
    starts = np.ascontiguousarray(rows.doc_positions, "<u4").view(np.uint16)
    return np.insert(words, np.repeat(before, 2 * np.diff(edges)), starts)
