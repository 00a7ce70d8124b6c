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
import itertools
import math
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
_ENDS = np.dtype(np.int64)
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
        work.allocate(f"{target.name}/{name}.npy", len(header) + math.prod(shape) * dtype.itemsize, header)


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
    ends = (
        rows.doc_offsets[first + 1 : last + 1].astype(_ENDS)
        for first, last in blocks(0, part.num_rows, 1, BLOCK_TOKENS)
    )
    work.write_scratch(_scratch(target, part.index), itertools.chain(ends, (lists[name] for name in _lists(target))))
    return {"num_rows": part.num_rows, "num_doc_starts": len(rows.doc_positions)}


def end(work: WorkFolder, target: Target, written: Sequence[Written]) -> None:
    """Join the lists."""
    rows = [int(of_part["num_rows"]) for of_part in written]
    counts = [int(of_part["num_doc_starts"]) for of_part in written]
    with work.write(f"{target.name}/doc_offsets.npy") as file:
        file.write(_header(_ENDS, (target.num_rows + 1,)))
        file.write(np.zeros(1, _ENDS))
        before = itertools.accumulate(counts, initial=0)
        for index, (num_rows, first) in enumerate(zip(rows, before, strict=False)):
            for block in _read_scratch(work, target, index, 0, num_rows, _ENDS):
                file.write(block + first)
    places = [num_rows * _ENDS.itemsize for num_rows in rows]
    for name, dtype in _lists(target).items():
        with work.write(f"{target.name}/{name}.npy") as file:
            file.write(_header(dtype, (sum(counts),)))
            for index, count in enumerate(counts):
                for block in _read_scratch(work, target, index, places[index], count, dtype):
                    file.write(block)
                places[index] += count * dtype.itemsize


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


def _scratch(target: Target, index: int) -> str:
    """What a part has of the lists, and where they end: the ends, then the lists in the order of `_lists`."""
    return f"{target.name}/{index:06d}"


def _read_scratch(
    work: WorkFolder, target: Target, index: int, start: int, count: int, dtype: np.dtype[Any]
) -> Iterator[np.ndarray[Any, Any]]:
    left = count * dtype.itemsize
    with open(work.scratch(_scratch(target, index)), "rb") as file:
        file.seek(start)
        while left:
            block = np.frombuffer(file.read(min(left, JOINED_BYTES)), dtype)
            left -= block.nbytes
            yield block
