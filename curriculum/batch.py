"""What a reader yields: the rows of one micro-batch as views, and the cursor that resumes after them.

In:  a mapped shard and a range of its rows.   Out: numpy views, made when they are asked for.
Guarantee: nothing is copied; arrays are read-only; the cursor is the same on every rank and for every world size.
Only `labels`, `varlen` and the `has_target` of packed rows are computed, into new memory, each time they are asked for.

    batch.tokens    [rows, seq_len + 1]   5 6 7 0 8
    batch.inputs    [rows, seq_len]       5 6 7 0
    batch.targets   [rows, seq_len]         6 7 0 8

    packed row of the pieces 5 6 0 and 8 9 0, then padding: num_tokens 6, doc_starts [3]
    tokens   5 6 0 8 9 0 0 0     an input whose next token is another piece or padding has no target:
    labels     6 0 -100 9 0 -100 -100
"""

from __future__ import annotations

from typing import Any

import numpy as np

from curriculum.cursor import Cursor
from curriculum.errors import CursorError
from curriculum.shard_format import Shard
from curriculum.varlen import Varlen, varlen

TokenArray = np.ndarray[Any, Any]
IGNORED = -100
"""The label of an input without a target: what cross-entropy of PyTorch and Hugging Face models leaves out."""


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
        cursor: Cursor | None,
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
    def num_tokens(self) -> np.ndarray[Any, np.dtype[np.uint32]] | None:
        """uint32 [rows]: stored tokens of each row before its padding; None where rows are not packed"""
        num_tokens = self._shard.num_tokens
        return None if num_tokens is None else num_tokens[self._start : self._stop]

    @property
    def piece_offset(self) -> np.ndarray[Any, np.dtype[np.uint64]] | None:
        """uint64 [n], parallel to the positions of `doc_starts`: stream position of the first token of the piece that
        begins there (`offset` is that of a row's first piece); None where rows are not packed"""
        return self._of_pieces(self._shard.piece_offset)

    @property
    def piece_document(self) -> np.ndarray[Any, np.dtype[np.uint64]] | None:
        """uint64 [n], parallel to the positions of `doc_starts`: ordinal of the document that the piece is of
        (`document` is that of a row's first piece); None where rows are not packed"""
        return self._of_pieces(self._shard.piece_document)

    @property
    def has_target(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """bool [rows, seq_len]: input j has a target, tokens[j + 1], iff j + 1 < num_tokens and no piece begins there

        Where rows are not packed it is True throughout and takes no memory: one value, broadcast, read-only. A loop
        that wants to skip masking altogether asks `batch.num_tokens is None`.
        """
        shape = (len(self), self.seq_len)
        if self._shard.num_tokens is None:
            return np.broadcast_to(np.True_, shape)
        has_target = np.ones(shape, np.bool_)
        has_target.put(self._without_target(), False)
        return has_target

    @property
    def labels(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """int64 [rows, seq_len]: targets, with -100 for inputs without one; new memory each time"""
        labels = np.empty((len(self), self.seq_len), np.int64)
        self.write_labels(labels)
        return labels

    def write_labels(self, out: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        """Write `labels` into `out`, int64 [rows, seq_len]."""
        np.copyto(out, self.targets)
        if self._shard.num_tokens is not None:
            out.put(self._without_target(), IGNORED)

    @property
    def varlen(self) -> Varlen:
        """cu_seqlens, max_seqlen and position_ids for attention inside documents; computed each time"""
        return varlen(self.doc_starts, self.seq_len, self.num_tokens)

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
        return self._cursor

    def _of_pieces(
        self, values: np.ndarray[Any, np.dtype[np.uint64]] | None
    ) -> np.ndarray[Any, np.dtype[np.uint64]] | None:
        if values is None:
            return None
        edges = self._shard.doc_offsets
        return values[edges[self._start] : edges[self._stop]]

    def _without_target(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """int64 [n]: flat index, row * seq_len + j, of every input j of packed rows that has no target.

        Few inputs are: listing them costs less than a mask of all of them.
        """
        assert self.num_tokens is not None
        seq_len = self.seq_len
        positions, edges = self.doc_starts
        first_inputs = np.arange(len(self)) * seq_len
        boundaries = np.repeat(first_inputs - 1, np.diff(edges)) + positions
        padding = seq_len + 1 - self.num_tokens.astype(np.int64)
        # The last padding[i] inputs of row i, ranges laid end to end without a loop.
        shift = first_inputs + seq_len - np.cumsum(padding)
        tails = np.arange(padding.sum()) + np.repeat(shift, padding)
        return np.concatenate((boundaries, tails))

    def __len__(self) -> int:
        return self._stop - self._start

    def __repr__(self) -> str:
        return (
            f"Batch(step={self.step}, micro={self.micro}, phase={self.phase}, rows={len(self)}, seq_len={self.seq_len})"
        )
