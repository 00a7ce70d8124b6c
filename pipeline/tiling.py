"""The tiling proof: the rows of an interval of the stream, laid back by offset, fill it without gap or overlap.

In:  the facts of all rows of some shards, and the interval that they must fill.
Out: nothing, or the first contradiction, as (shard, sentence); and the two ends, to compare neighbouring intervals.
Guarantee: pure functions over arrays; what holds for every interval and every border holds for the whole stream.

    seq_len 4, stream 5 6 7 0 8 9 1 0 2     rows at 0 and 4: 0 + 4 = 4, the first row ends with 8, the second begins
                                            with 8; document 0, one start (8), so the second row is of document 1
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.order import IntArray
from pipeline.shard_checks import REPAIR, RowFacts, ShardPlace


@dataclass(frozen=True, kw_only=True, slots=True)
class RowTable:
    """The rows of several shards, one shard after the other. Arrays are [num_rows]."""

    places: tuple[ShardPlace, ...]
    first_rows: IntArray
    """[num_shards + 1]: shard i holds rows first_rows[i] .. first_rows[i + 1]"""
    facts: RowFacts
    seq_len: IntArray
    consumed: IntArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """Something wrong with one shard."""

    rank: tuple[int, int]
    path: str
    sentence: str
    """begins with `path`"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ends:
    """The first and the last row of an interval."""

    offset: int
    """stream position where it begins"""
    first_token: int
    first_document: int
    first_place: ShardPlace
    last_token: int | None
    """the token at the border; None if the last row does not reach it (truncate mode)"""
    next_document: range
    """the documents that the next row may begin in"""


def collect(places: Sequence[ShardPlace], facts: Sequence[RowFacts]) -> RowTable:
    """Lay the rows of several shards one after the other."""
    counts = [len(of_shard.offset) for of_shard in facts]
    together = {name: np.concatenate([getattr(of_shard, name) for of_shard in facts]) for name in RowFacts.__slots__}
    return RowTable(
        places=tuple(places),
        first_rows=np.concatenate(([0], np.cumsum(counts))),
        facts=RowFacts(**together),
        seq_len=np.repeat([place.seq_len for place in places], counts),
        consumed=np.repeat([place.consumed for place in places], counts),
    )


def prove_tiling(table: RowTable, offset: int, num_tokens: int, rows: IntArray | None = None) -> Fault | Ends:
    """Prove that the rows fill `offset <= position < offset + num_tokens`, or say where they do not.

    Args:
        table: rows.
        offset, num_tokens: the interval.
        rows: which of them, at least one; None for all.
    """
    facts = table.facts
    rows = np.arange(len(facts.offset)) if rows is None else rows
    order = rows[np.argsort(facts.offset[rows], kind="stable")]
    ends = offset + np.cumsum(table.consumed[order])
    starts = np.concatenate(([offset], ends[:-1]))
    found = facts.offset[order]
    twice = found[1:] == found[:-1]
    if twice.any():
        at = int(np.argmax(twice))
        other = _where(table, int(order[at]))
        return _fault(table, int(order[at + 1]), f"has the stream offset {found[at]}, and so has {other}")
    wrong = found != starts
    if wrong.any():
        at = int(np.argmax(wrong))
        return _fault(
            table,
            int(order[at]),
            f"has the stream offset {found[at]}, expected {starts[at]}: sorted by offset, rows overlap or are missing",
        )
    if ends[-1] != offset + num_tokens:
        return _fault(
            table, int(order[-1]), f"ends the stream at {ends[-1]}, expected {offset + num_tokens}: rows are missing"
        )
    return _check_borders(table, order) or _check_documents(table, order) or _ends(table, order)


def compare_ends(before: Ends, after: Ends) -> Fault | None:
    """Compare two neighbouring intervals at their border; None if they fit."""
    problem = None
    if before.last_token is not None and before.last_token != after.first_token:
        problem = f"begins with the token {after.first_token}, the window before it ends with {before.last_token}"
    elif after.first_document not in before.next_document:
        problem = f"begins in document {after.first_document}, expected {_span(before.next_document)}"
    if problem is None:
        return None
    place = after.first_place
    sentence = f"{place.entry.path}: its first row in the stream {problem}. {REPAIR}"
    return Fault(rank=place.rank, path=place.entry.path, sentence=sentence)


def _check_borders(table: RowTable, order: IntArray) -> Fault | None:
    """A row that is stored to its end shares its last token with the next one."""
    whole = table.seq_len[order[:-1]] == table.consumed[order[:-1]]
    last, first = table.facts.last_token[order[:-1]], table.facts.first_token[order[1:]]
    wrong = whole & (last != first)
    if not wrong.any():
        return None
    at = int(np.argmax(wrong))
    return _fault(
        table,
        int(order[at + 1]),
        f"begins with the token {first[at]}, but the row before it in the stream ({_where(table, int(order[at]))}) "
        f"ends with {last[at]}",
    )


def _check_documents(table: RowTable, order: IntArray) -> Fault | None:
    """`document` counts on by the document starts in between; only a truncated row can hide some."""
    document, starts = table.facts.document[order], table.facts.num_starts[order]
    least = document[:-1] + starts[:-1]
    most = least + (table.consumed - table.seq_len)[order[:-1]]
    wrong = (document[1:] < least) | (document[1:] > most)
    if not wrong.any():
        return None
    at = int(np.argmax(wrong))
    expected = _span(range(int(least[at]), int(most[at]) + 1))
    return _fault(
        table,
        int(order[at + 1]),
        f"begins in document {document[at + 1]}, expected {expected}: the row before it in the stream "
        f"({_where(table, int(order[at]))}) begins in document {document[at]} and lists {starts[at]} document starts",
    )


def _ends(table: RowTable, order: IntArray) -> Ends:
    first, last = int(order[0]), int(order[-1])
    facts = table.facts
    hidden = int(table.consumed[last] - table.seq_len[last])
    document = int(facts.document[last] + facts.num_starts[last])
    return Ends(
        offset=int(facts.offset[first]),
        first_token=int(facts.first_token[first]),
        first_document=int(facts.document[first]),
        first_place=_locate(table, first)[0],
        last_token=None if hidden else int(facts.last_token[last]),
        next_document=range(document, document + hidden + 1),
    )


def _span(documents: range) -> str:
    return str(documents.start) if len(documents) == 1 else f"{documents.start} to {documents.stop - 1}"


def _locate(table: RowTable, row: int) -> tuple[ShardPlace, int]:
    """The shard of a row of the table, and the row in it."""
    shard = int(np.searchsorted(table.first_rows, row, side="right")) - 1
    return table.places[shard], row - int(table.first_rows[shard])


def _where(table: RowTable, row: int) -> str:
    place, number = _locate(table, row)
    return f"{place.entry.path}, row {number}"


def _fault(table: RowTable, row: int, problem: str) -> Fault:
    place, number = _locate(table, row)
    sentence = f"{place.entry.path}: row {number} {problem}. {REPAIR}"
    return Fault(rank=place.rank, path=place.entry.path, sentence=sentence)
