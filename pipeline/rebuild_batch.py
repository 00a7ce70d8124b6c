"""Which `--batch-rows`, or `--batch-tokens` and `--rows-multiple-of`, give the rows that the phases of a plan have.

In:  a plan.   Out: options, and a sentence where lengths that no phase has could get other rows than they had.
Guarantee: arithmetic. N tokens in rows of n, a multiple of M, are r rows if r * n <= N < (r + M) * n.

    16 rows of 8 and of 64              --batch-rows 16
    128 rows of 8, 16 rows of 64        --batch-tokens 1024 --rows-multiple-of 8
"""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd
from typing import Any

from curriculum.plan import Plan

Said = dict[str, Any]
"""Options by name."""
MAX_MULTIPLE = 1 << 16


def batch_said(plan: Plan) -> tuple[Said, list[str]]:
    """Options of the batch."""
    shapes = {(phase.seq_len, phase.rows_per_step) for phase in plan.phases}
    rows = {rows for _, rows in shapes}
    absent = _absent(plan)
    if len(rows) == 1:
        # Tokens that are as many rows of two lengths, one at least twice the other, there are none.
        note = _NOTE if absent and len(shapes) == 1 else None
        return {"batch_rows": rows.pop()}, [note] if note else []
    ranges = list(_ranges(shapes, gcd(*rows)))
    if not ranges:
        return {"batch_rows": max(rows)}, []
    tokens, _, multiple = ranges[0]
    given = {
        tuple(number // seq_len // each * each for seq_len in absent)
        for low, high, each in ranges
        for number in (low, high)
    }
    return {"batch_tokens": tokens, "rows_multiple_of": multiple}, [_NOTE] if len(given) > 1 else []


_NOTE = (
    "Some lengths of its schedule have no step, and how many rows one would have is not recorded: with another batch "
    "they may have some."
)


def _absent(plan: Plan) -> list[int]:
    """Lengths that documents could have filled: in other modes the schedule alone decides who has steps."""
    start, top = plan.schedule.get("start_length"), plan.schedule.get("max_length")
    if plan.mode != "document" or not isinstance(start, int) or not isinstance(top, int) or start < 1:
        return []
    lengths = [1 << k for k in range(start.bit_length() - 1, min(top, 1 << 31).bit_length())]
    return sorted(set(lengths) - {phase.seq_len for phase in plan.phases})


def _ranges(shapes: set[tuple[int, int]], common: int) -> Iterator[tuple[int, int, int]]:
    """(fewest tokens, most tokens, rows multiple): the default multiple first, then the largest."""
    multiples = [n for n in range(min(common, MAX_MULTIPLE), 0, -1) if common % n == 0]
    for multiple in sorted(multiples, key=lambda n: n != 8):
        low = max(rows * seq_len for seq_len, rows in shapes)
        high = min((rows + multiple) * seq_len for seq_len, rows in shapes) - 1
        if low <= high:
            yield low, high, multiple
