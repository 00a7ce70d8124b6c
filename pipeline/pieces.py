"""Pieces: where every run of document tokens lies in the rows of a packed dataset.

In:  for each piece its phase, row and place in the row, and the run of stream tokens of one document that it stores.
Out: `Pieces`, sorted by (phase, row, position), from which shards are written, and `PackingCounts`, for the ratios.
Guarantee: pure arithmetic on int64 arrays. A piece of n stored tokens trains n - 1 targets; a document that goes on in
another piece shares one token with it, so that each of its tokens but the first is a target once.

    documents of 4 and 7 tokens at 100 and 104, rows of 8 targets (9 tokens):
    row 0 holds the piece (position 0, offset 104, num_tokens 7), then padding of 2
    row 1 holds the piece (position 0, offset 100, num_tokens 4), then padding of 5
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from pipeline.order import IntArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Pieces:
    """Pieces of documents in rows: int64 [num_pieces] each, sorted by (phase, row, position)."""

    phase: IntArray
    """phase index"""
    row: IntArray
    """row of that phase within this window or partition"""
    position: IntArray
    """of the first token of the piece in its row; 0 for the first piece of a row"""
    offset: IntArray
    """stream position of the first token"""
    num_tokens: IntArray
    """stored tokens, at least 2"""
    document: IntArray
    """index into the documents that were given"""

    def __len__(self) -> int:
        return len(self.row)

    @property
    def num_targets(self) -> int:
        """Targets that all pieces train: one fewer than stored tokens, each."""
        return int(self.num_tokens.sum()) - len(self)

    def num_rows(self, phase: int) -> int:
        """Rows of one phase: they are numbered from 0 without gaps."""
        span = self._of_phase(phase)
        return int(self.row[span.stop - 1]) + 1 if span.stop > span.start else 0

    def rows(self, phase: int, first: int, stop: int) -> Pieces:
        """Rows `first <= row < stop` of a phase, renumbered from 0."""
        span = self._of_phase(phase)
        begin, end = (np.searchsorted(self.row[span], [first, stop]) + span.start).tolist()
        part = self._select(slice(begin, end))
        return replace(part, row=part.row - first)

    def take(self, phase: int, rows: IntArray) -> Pieces:
        """The given rows of a phase, in that order, renumbered from 0."""
        span = self._of_phase(phase)
        edges = span.start + np.flatnonzero(np.diff(self.row[span], prepend=-1, append=-1))
        first, counts = edges[rows], edges[rows + 1] - edges[rows]
        which = np.repeat(first, counts) + count_up(counts)
        return replace(self._select(which), row=np.repeat(np.arange(len(rows), dtype=np.int64), counts))

    def shift_documents(self, first_document: int) -> Pieces:
        """The same pieces among more documents, `first_document` of which come before those that were given."""
        return replace(self, document=self.document + first_document)

    def _of_phase(self, phase: int) -> slice:
        return slice(*np.searchsorted(self.phase, [phase, phase + 1]).tolist())

    def _select(self, which: IntArray | slice) -> Pieces:
        return Pieces(**{field.name: getattr(self, field.name)[which] for field in fields(self)})

    def check(self, seq_lens: Mapping[int, int]) -> None:
        """Prove what every consumer relies on; raises AssertionError."""
        assert all(getattr(self, field.name).dtype == np.int64 for field in fields(self))
        assert (self.num_tokens >= 2).all()
        same_phase = self.phase[1:] == self.phase[:-1]
        same_row = same_phase & (self.row[1:] == self.row[:-1])
        assert (self.phase[1:] >= self.phase[:-1]).all()
        assert ((self.row[1:] == self.row[:-1] + 1) | same_row)[same_phase].all(), (
            "rows without gaps, all of them filled"
        )
        first = np.concatenate(([True], ~same_row)) if len(self) else np.zeros(0, bool)
        assert (self.row[np.concatenate(([True], ~same_phase))] == 0).all() if len(self) else True
        assert (self.position[first] == 0).all()
        ends = self.position + self.num_tokens
        assert (self.position[1:] == ends[:-1])[same_row].all(), "pieces of a row lie end to end"
        assert (ends <= 1 + np.array([seq_lens[phase] for phase in self.phase.tolist()], dtype=np.int64)).all()


def lay_end_to_end(
    *, phase: IntArray, row: IntArray, offset: IntArray, num_tokens: IntArray, document: IntArray
) -> Pieces:
    """Pieces in any order -> sorted; the pieces of a row lie end to end in the order in which they were given."""
    order = _by_row(phase, row)
    phase, row, num_tokens = phase[order], row[order], num_tokens[order]
    begins = np.ones(len(row), bool)
    begins[1:] = (phase[1:] != phase[:-1]) | (row[1:] != row[:-1])
    before = np.cumsum(num_tokens) - num_tokens
    position = before - before[begins][np.cumsum(begins) - 1]
    return Pieces(
        phase=phase,
        row=row,
        position=position,
        offset=offset[order],
        num_tokens=num_tokens,
        document=document[order],
    )


def concatenate(parts: Sequence[Pieces]) -> Pieces:
    """Rows of a phase in part i + 1 come after those in part i; documents keep their index (see `shift_documents`)."""
    num_phases = 1 + max((int(part.phase[-1]) for part in parts if len(part)), default=0)
    rows_before = np.zeros(num_phases, dtype=np.int64)
    moved = []
    for part in parts:
        moved.append(replace(part, row=part.row + rows_before[part.phase]))
        last = np.flatnonzero(np.diff(part.phase, append=-1))
        rows_before[part.phase[last]] += part.row[last] + 1
    joined = {f.name: np.concatenate([getattr(part, f.name) for part in moved]) for f in fields(Pieces)}
    return Pieces(**joined)._select(_by_row(joined["phase"], joined["row"]))


def _by_row(phase: IntArray, row: IntArray) -> IntArray:
    """Stable order by (phase, row)."""
    return np.argsort(phase * (int(row.max(initial=0)) + 1) + row, kind="stable")


def count_up(counts: IntArray) -> IntArray:
    """0, 1 .. counts[i] - 1 for each i, laid end to end: count_up([2, 3]) is [0, 1, 0, 1, 2]."""
    ends = np.cumsum(counts)
    return np.arange(int(ends[-1]) if len(ends) else 0, dtype=np.int64) - np.repeat(ends - counts, counts)


@dataclass(frozen=True, kw_only=True, slots=True)
class PackingCounts:
    """What a layout did to documents and rows. Counts of windows add up; slots = targets + padding + boundary slots."""

    rows: int
    slots: int
    """seq_len summed over rows: the targets that the plan counts"""
    pieces: int
    targets: int
    """slots that have a target"""
    padding_slots: int
    """slots whose next token is padding: seq_len + 1 - stored tokens, summed over rows"""
    boundary_slots: int
    """slots whose next token begins another piece: pieces - rows"""
    dropped_targets: int
    """targets of documents that no row holds"""
    documents: int
    """documents with a target (two tokens or more); one that a window border cuts counts in both windows"""
    documents_split: int
    """of those, the ones not stored as one piece"""
    documents_truncated: int
    """of those, the ones that a row of the longest phase would have held whole"""

    def __add__(self, other: PackingCounts) -> PackingCounts:
        return PackingCounts(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    @property
    def padding_ratio(self) -> float:
        """Padding slots / slots (Liu et al. 2024, arXiv 2407.07495, r_pad)."""
        return self.padding_slots / max(1, self.slots)

    @property
    def truncation_ratio(self) -> float:
        """Documents split although a row would have held them / documents.

        Ding et al. 2024 (arXiv 2404.10830) and Liu et al. 2024 (arXiv 2407.07495, r_tru) count every truncated
        document; those longer than any row are split by every method and are left out of the numerator here:
        `documents_split / documents` is the ratio of the papers.
        """
        return self.documents_truncated / max(1, self.documents)

    @property
    def concatenation_ratio(self) -> float:
        """Mean pieces per row: documents / rows of Liu et al. 2024 (r_cat) where no document is split."""
        return self.pieces / max(1, self.rows)


def count_packing(
    pieces: Pieces, num_tokens: IntArray, *, rows_by_phase: Mapping[int, int], seq_lens: Mapping[int, int]
) -> PackingCounts:
    """Counts of a layout of documents of `num_tokens` tokens in `rows_by_phase[phase]` rows of each phase."""
    rows = sum(rows_by_phase.values())
    slots = sum(count * seq_lens[phase] for phase, count in rows_by_phase.items())
    longest = max((seq_lens[phase] for phase, count in rows_by_phase.items() if count), default=0)
    whole = np.zeros(len(num_tokens), bool)
    whole[pieces.document[pieces.num_tokens == num_tokens[pieces.document]]] = True
    split = (num_tokens >= 2) & ~whole
    return PackingCounts(
        rows=rows,
        slots=slots,
        pieces=len(pieces),
        targets=pieces.num_targets,
        padding_slots=slots + rows - int(pieces.num_tokens.sum()),
        boundary_slots=len(pieces) - rows,
        dropped_targets=int(np.maximum(num_tokens - 1, 0).sum()) - pieces.num_targets,
        documents=int((num_tokens >= 2).sum()),
        documents_split=int(split.sum()),
        documents_truncated=int((split & (num_tokens <= longest + 1)).sum()),
    )
