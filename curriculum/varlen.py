"""Attention that stays inside documents: what kernels for rows of several documents want to know.

In:  where documents begin in each row, and where its padding begins (`Batch.doc_starts`, `Batch.num_tokens`).
Out: `cu_seqlens` and `max_seqlen` for flash-attention's varlen kernels, `position_ids` for models of transformers,
most of which build a block-diagonal mask from positions that start anew (if they get no attention_mask and no cache;
`curriculum.adapters.attention` asks a model).
Guarantee: computed on demand, without a loop over rows. Every input belongs to one piece; a row begins a piece, so does
a document, and so does padding.

    two rows of 4 inputs, a document begins at position 3 of the first
    doc_starts ([3], [0, 1, 1])   ->   cu_seqlens 0 3 4 8     max_seqlen 4     position_ids 0 1 2 0   0 1 2 3
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class Varlen:
    """Pieces of a batch whose rows are laid end to end: tokens of different pieces do not attend to each other."""

    cu_seqlens: np.ndarray[Any, np.dtype[np.int32]]
    """int32 [pieces + 1]: piece i is inputs cu_seqlens[i] to cu_seqlens[i + 1] of the flattened batch"""
    max_seqlen: int
    """inputs of the longest piece"""
    position_ids: np.ndarray[Any, np.dtype[np.int64]]
    """int64 [rows, seq_len]: place of each input in its piece, from 0"""


def varlen(
    doc_starts: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]],
    seq_len: int,
    num_tokens: np.ndarray[Any, Any] | None = None,
) -> Varlen:
    """The pieces of a batch.

    Args:
        doc_starts: (positions [n], row_offsets [rows + 1]) as of `Batch.doc_starts`: row i has the pieces that begin at
            positions[row_offsets[i] : row_offsets[i + 1]], each from 1 to seq_len. A piece that begins at seq_len holds
            the last target only, and no input.
        seq_len: inputs per row.
        num_tokens: [rows], stored tokens before the padding, as of `Batch.num_tokens`; None where rows have none.
    """
    positions, row_offsets = doc_starts
    num_rows = len(row_offsets) - 1
    begins = np.zeros((num_rows, seq_len + 2), np.bool_)  # two columns more: positions without an input
    begins[:, 0] = True
    begins[np.repeat(np.arange(num_rows), np.diff(row_offsets)), positions] = True
    if num_tokens is not None:
        begins[np.arange(num_rows), num_tokens] = True
    first = np.flatnonzero(begins[:, :seq_len])
    cu_seqlens = np.append(first, num_rows * seq_len)
    lengths = np.diff(cu_seqlens)
    position_ids = np.arange(num_rows * seq_len) - np.repeat(first, lengths)
    return Varlen(
        cu_seqlens=cu_seqlens.astype(np.int32),
        max_seqlen=int(lengths.max(initial=0)),
        position_ids=position_ids.reshape(num_rows, seq_len),
    )
