"""Cut the held-out documents into rows of the maximum length, in order, as many whole rows as there are.

In:  the dataset's place, the stream whose documents are held out, the row length, the shard size.
Out: published shards of `validation/` and their manifest entries.
Guarantee: documents lie by the hash of their text, whatever the seed. They are taken in ranges of that hash, about
`DOCUMENTS_AT_ONCE` at a time, so that memory is bounded by that and one shard, also where 1 % of a huge corpus is held
out.

    10 tokens held out, rows of 3 (and the token after)     rows of tokens 0..3, 3..6, 6..9
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from curriculum.manifest import ShardEntry
from curriculum.shard_format import shard_path
from pipeline.files.contract import Files
from pipeline.order import IntArray
from pipeline.part_index import measure_below
from pipeline.segment import Rows, WindowText, cut_rows
from pipeline.shard import write_shard
from pipeline.stored_documents import Documents, fill, join
from pipeline.stream import StreamSpec, held_out_documents

DOCUMENTS_AT_ONCE = 2 << 20
"""Each takes about 200 bytes while it is sorted."""


def cut_validation(dataset: Files, spec: StreamSpec, seq_len: int, shard_bytes: int) -> tuple[ShardEntry, ...]:
    """Publish the shards of held-out rows.

    Args:
        dataset: place of the dataset.
        spec: the stream; documents below its `held_out_below` are cut.
        seq_len: length of the rows.
        shard_bytes: target size of a shard.
    """
    num_documents, num_tokens = measure_below(spec.store, spec.files.names, spec.held_out_below)
    num_rows = max(0, num_tokens - 1) // seq_len
    rows_per_shard = max(1, shard_bytes // ((seq_len + 1) * np.dtype(spec.dtype).itemsize))
    num_shards = -(-num_rows // rows_per_shard)
    waiting = _Waiting(spec, _in_ranges(spec, -(-num_documents // DOCUMENTS_AT_ONCE)))
    entries = []
    for number in range(num_shards):
        first, stop = number * rows_per_shard, min((number + 1) * rows_per_shard, num_rows)
        rows = waiting.rows(first, stop, seq_len)
        entries.append(write_shard(dataset.write, shard_path("validation", number, num_shards), rows))
    return tuple(entries)


class _Waiting:
    """Documents that were read and are not cut yet; shards ask for ascending rows."""

    def __init__(self, spec: StreamSpec, ranges: Iterator[Documents]) -> None:
        self.spec = spec
        self._ranges = ranges
        self._documents = join([])
        self._offset = 0
        """tokens before the first document that waits"""
        self._ordinal = 0
        """documents before it"""

    def rows(self, first: int, stop: int, seq_len: int) -> Rows:
        """Rows `first <= row < stop`."""
        low, high = first * seq_len, stop * seq_len + 1
        starts, ends = self._up_to(low, high)
        inside = np.flatnonzero((ends > low) & (starts < high))
        text = WindowText(
            offset=low,
            tokens=np.empty(high - low, self.spec.dtype),
            doc_positions=starts[inside],
            first_document=self._ordinal + int(inside[0]),
        )
        fill(self.spec.store, self.spec.files.names, self._documents.places(inside), starts[inside] - low, text.tokens)
        return cut_rows(text, np.arange(first, stop, dtype=np.int64) * seq_len, seq_len)

    def _up_to(self, low: int, high: int) -> tuple[IntArray, IntArray]:
        """(starts, ends) int64 [documents] of what waits, once it reaches `high`; what ends before `low` is gone."""
        starts, ends = self._places()
        while not len(ends) or ends[-1] < high:
            gone = int(np.searchsorted(ends, low, side="right"))
            self._offset = int(ends[gone - 1]) if gone else self._offset
            self._ordinal += gone
            self._documents = join([self._documents.rows(slice(gone, None)), next(self._ranges)])
            starts, ends = self._places()
        return starts, ends

    def _places(self) -> tuple[IntArray, IntArray]:
        num_tokens = self._documents.index.num_tokens.astype(np.int64)
        ends = self._offset + np.cumsum(num_tokens)
        return ends - num_tokens, ends


def _in_ranges(spec: StreamSpec, count: int) -> Iterator[Documents]:
    """The held-out documents in `count` ranges of their hash, one pass over the indexes each."""
    edges = [spec.held_out_below * i // count for i in range(count + 1)]
    for i in range(count):
        yield held_out_documents(spec, edges[i], edges[i + 1])
