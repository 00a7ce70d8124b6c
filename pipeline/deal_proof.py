"""Best-fit mode: prove that a window's pieces lie where the seed puts them, from the pieces themselves.

In:  the pieces of a window, which leave out no target.   Out: nothing, or the first piece that lies elsewhere.
Guarantee: pure. Where nothing was dropped, the runs of equal documents are the documents of the window. Packing is a
function of their lengths, the rows and the seed: it is done again and compared.

    pieces 5 6 0 at 0, 8 9 at 3 and 9 1 at 4, of documents 0, 1, 1    documents at 0 and 3, of 3 tokens each
"""

from __future__ import annotations

import numpy as np

from curriculum.manifest import Manifest
from pipeline.order import IntArray
from pipeline.piece_table import PieceTable
from pipeline.tiling import Fault
from pipeline.window_packing import pack_window
from pipeline.windows import Window, rows_by_phase


def check_deal(manifest: Manifest, window: Window, in_rows: PieceTable, along: PieceTable) -> Fault | None:
    """Pack the window again and compare.

    Args:
        manifest: the plan and the seed.
        window: the window.
        in_rows: its pieces, shard after shard, row after row.
        along: the same, sorted by stream position, and neighbours agree.
    """
    plan, rows = manifest.plan, rows_by_phase(manifest.plan, window)
    begins = np.flatnonzero(np.diff(along.document, prepend=-1))
    starts = along.offset[begins]
    stops = along.last[np.append(begins[1:], len(along)) - 1] + 1
    expected = pack_window(
        starts,
        stops - starts,
        offset=window.offset,
        rows_by_phase=rows,
        seq_lens={phase: plan.phases[phase].seq_len for phase in rows},
        seed=manifest.seed,
        window=window.index,
    ).pieces
    phase, row = _rows_of_window(in_rows)
    order = np.lexsort((in_rows.position, row, phase))
    found = (phase, row, in_rows.position, in_rows.offset, in_rows.num_tokens)
    wanted = (expected.phase, expected.row, expected.position, expected.offset, expected.num_tokens)
    count = min(len(in_rows), len(expected))
    same = np.ones(count, np.bool_)
    for one, other in zip(found, wanted, strict=True):
        same &= one[order[:count]] == other[:count]
    if same.all() and len(in_rows) == len(expected):
        return None
    at = int(np.argmin(np.append(same, False)))
    piece = int(order[min(at, len(order) - 1)])
    there = ""
    if at < count and (phase[piece], row[piece]) == (expected.phase[at], expected.row[at]):
        there = f": it deals {expected.num_tokens[at]} from {expected.offset[at]} to position {expected.position[at]}"
    return in_rows.fault(
        piece,
        f"has {in_rows.num_tokens[piece]} tokens from {in_rows.offset[piece]} of the stream at position "
        f"{in_rows.position[piece]}, which is not where the seed {manifest.seed} deals them{there}",
    )


def _rows_of_window(table: PieceTable) -> tuple[IntArray, IntArray]:
    """(phase, row among the rows that the window has of it) of each piece."""
    used: dict[int, int] = {}
    first_rows = []
    for place in table.places:
        phase = place.rank[0]
        first_rows.append(used.get(phase, 0))
        used[phase] = first_rows[-1] + place.entry.num_rows
    phases = np.array([place.rank[0] for place in table.places], np.int64)
    return phases[table.shard], np.array(first_rows, np.int64)[table.shard] + table.row
