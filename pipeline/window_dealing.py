"""Best-fit mode, first half: which phase gets which run of which document of a window.

In:  the lengths of the documents of a window and the rows that each phase has there.
Out: runs of documents, each for a phase whose rows can hold it; `window_packing` finds their rows.
Guarantee: pure functions of their arguments. A document that a row of the window can hold stays whole; a longer one
fills whole rows with its beginning, as Ding et al. 2024 (arXiv 2404.10830) cut long documents, and keeps one remainder.

Short rows are fed by documents that have to be split anyway: a row of 8 takes 8 targets of one, the rest of it goes to
the next rows of a permuted list. So a document is spread over the lengths, and a batch comes from many documents. Of
documents of median 400 in 128 lengths 8 .. 1024 (equal tokens each), 5 % are split although a row of the window could
have held them, 51 % where the stream is cut as in `segment`; 512 rows of 8 come from about 470 documents.

    phase 0: 2 rows of 4 targets, phase 1: 2 rows of 16; documents of 9 and 32 tokens = 8 and 31 targets
    8 fit only phase 1, which leaves rows 4 4 16 in permuted order; 31 fill them, and the remainder of 7 goes to phase 1
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.order import IntArray, permutation
from pipeline.pieces import count_up


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowRows:
    """All rows of a window, numbered phase by phase."""

    phases: IntArray
    """[num_phases] phase index, ascending"""
    seq_lens: IntArray
    """[num_phases]"""
    first: IntArray
    """[num_phases + 1] rows of phases[i] are first[i] .. first[i + 1] - 1"""

    @property
    def counts(self) -> IntArray:
        """[num_phases] number of rows."""
        return np.diff(self.first)

    @property
    def slots(self) -> IntArray:
        """[num_rows] index into `phases`."""
        return np.repeat(np.arange(len(self.phases), dtype=np.int64), self.counts)

    @property
    def capacities(self) -> IntArray:
        """[num_rows] tokens that each row stores."""
        return np.repeat(self.seq_lens + 1, self.counts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Runs:
    """Runs of documents, int64 [num_runs]: targets start + 1 .. start + num_targets, counted from the first token."""

    document: IntArray
    start: IntArray
    num_targets: IntArray
    place: IntArray
    """index into the phases of the window while dealt, row of the window when packed; -1 for none"""

    def select(self, which: IntArray) -> Runs:
        """Some runs, in the given order."""
        return Runs(
            document=self.document[which],
            start=self.start[which],
            num_targets=self.num_targets[which],
            place=self.place[which],
        )

    def move_to(self, place: IntArray) -> Runs:
        """The same runs in other places."""
        return Runs(document=self.document, start=self.start, num_targets=self.num_targets, place=place)

    def stored(self, num_places: int) -> IntArray:
        """[num_places] tokens stored in each place. The float64 sums are exact: they stay far below 2**53."""
        held = self.place >= 0
        return np.bincount(self.place[held], self.num_targets[held] + 1, num_places).astype(np.int64)


def join(parts: list[Runs]) -> Runs:
    """One after the other."""
    return Runs(
        document=np.concatenate([part.document for part in parts]),
        start=np.concatenate([part.start for part in parts]),
        num_targets=np.concatenate([part.num_targets for part in parts]),
        place=np.concatenate([part.place for part in parts]),
    )


def list_rows(rows_by_phase: Mapping[int, int], seq_lens: Mapping[int, int]) -> WindowRows:
    """The rows of a window, phases in ascending order."""
    phases = sorted(phase for phase, count in rows_by_phase.items() if count)
    return WindowRows(
        phases=np.array(phases, dtype=np.int64),
        seq_lens=np.array([seq_lens[phase] for phase in phases], dtype=np.int64),
        first=np.cumsum([0, *(rows_by_phase[phase] for phase in phases)], dtype=np.int64),
    )


def deal_documents(num_tokens: IntArray, rows: WindowRows, *, seed: int, window: int) -> Runs:
    """Deal every document of two tokens or more.

    Returns:
        runs with place = index into `rows.phases`: the whole documents, then the full rows of long documents, then
        their remainders, each in document order.
    """
    targets = np.maximum(num_tokens.astype(np.int64) - 1, 0)
    longest = int(rows.seq_lens.max(initial=0))
    document = np.flatnonzero((targets > 0) & (targets <= longest))
    whole = Runs(document=document, start=document * 0, num_targets=targets[document], place=document * 0 - 1)
    whole = _draw_phases(whole, rows.counts * rows.seq_lens, rows, permutation_index=(window, 0), seed=seed)
    room = rows.counts * (rows.seq_lens + 1) - whole.stored(len(rows.phases))
    full, remainders = _fill_rows(
        targets, np.flatnonzero(targets > longest), _list_permuted(room, rows, seed=seed, window=window), rows.seq_lens
    )
    room = room - full.stored(len(rows.phases))
    return join([whole, full, _draw_phases(remainders, room, rows, permutation_index=(window, 1), seed=seed)])


def _draw_phases(
    runs: Runs, room: IntArray, rows: WindowRows, *, permutation_index: tuple[int, int], seed: int
) -> Runs:
    """Give each run a phase, drawn by the room that the phases long enough for it have."""
    by_length = np.argsort(rows.seq_lens, kind="stable")
    edges = np.cumsum(np.maximum(room, 0)[by_length])
    too_short = np.searchsorted(rows.seq_lens[by_length], runs.num_targets, side="left")
    low = np.concatenate(([0], edges))[too_short]
    # A permutation spreads the draws evenly. The product stays below 2**63 up to windows of 2**31 tokens.
    draw = permutation(len(low), seed=seed, purpose="fit", index=permutation_index)
    point = low + draw * (edges[-1:] - low) // max(1, len(low))
    drawn = np.minimum(np.searchsorted(edges, point, side="right"), len(edges) - 1)
    return runs.move_to(by_length[drawn])


def _list_permuted(room: IntArray, rows: WindowRows, *, seed: int, window: int) -> IntArray:
    """Phases of as many whole rows as `room` tokens allow, in permuted order."""
    slots = np.repeat(np.arange(len(room), dtype=np.int64), np.maximum(room, 0) // (rows.seq_lens + 1))
    return slots[permutation(len(slots), seed=seed, purpose="cut", index=(window,))]


def _fill_rows(targets: IntArray, document: IntArray, slots: IntArray, seq_lens: IntArray) -> tuple[Runs, Runs]:
    """Long documents, one after the other, fill the listed rows until what remains of them fits the next row.

    Returns:
        (full, remainders): runs of a whole row with their phase, one remainder per document without a place.
    """
    edges = np.concatenate(([0], np.cumsum(seq_lens[slots])))
    ends, row, stops = edges.tolist(), 0, []
    for num_targets in targets[document].tolist():
        row = bisect_left(ends, ends[row] + num_targets, lo=row) - 1
        stops.append(row)
    stop = np.array(stops, dtype=np.int64)
    first = np.concatenate(([0], stop))[:-1]
    counts = stop - first
    row_of_run = np.repeat(first, counts) + count_up(counts)
    full = Runs(
        document=np.repeat(document, counts),
        start=edges[row_of_run] - np.repeat(edges[first], counts),
        num_targets=edges[row_of_run + 1] - edges[row_of_run],
        place=slots[row_of_run],
    )
    filled = edges[stop] - edges[first]
    return full, Runs(
        document=document, start=filled, num_targets=targets[document] - filled, place=np.full(len(document), -1)
    )
