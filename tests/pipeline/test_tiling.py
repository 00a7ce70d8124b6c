"""The tiling proof accepts every order of the right rows and nothing else."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product
from typing import Any

import numpy as np

from pipeline.shard_checks import RowFacts, ShardPlace
from pipeline.tiling import Ends, Fault, collect, compare_ends, prove_tiling


def place(seq_len: int, consumed: int) -> ShardPlace:
    entry: Any = type("Entry", (), {"path": f"len{seq_len}", "num_rows": 0})()
    return ShardPlace(rank=(seq_len, 0), entry=entry, seq_len=seq_len, consumed=consumed, dtype="uint16", packed=False)


def prove(rows: list[tuple[int, int, int, int, int]], seq_len: int = 2, consumed: int = 2) -> Fault | Ends:
    """Rows are (offset, document, document starts, first token, last token); the interval begins at 10."""
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    names = ("offset", "document", "num_starts", "first_token", "last_token")
    facts = RowFacts(**dict(zip(names, columns, strict=True)), boundaries=np.empty(0, np.int64))
    return prove_tiling(collect([place(seq_len, consumed)], [facts]), 10, consumed * len(rows))


GOOD = [(10, 3, 0, 7, 8), (12, 3, 1, 8, 9), (14, 4, 0, 9, 5)]


def test_every_order_of_rows_on_disk_tiles_and_every_single_change_does_not() -> None:
    """Exhaustive over a small domain: 6 orders, and each number of the proof changed by one."""
    for rows in permutations(GOOD):
        ends = prove(list(rows))
        assert isinstance(ends, Ends)
        assert (ends.offset, ends.first_token, ends.last_token, ends.next_document) == (10, 7, 5, range(4, 5))
    harmless = {(0, 3), (2, 4), (2, 2)}  # seen only across the border, by compare_ends
    for row, column, delta in product(range(3), range(5), (-1, 1)):
        changed = list(map(list, GOOD))
        changed[row][column] += delta
        outcome = prove([tuple(values) for values in changed])  # type: ignore[misc]
        assert isinstance(outcome, Ends) == ((row, column) in harmless), (row, column, delta)


def test_truncated_rows_may_hide_documents_but_not_more_than_tokens() -> None:
    """A row of 2 of 5 consumed tokens hides 3 positions, hence at most 3 document starts, and its border token."""
    for documents, fits in ((0, True), (3, True), (4, False), (-1, False)):
        rows = [(10, 3, 0, 7, 8), (15, 3 + documents, 0, 1, 2)]
        assert isinstance(prove(rows, consumed=5), Ends) == fits


def test_neighbouring_intervals_must_continue_each_other() -> None:
    """Token and document at the border are compared."""
    before = prove(GOOD)
    assert isinstance(before, Ends)
    for token, document, message in ((5, 4, None), (6, 4, "the token 6"), (5, 5, "document 5, expected 4")):
        after = replace(before, first_token=token, first_document=document)
        fault = compare_ends(before, after)
        assert (fault is None) == (message is None)
        assert fault is None or message is None or message in fault.sentence
