"""What a reader yields: the rows of one micro-batch as views, and the cursor that resumes after them.

In:  a mapped shard and a range of its rows.   Out: numpy views, made when they are asked for.
Guarantee: nothing is copied; arrays are read-only; the cursor is the same on every rank and for every world size.

    batch.tokens    [rows, seq_len + 1]   5 6 7 0 8
    batch.inputs    [rows, seq_len]       5 6 7 0
    batch.targets   [rows, seq_len]         6 7 0 8
"""

from __future__ import annotations

from typing import Any

import numpy as np

from curriculum.cursor import Cursor
from curriculum.errors import CursorError
from curriculum.shard_format import Shard

TokenArray = np.ndarray[Any, Any]


class Batch:
    """Consecutive rows of one shard: a global batch, or the micro-batch of a rank."""

    __slots__ = ("_cursor", "_shard", "_start", "_stop", "micro", "phase", "step")

    def __init__(
        self,
        shard: Shard,
        start: int,
        stop: int,
        *,
        step: int,
        micro: int,
        phase: int,
        cursor: tuple[str, int, int] | None,
    ) -> None:
        self._shard = shard
        self._start = start
        self._stop = stop
        self._cursor = cursor
        self.step = step
        """global step, from 0; -1 for held-out rows"""
        self.micro = micro
        """micro-batch of the step, from 0"""
        self.phase = phase
        """index into plan.phases; -1 for held-out rows"""

    @property
    def tokens(self) -> TokenArray:
        """uint16 or uint32 [rows, seq_len + 1]"""
        return self._shard.tokens[self._start : self._stop]

    @property
    def inputs(self) -> TokenArray:
        """[rows, seq_len]: tokens without the last"""
        return self._shard.tokens[self._start : self._stop, :-1]

    @property
    def targets(self) -> TokenArray:
        """[rows, seq_len]: tokens without the first; targets[i, j] is the token after inputs[i, j]"""
        return self._shard.tokens[self._start : self._stop, 1:]

    @property
    def doc_starts(self) -> tuple[np.ndarray[Any, np.dtype[np.uint32]], np.ndarray[Any, np.dtype[np.int64]]]:
        """(positions uint32 [n], row_offsets int64 [rows + 1]): row i has document starts at
        positions[row_offsets[i] : row_offsets[i + 1]], each >= 1"""
        edges = self._shard.doc_offsets[self._start : self._stop + 1].astype(np.int64)
        return self._shard.doc_positions[edges[0] : edges[-1]], edges - edges[0]

    @property
    def offset(self) -> np.ndarray[Any, np.dtype[np.uint64]]:
        """uint64 [rows]: stream position of each row's first token"""
        return self._shard.offset[self._start : self._stop]

    @property
    def document(self) -> np.ndarray[Any, np.dtype[np.uint64]]:
        """uint64 [rows]: ordinal in the stream of the document that holds each row's first token"""
        return self._shard.document[self._start : self._stop]

    @property
    def seq_len(self) -> int:
        """Inputs per row."""
        return int(self._shard.tokens.shape[1]) - 1

    @property
    def cursor(self) -> Cursor:
        """The state after this batch.

        Raises:
            CursorError: held-out rows are no place to resume from.
        """
        if self._cursor is None:
            raise CursorError("a validation batch has no cursor: resume from the cursor of the last training batch.")
        return Cursor(*self._cursor)

    def __len__(self) -> int:
        return self._stop - self._start

    def __repr__(self) -> str:
        return (
            f"Batch(step={self.step}, micro={self.micro}, phase={self.phase}, rows={len(self)}, seq_len={self.seq_len})"
        )
