"""Where the rows of a window of several sources lie: each source's rows dealt as if it were alone, then mixed.

In:  the rows that every shard of a window has of every source.   Out: their offsets, in training order.
Guarantee: pure, no text is read, so that `verify` can do it again from disk alone. The rows of a shard are permuted, so
that every batch is a random part of the mixture.

    rows per shard 2 and 1, dealt offsets of the sources [8 0] and [4]     laid [8 0 | 4], permuted 1 2 0: [0 | 4 | 8]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from curriculum.plan import Plan
from pipeline.mixed_windows import MixedWindow
from pipeline.order import IntArray, permutation
from pipeline.segment import deal_rows
from pipeline.sources import CORPUS
from pipeline.windows import ShardSlot, Window


def deal_mixed(
    plan: Plan,
    window: Window,
    slots: Sequence[ShardSlot],
    mixed: MixedWindow,
    *,
    begins: Sequence[int],
    names: Sequence[str],
    seed: int,
) -> Iterator[IntArray]:
    """Where the rows of each shard of a window lie, in training order.

    Args:
        plan: the plan.
        window: the window.
        slots: its shards.
        mixed: its part in every source.
        begins: where the interval of each source begins.
        names: of the sources.
        seed: of the build.
    """
    dealt = []
    for k, name in enumerate(names):
        rows = _rows_by_phase(slots, (of_shard[k] for of_shard in mixed.rows))
        consumed = {phase: plan.consumed_per_row(phase) for phase in rows}
        source = "" if name == CORPUS else name
        dealt.append(deal_rows(rows, consumed, offset=begins[k], seed=seed, window=window.index, source=source))
    used: dict[tuple[int, int], int] = {}
    for slot, counts in zip(slots, mixed.rows, strict=True):
        parts = []
        for k, count in enumerate(counts):
            first = used.get((slot.phase, k), 0)
            used[slot.phase, k] = first + count
            if count:
                parts.append(dealt[k][slot.phase][first : first + count])
        laid = np.concatenate(parts)
        index = (window.index, slot.phase, slot.first_row)
        yield laid[permutation(len(laid), seed=seed, purpose="mix", index=index)]


def _rows_by_phase(slots: Sequence[ShardSlot], counts: Iterable[int]) -> dict[int, int]:
    """Rows of one source in each phase, phases ascending, those without any left out."""
    rows: dict[int, int] = {}
    for slot, count in zip(slots, counts, strict=True):
        if count:
            rows[slot.phase] = rows.get(slot.phase, 0) + count
    return dict(sorted(rows.items()))
