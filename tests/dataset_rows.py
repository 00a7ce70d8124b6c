"""The rows of a dataset as the reader hands them out, in training order: what other readers are compared with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from curriculum.batch import Batch
from curriculum.reader import Reader

Row = dict[str, Any]


def rows_of_phase(reader: Reader, phase: int, steps: range | None = None) -> list[Row]:
    """All rows of a phase, or those of some steps, with every column of its shards as plain values."""
    wanted = range(len(reader)) if steps is None else steps
    return rows_of(reader[step] for step in wanted if reader.plan.locate(step)[0] == phase)


def held_out_rows(reader: Reader) -> list[Row]:
    """The rows of the held-out split."""
    return [] if reader.validation is None else rows_of(reader.validation.batches(7))


def rows_of(batches: Iterable[Batch]) -> list[Row]:
    """One dictionary per row."""
    return [row for batch in batches for row in _rows(batch)]


def _rows(batch: Batch) -> list[Row]:
    positions, edges = batch.doc_starts
    bounds = list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
    columns: Row = {
        "tokens": batch.tokens.tolist(),
        "doc_starts": [positions[start:stop].tolist() for start, stop in bounds],
        "offset": batch.offset.tolist(),
        "document": batch.document.tolist(),
    }
    if batch.num_tokens is not None and batch.piece_offset is not None and batch.piece_document is not None:
        columns["num_tokens"] = batch.num_tokens.tolist()
        columns["piece_offset"] = [batch.piece_offset[start:stop].tolist() for start, stop in bounds]
        columns["piece_document"] = [batch.piece_document[start:stop].tolist() for start, stop in bounds]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
