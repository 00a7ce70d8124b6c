"""Best-fit mode: pack the documents of a window into exactly the rows that the plan gives to each phase.

In:  the documents of the window's interval of the stream, in order and clipped to it; the rows of each phase.
Out: the pieces of every row, and counts of what was split, padded and dropped.
Guarantee: pure functions of their arguments, equal on every machine. Every row holds a piece; a token of a document
is a target at most once; placed + dropped targets are all targets; a document that a row of the window can hold is
split only where no row has room for it (Ding et al. 2024, arXiv 2404.10830, made to fill a given set of rows).

  deal   documents get a phase whose rows hold them; longer ones are cut into whole rows (see `window_dealing`).
  pack   per phase, best-fit decreasing (see `best_fit`).
  place  what found no row goes whole to the smallest hole of the window that holds it; else it is split, the largest
         hole first. A hole of h tokens takes h - 1 targets: a piece repeats the last token of the piece before.
  mend   a row that is still empty is given a piece of a row with several, or a part of the longest piece.

128 Mi tokens take 0.1 s in rows of 2,048, 1 s in 128 lengths 8 .. 1024, and 25 s in rows of 8 (17 M pieces).

    one phase of 2 rows of 4 targets = 5 tokens; documents of 2, 3 and 4 tokens, the 9 tokens of the window
    pack: [4], [2 3]: padding of 1 token, nothing split or dropped
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from heapq import heapify, heappush, heapreplace
from itertools import pairwise

import numpy as np

from curriculum.errors import BuildError
from pipeline.best_fit import Spaces, pack_into
from pipeline.order import IntArray, permutation
from pipeline.pieces import PackingCounts, Pieces, count_packing, count_up, lay_end_to_end
from pipeline.window_dealing import Runs, WindowRows, deal_documents, join, list_rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Packing:
    """The rows of a window."""

    pieces: Pieces
    """phase = phase index of the plan, document = index into the documents of the window"""
    counts: PackingCounts


def pack_window(
    starts: IntArray,
    num_tokens: IntArray,
    *,
    offset: int,
    rows_by_phase: Mapping[int, int],
    seq_lens: Mapping[int, int],
    seed: int,
    window: int,
) -> Packing:
    """Pack the documents of one window.

    Args:
        starts: int64 [num_documents], ascending stream positions. The documents lie within offset .. offset + slots,
            both included, where slots is the sum of rows * seq_len, and do not overlap.
        num_tokens: int64 [num_documents], of the part of each document in that interval.
        offset: stream position where the window begins.
        rows_by_phase: number of rows per phase index.
        seq_lens: row length in targets of each of these phases.
        seed, window: choose the permutations.
    """
    rows = list_rows(rows_by_phase, seq_lens)
    num_slots = int((rows.counts * rows.seq_lens).sum())
    if len(starts) and (starts[0] < offset or int(starts[-1] + num_tokens[-1]) > offset + num_slots + 1):
        raise ValueError(
            f"The documents of window {window} lie at {starts[0]} .. {starts[-1] + num_tokens[-1] - 1}, outside of its "
            f"interval {offset} .. {offset + num_slots}. Clip them to the interval."
        )
    dealt = deal_documents(num_tokens, rows, seed=seed, window=window)
    placed = place_leftovers(pack_phases(dealt, rows), rows)
    placed = mend_empty_rows(placed, rows, window=window)
    # In a row, stream order: packed order would put the longest document of every row first.
    placed = placed.select(np.argsort(starts[placed.document] + placed.start, kind="stable"))
    pieces = lay_end_to_end(
        phase=rows.phases[rows.slots[placed.place]],
        row=_shuffled_rows(rows, seed=seed, window=window)[placed.place],
        offset=starts[placed.document] + placed.start,
        num_tokens=placed.num_targets + 1,
        document=placed.document,
    )
    counts = count_packing(pieces, num_tokens, rows_by_phase=rows_by_phase, seq_lens=seq_lens)
    return Packing(pieces=pieces, counts=counts)


def _shuffled_rows(rows: WindowRows, *, seed: int, window: int) -> IntArray:
    """[num_rows] the place of each row in its phase: row i of a phase is the one at index i of its permutation."""
    shuffled = np.empty(int(rows.first[-1]), dtype=np.int64)
    for phase, (first, stop) in zip(rows.phases.tolist(), pairwise(rows.first.tolist()), strict=True):
        order = permutation(stop - first, seed=seed, purpose="deal", index=(window, phase))
        shuffled[first + order] = np.arange(stop - first)
    return shuffled


def pack_phases(dealt: Runs, rows: WindowRows) -> Runs:
    """Runs with their row, packed best-fit decreasing phase by phase; place = -1 for those that are left over."""
    order = np.argsort(dealt.place, kind="stable")
    edges = np.searchsorted(dealt.place[order], np.arange(len(rows.phases) + 1))
    place = np.full(len(order), -1, dtype=np.int64)
    for i, (first, stop) in enumerate(pairwise(rows.first.tolist())):
        of_phase = order[edges[i] : edges[i + 1]]
        spaces = np.full(stop - first, rows.seq_lens[i] + 1, dtype=np.int64)
        row = pack_into(dealt.num_targets[of_phase] + 1, spaces)
        place[of_phase] = np.where(row < 0, -1, first + row)
    return dealt.move_to(place)


def place_leftovers(packed: Runs, rows: WindowRows) -> Runs:
    """Offer what is left over to the holes of all rows, whole or else split; what finds no place is gone."""
    placed = packed.select(np.flatnonzero(packed.place >= 0))
    left = packed.select(np.flatnonzero(packed.place < 0))
    # First all that fits whole, then the splits: split at once, a long run would take the holes of shorter ones.
    spaces = rows.capacities - placed.stored(len(rows.capacities))
    left = left.move_to(pack_into(left.num_targets + 1, spaces))
    spaces -= left.stored(len(spaces))
    whole, left = left.select(np.flatnonzero(left.place >= 0)), left.select(np.flatnonzero(left.place < 0))
    return join([placed, whole, _split_into(left.select(np.argsort(-left.num_targets, kind="stable")), spaces)])


def _split_into(left: Runs, spaces: IntArray) -> Runs:
    """Place runs, in the order given, into rows with `spaces` tokens left."""
    holes = Spaces(spaces)
    places: list[int] = []
    runs: list[tuple[int, int, int, int]] = []
    for run, (start, num_targets) in enumerate(zip(left.start.tolist(), left.num_targets.tolist(), strict=True)):
        todo = num_targets
        while todo:
            space = holes.smallest(todo + 1)
            if space:
                taken, each = holes.pop(space, 1), todo
            else:
                space = holes.largest()
                if space < 2:
                    break
                taken, each = holes.pop(space, todo // (space - 1)), space - 1
            holes.push(space - each - 1, taken)
            places += taken
            runs.append((run, start + num_targets - todo, each, len(taken)))
            todo -= each * len(taken)
    which, first_start, num_targets_each, counts = np.array(runs, dtype=np.int64).reshape(-1, 4).T
    each_targets = np.repeat(num_targets_each, counts)
    return Runs(
        document=left.document[np.repeat(which, counts)],
        start=np.repeat(first_start, counts) + count_up(counts) * each_targets,
        num_targets=each_targets,
        place=np.array(places, dtype=np.int64),
    )


def mend_empty_rows(placed: Runs, rows: WindowRows, *, window: int) -> Runs:
    """Give each empty row a whole piece of a row with several, the longest that fits; else a part of the longest piece.

    Documents much shorter than the rows pack so well that rows stay empty: those of 3 tokens fill a row of 9 without
    the slot that each row has for the token it shares with the next.
    """
    capacities = rows.capacities
    empty = np.flatnonzero(placed.stored(len(capacities)) == 0)
    if not len(empty):
        return placed
    empty = empty[np.argsort(-capacities[empty], kind="stable")]
    by_row = np.argsort(placed.place, kind="stable")
    beside = by_row[1:][placed.place[by_row[1:]] == placed.place[by_row[:-1]]]
    beside = beside[np.argsort(-placed.num_targets[beside], kind="stable")]
    # Longest rows and longest pieces first: a piece too long for this row is too long for all that follow.
    sizes, i = placed.num_targets[beside].tolist(), 0
    moved, filled, unfilled = [], [], []
    for row, seq_len in zip(empty.tolist(), (capacities[empty] - 1).tolist(), strict=True):
        while i < len(sizes) and sizes[i] > seq_len:
            i += 1
        if i < len(sizes):
            moved.append(i)
            filled.append(row)
            i += 1
        else:
            unfilled.append((row, seq_len))
    place = placed.place.copy()
    place[beside[np.array(moved, dtype=np.int64)]] = filled
    return _split_longest(placed.move_to(place), unfilled, window=window)


def _split_longest(placed: Runs, empty: list[tuple[int, int]], *, window: int) -> Runs:
    """Move the second half of the longest piece, or as much of it as fits, to each empty (row, seq_len)."""
    if not empty:
        return placed
    documents, starts = placed.document.tolist(), placed.start.tolist()
    targets, places = placed.num_targets.tolist(), placed.place.tolist()
    longest = [(-num_targets, i) for i, num_targets in enumerate(targets)]
    heapify(longest)
    for row, seq_len in empty:
        i = longest[0][1] if longest else 0
        if not longest or targets[i] < 2:
            if (spare := _beside_another(places)) is not None:  # all pieces have one target by now: any fits anywhere
                places[spare] = row
                continue
            raise BuildError(
                f"The documents of window {window} have {sum(targets)} targets, too few for one in each of its rows: "
                f"documents of one token have none. Use longer rows, or remove such documents from the corpus."
            )
        part = min(seq_len, targets[i] // 2)
        targets[i] -= part
        heapreplace(longest, (-targets[i], i))
        heappush(longest, (-part, len(targets)))
        documents.append(documents[i])
        starts.append(starts[i] + targets[i])
        targets.append(part)
        places.append(row)
    return Runs(
        document=np.array(documents, dtype=np.int64),
        start=np.array(starts, dtype=np.int64),
        num_targets=np.array(targets, dtype=np.int64),
        place=np.array(places, dtype=np.int64),
    )


def _beside_another(places: list[int]) -> int | None:
    """The first piece that shares its row with an earlier one."""
    seen: set[int] = set()
    for piece, place in enumerate(places):
        if place >= 0 and place in seen:
            return piece
        seen.add(place)
    return None
