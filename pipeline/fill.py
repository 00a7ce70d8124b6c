"""Best-fit mode: how full rows get when documents stay whole, for every length of a schedule.

In:  lengths of documents of the corpus, and row lengths.
Out: stream tokens for a million slots of rows of each length, at most a million.
Guarantee: integers only, the same for every seed, worker count and division of the corpus. Rows that take fewer tokens
of the stream than they have slots leave room, so that packing need not split what fits: documents of 301 tokens fill
rows of 512 to 59 %, whatever the packing.

    documents of 301 tokens, rows of 512 slots: one document a row, 301 of 512, so 587,890 (less a margin)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from curriculum.budget import FULL
from pipeline.best_fit import pack
from pipeline.order import IntArray
from pipeline.stream import StreamPiece, StreamSpec, piece_documents

MARGIN = 1_000
"""Parts per million left free besides: windows are dealt at random and do not pack as well as a whole sample."""
MOST_DOCUMENTS = 1 << 16
"""A sample that packs as well as all of them, in a second for all lengths together."""
MOST_PACKED = 64
"""Lengths that are packed to find out; between them the emptier neighbour counts."""


def corpus_fill(spec: StreamSpec, lengths: Sequence[int]) -> dict[int, int]:
    """How full rows of each length get, by the documents of one partition (about 16 Mi tokens, a random sample)."""
    first = StreamPiece(epoch=0, partition=0, offset=0, num_tokens=0, first_document=0)
    index = piece_documents(spec, first).index
    by_key = np.lexsort((index.key_low, index.key_high))[:MOST_DOCUMENTS]  # whatever the seed
    return fill_of_lengths(index.num_tokens[by_key].astype(np.int64), lengths)


def fill_of_lengths(num_tokens: IntArray, lengths: Sequence[int]) -> dict[int, int]:
    """Stream tokens per million slots of each length, once documents are packed whole.

    Args:
        num_tokens: int64 [num_documents].
        lengths: row lengths, ascending.
    """
    stride = -(-len(lengths) // MOST_PACKED)
    packed = sorted({*lengths[::stride], lengths[-1]})
    fills = np.array([_fill(num_tokens, length) for length in packed], np.int64)
    above = np.searchsorted(packed, lengths)
    below = np.searchsorted(packed, lengths, side="right") - 1
    return dict(zip(lengths, np.minimum(fills[above], fills[below]).tolist(), strict=True))


def _fill(num_tokens: IntArray, length: int) -> int:
    targets = np.maximum(num_tokens - 1, 0)
    whole_rows, rest = np.divmod(targets, length)
    bins, _ = pack(rest[rest > 0] + 1, length + 1)
    num_rows = int(whole_rows.sum()) + int(bins.max(initial=-1)) + 1
    if num_rows == 0:  # nothing but empty documents
        return FULL
    return max(1, min(FULL, int(num_tokens.sum()) * FULL // (num_rows * length)) - MARGIN)
