"""Rows of a shard, as formats that know no curriculum want them.

In:  a shard and a stretch of its rows.   Out: its columns; labels.
Guarantee: tokens are views; labels are those of `curriculum.batch.Batch`, so what has no target here has none there.

A label stands where its token does, as Hugging Face models want them: `labels[j]` is `tokens[j]` where that is a target
(of the input before it), else -100. So `labels[:, 1:]` are the targets of `tokens[:, :-1]`, and a model that shifts
labels by itself is given tokens and labels as they are.

    tokens   5 6 0 8 9 1 0 0         num_tokens 6, doc_starts [3]
    labels   -100 6 0 -100 9 1 -100 -100
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from curriculum.batch import IGNORED, Batch
from curriculum.manifest import Manifest
from curriculum.shard_format import Shard
from pipeline.segment import Rows

Labels = np.ndarray[Any, np.dtype[np.int32]]
MAX_LABEL_VOCABULARY = 2**31
"""Labels are int32."""


def labels_refusal(manifest: Manifest) -> str | None:
    """A sentence if labels cannot hold the ids of packed rows."""
    if manifest.packed and manifest.tokenizer.vocab_size > MAX_LABEL_VOCABULARY:
        return "labels of packed rows are int32, and its vocabulary is larger. Train on the dataset itself."
    return None


def blocks(start: int, stop: int, row_tokens: int, block_tokens: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of consecutive stretches of about `block_tokens` tokens, one row at least."""
    rows = max(1, block_tokens // row_tokens)
    for first in range(start, stop, rows):
        yield first, min(first + rows, stop)


def rows_between(shard: Shard, start: int, stop: int) -> Rows:
    """The columns of rows `start <= i < stop`."""
    edges = shard.doc_offsets[start : stop + 1]
    positions = slice(edges[0], edges[-1])
    packed = shard.num_tokens is not None
    return Rows(
        tokens=shard.tokens[start:stop],
        doc_positions=shard.doc_positions[positions],
        doc_offsets=edges - edges[0],
        offset=shard.offset[start:stop],
        document=shard.document[start:stop],
        num_tokens=shard.num_tokens[start:stop] if shard.num_tokens is not None else None,
        piece_offset=shard.piece_offset[positions] if packed and shard.piece_offset is not None else None,
        piece_document=shard.piece_document[positions] if packed and shard.piece_document is not None else None,
    )


def aligned_labels(shard: Shard, start: int, stop: int) -> Labels:
    """int32 [stop - start, seq_len + 1]: the token where it is a target, else -100."""
    has_target = Batch(shard, start, stop, step=-1, micro=0, phase=0, cursor=None).has_target
    tokens = shard.tokens[start:stop]
    labels = np.full(tokens.shape, IGNORED, np.int32)
    np.copyto(labels[:, 1:], tokens[:, 1:], where=has_target, casting="unsafe")
    return labels
