"""Neighbours in the stream of pieces: every rule that they obey, and what lies between them, written out."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from curriculum.manifest import ShardEntry
from pipeline.piece_table import Gaps, PieceTable, check_neighbours, count_gap_before, count_gaps, join
from pipeline.shard_checks import ShardPlace, TokenRules

PLACE = ShardPlace(
    rank=(0, 0),
    entry=ShardEntry(path="shard", num_rows=9, num_bytes=0, data_offset=0, sha256=""),
    seq_len=8,
    consumed=8,
    dtype="uint16",
    packed=True,
)
RULES = TokenRules(vocab_size=99, eos_id=0, bos_id=1, eos_only_ends=True)


def table(*pieces: tuple[int, int, list[int]]) -> PieceTable:
    """Pieces (offset, document, tokens), a row each."""
    offset, document, tokens = zip(*pieces, strict=True)
    return PieceTable(
        places=(PLACE,),
        shard=np.zeros(len(pieces), np.int64),
        row=np.arange(len(pieces)),
        position=np.zeros(len(pieces), np.int64),
        offset=np.array(offset, np.int64),
        num_tokens=np.array([len(of_piece) for of_piece in tokens], np.int64),
        document=np.array(document, np.int64),
        first_token=np.array([of_piece[0] for of_piece in tokens]),
        last_token=np.array([of_piece[-1] for of_piece in tokens]),
    )


def test_neighbours_that_fit() -> None:
    """Documents 1 5 6 7 0, 1 0, 1 8 0 and 1 9 3 0; of the last one the end was dropped."""
    pieces = table((0, 0, [1, 5, 6]), (2, 0, [6, 7, 0]), (5, 1, [1, 0]), (7, 2, [1, 8, 0]), (10, 3, [1, 9]))
    assert check_neighbours(pieces, RULES) is None
    assert count_gaps(pieces) == Gaps(dropped=0, begun_least=3, begun_most=3)
    assert count_gap_before(pieces) == Gaps(dropped=0, begun_least=1, begun_most=1)


def test_gaps_are_counted() -> None:
    """Between 6 and 8 lie 7, 0 and the 1 that begins document 1, so that two targets were dropped; whether the second
    piece begins its document cannot be told. Before the first piece, one of two tokens is a target."""
    pieces = table((1, 0, [5, 6]), (5, 1, [8, 0]))
    assert check_neighbours(pieces, RULES) is None
    assert count_gaps(pieces) == Gaps(dropped=2, begun_least=0, begun_most=1)
    assert count_gap_before(pieces) == Gaps(dropped=1, begun_least=0, begun_most=1)


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ([(0, 0, [1, 5, 6]), (1, 0, [5, 6, 7])], "row 1 has a piece at 1 of the stream, and shard, row 0 holds"),
        (
            [(4, 2, [5, 6]), (9, 1, [5, 6])],
            "row 1 has a piece of document 1, but shard, row 0, before it in the stream",
        ),
        ([(4, 2, [5, 6]), (7, 5, [1, 6])], "document 5, 2 tokens after the end of shard, row 0, which is of 2: fewer"),
        ([(4, 2, [5, 6]), (5, 3, [6, 7])], "document 3, 0 tokens after the end of shard, row 0, which is of 2: fewer"),
        (
            [(4, 2, [5, 6]), (5, 2, [7, 7])],
            "at 5 of the stream that begins with 7, but shard, row 0, which it continues",
        ),
        (
            [(4, 2, [5, 6]), (6, 3, [1, 7])],
            "document 3 begins, but shard, row 0, where 2 ends, ends with 6, expected the",
        ),
        ([(4, 2, [5, 0]), (6, 3, [7, 7])], "document 3 begins that begins with 7, expected the BOS 1"),
        (
            [(4, 2, [5, 0]), (8, 2, [7, 7])],
            "row 1 has a piece of document 2, which has ended with its EOS in shard, row 0",
        ),
        (
            [(4, 2, [5, 6]), (8, 2, [7, 7])],
            "document 2, 3 tokens after the end of shard, row 0, .* a multiple of 2: only",
        ),
    ],
)
def test_neighbours_that_do_not_fit(pieces: list[Any], message: str) -> None:
    """One for each rule that neighbours in the stream obey, whatever is stored of the documents."""
    fault = check_neighbours(table(*pieces), RULES, shortest_row=2)
    assert fault is not None
    assert re.search(message, fault.sentence), fault.sentence


def test_stretches_are_compared_at_their_ends() -> None:
    """What is proven apart must be proven where it meets: only the last and the first piece are kept for that."""
    first = table((0, 0, [1, 5, 6]), (2, 0, [6, 7, 0])).ends().select([-1])
    second = table((5, 1, [1, 0]), (7, 2, [1, 8, 0]), (10, 3, [1, 9])).ends()
    assert second.offset.tolist() == [5, 10]
    assert check_neighbours(join([first, second.select([0])]), RULES) is None
    assert check_neighbours(join([first, table((3, 0, [7, 0]))]), RULES) is not None
    assert len(table((0, 0, [1, 5])).select([]).ends()) == 0
