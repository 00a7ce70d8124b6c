"""NumPy's .npy: one array per column and phase, which `numpy.load(..., mmap_mode="r")` maps.

In:  parts of a phase.   Out: in its folder

    tokens.npy      uint16 or uint32 [rows, seq_len + 1]
    offset.npy      uint64 [rows]       document.npy   uint64 [rows]
    doc_starts.npy  uint32 [n]          doc_offsets.npy   int64 [rows + 1]
    labels.npy      int32 [rows, seq_len + 1]; num_tokens.npy, piece_offset.npy, piece_document.npy: if rows are packed

Guarantee: row i owns `doc_starts[doc_offsets[i] : doc_offsets[i + 1]]`, and the same entries of the `piece_` arrays.
Arrays whose size is known are filled by all tasks at once, each at its rows; lists are joined at the end.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from curriculum.manifest import Manifest
from curriculum.shard_format import Shard
from pipeline.exporters.contract import Target, Written
from pipeline.exporters.rows import aligned_labels, blocks, labels_refusal, rows_between
from pipeline.exporters.selection import Part
from pipeline.exporters.work_folder import WorkFolder

BLOCK_TOKENS = 4 << 20
JOINED_BYTES = 16 << 20
READ = """\
import numpy

tokens = numpy.load("FOLDER/tokens.npy", mmap_mode="r")  # [rows, seq_len + 1]
rows = tokens[first_row : first_row + rows_per_step]
inputs, targets = rows[:, :-1], rows[:, 1:]"""
READ_PACKED = """\
import numpy

tokens = numpy.load("FOLDER/tokens.npy", mmap_mode="r")  # [rows, seq_len + 1]
labels = numpy.load("FOLDER/labels.npy", mmap_mode="r")  # the same shape; -100: no target
step = slice(first_row, first_row + rows_per_step)
inputs, targets = tokens[step, :-1], labels[step, 1:]"""
NOTE = """\
`doc_starts.npy` and `doc_offsets.npy` say where documents begin in the rows: row `i` owns
`doc_starts[doc_offsets[i] : doc_offsets[i + 1]]`, positions from 1 on. `offset.npy` and `document.npy` say where a row
comes from in the stream of the corpus."""


def refusal(manifest: Manifest) -> str | None:
    """None, but for a vocabulary that labels do not hold."""
    return labels_refusal(manifest)


def begin(work: WorkFolder, target: Target) -> None:
    """Files with their header, as large as they will be."""
    for name, (dtype, shape) in _sized(target).items():
        header = _header(dtype, shape)
        num_bytes = len(header) + int(np.prod(shape)) * dtype.itemsize
        work.allocate(f"{target.name}/{name}.npy", num_bytes)
        work.write_at(f"{target.name}/{name}.npy", 0, [header])


def write(work: WorkFolder, target: Target, part: Part, shard: Shard) -> Written:
    """The part's rows of every array."""
    rows = rows_between(shard, part.start, part.stop)
    arrays: dict[str, np.ndarray[Any, Any]] = {"tokens": rows.tokens, "offset": rows.offset, "document": rows.document}
    lists: dict[str, np.ndarray[Any, Any]] = {"doc_starts": rows.doc_positions}
    if target.packed:
        assert rows.num_tokens is not None
        assert rows.piece_offset is not None
        assert rows.piece_document is not None
        arrays["num_tokens"] = rows.num_tokens
        lists |= {"piece_offset": rows.piece_offset, "piece_document": rows.piece_document}
        _write_labels(work, target, part, shard)
    for name, values in arrays.items():
        dtype, shape = _sized(target)[name]
        start = len(_header(dtype, shape)) + part.first_row * values.strides[0]
        work.write_at(f"{target.name}/{name}.npy", start, [values])
    for name, values in lists.items():
        work.write_scratch(_scratch(target, name, part.index), [values])
    ends = rows.doc_offsets[1:].astype(np.int64)
    work.write_scratch(_scratch(target, "doc_offsets", part.index), [ends])
    return {"num_doc_starts": len(rows.doc_positions)}


def end(work: WorkFolder, target: Target, written: Sequence[Written]) -> None:
    """Join the lists."""
    counts = [int(of_part["num_doc_starts"]) for of_part in written]
    for name, dtype in _lists(target).items():
        with work.write(f"{target.name}/{name}.npy") as file:
            file.write(_header(dtype, (sum(counts),)))
            for index in range(len(counts)):
                for block in _scratch_blocks(work, target, name, index, dtype):
                    file.write(block)
    with work.write(f"{target.name}/doc_offsets.npy") as file:
        file.write(_header(np.dtype(np.int64), (target.num_rows + 1,)))
        file.write(np.zeros(1, np.int64))
        before = 0
        for index, count in enumerate(counts):
            for block in _scratch_blocks(work, target, "doc_offsets", index, np.dtype(np.int64)):
                file.write(block + before)
            before += count


def _sized(target: Target) -> dict[str, tuple[np.dtype[np.generic], tuple[int, ...]]]:
    """Arrays whose shape is known before anything is read."""
    rows, matrix = (target.num_rows,), (target.num_rows, target.row_tokens)
    found: dict[str, tuple[np.dtype[np.generic], tuple[int, ...]]] = {
        "tokens": (np.dtype(target.dtype), matrix),
        "offset": (np.dtype(np.uint64), rows),
        "document": (np.dtype(np.uint64), rows),
    }
    if target.packed:
        found |= {"labels": (np.dtype(np.int32), matrix), "num_tokens": (np.dtype(np.uint32), rows)}
    return found


def _lists(target: Target) -> dict[str, np.dtype[np.generic]]:
    """Arrays of which only the shards say how long they are."""
    lists: dict[str, np.dtype[np.generic]] = {"doc_starts": np.dtype(np.uint32)}
    if target.packed:
        lists |= {"piece_offset": np.dtype(np.uint64), "piece_document": np.dtype(np.uint64)}
    return lists


def _write_labels(work: WorkFolder, target: Target, part: Part, shard: Shard) -> None:
    dtype, shape = _sized(target)["labels"]
    row_bytes = target.row_tokens * dtype.itemsize
    first = len(_header(dtype, shape)) + part.first_row * row_bytes
    labels = (aligned_labels(shard, *block) for block in blocks(part.start, part.stop, target.row_tokens, BLOCK_TOKENS))
    work.write_at(f"{target.name}/labels.npy", first, labels)


def _header(dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, description)
    return buffer.getvalue()


def _scratch(target: Target, name: str, index: int) -> str:
    return f"{target.name}/{name}-{index:06d}"


def _scratch_blocks(
    work: WorkFolder, target: Target, name: str, index: int, dtype: np.dtype[np.generic]
) -> Iterator[np.ndarray[Any, Any]]:
    with open(work.scratch(_scratch(target, name, index)), "rb") as file:
        while block := file.read(JOINED_BYTES):
            yield np.frombuffer(block, dtype)
