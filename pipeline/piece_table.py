"""The pieces of packed rows, laid back along the stream: what neighbours must agree on, and what lies between them.

In:  the facts of the pieces of some shards.
Out: `PieceTable`, sorted by stream position; the first contradiction between neighbours, as a `Fault`; `Gaps`.
Guarantee: pure functions over arrays. What holds for every pair of neighbours holds for the whole stream, so stretches
of it can be proven apart: `ends` of each and `join` compare the pairs in between.

    stream 5 6 0 8 9 1 7 0, pieces 5 6 0 at 0 of document 0, and 9 1 at 4 of document 1: 8 and 9 are no targets, one
    of them begins document 1, so the other was dropped. A piece 8 9 1 at 3 instead would leave out nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from pipeline.order import IntArray
from pipeline.packed_checks import PieceFacts
from pipeline.shard_checks import REPAIR, ShardPlace, TokenRules
from pipeline.tiling import Fault

OF_PIECE = ("row", "position", "offset", "num_tokens", "document", "first_token", "last_token")


@dataclass(frozen=True, kw_only=True, slots=True)
class PieceTable:
    """Pieces of several shards; arrays are [num_pieces]."""

    places: tuple[ShardPlace, ...]
    shard: IntArray
    """index into `places`"""
    row: IntArray
    """of the shard"""
    position: IntArray
    offset: IntArray
    num_tokens: IntArray
    document: IntArray
    first_token: np.ndarray[Any, Any]
    last_token: np.ndarray[Any, Any]

    def __len__(self) -> int:
        return len(self.offset)

    @property
    def last(self) -> IntArray:
        """Stream position of the last token of each piece."""
        return self.offset + self.num_tokens - 1

    def select(self, which: Any) -> PieceTable:
        """Some pieces, in the given order."""
        columns = {name: getattr(self, name)[which] for name in ("shard", *OF_PIECE)}
        return PieceTable(places=self.places, **columns)

    def ends(self) -> PieceTable:
        """The first and the last piece; of no other shard is anything kept."""
        two = self.select([0, -1] if len(self) else [])
        used = two.shard.tolist()
        columns = {name: getattr(two, name) for name in OF_PIECE}
        return PieceTable(places=tuple(self.places[i] for i in used), shard=np.arange(len(used)), **columns)

    def fault(self, piece: int, problem: str) -> Fault:
        """What is wrong with a piece."""
        place = self.places[int(self.shard[piece])]
        sentence = f"{place.entry.path}: row {self.row[piece]} {problem}. {REPAIR}"
        return Fault(rank=place.rank, path=place.entry.path, sentence=sentence)

    def where(self, piece: int) -> str:
        """The shard and row of a piece."""
        return f"{self.places[int(self.shard[piece])].entry.path}, row {self.row[piece]}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Gaps:
    """What the tokens that are no target must be, counted over pairs of neighbours."""

    dropped: int = 0
    """targets that no piece holds"""
    begun_least: int = 0
    """pieces that hold the first token of their document, for certain"""
    begun_most: int = 0
    """pieces that may hold it"""

    def __add__(self, other: Gaps) -> Gaps:
        return Gaps(**{field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)})


def collect_pieces(places: Sequence[ShardPlace], facts: Sequence[PieceFacts]) -> PieceTable:
    """The pieces of several shards, one shard after the other."""
    columns = {name: np.concatenate([getattr(of_shard, name) for of_shard in facts]) for name in OF_PIECE}
    shard = np.repeat(np.arange(len(places)), [len(of_shard.offset) for of_shard in facts])
    return PieceTable(places=tuple(places), shard=shard, **columns)


def along_stream(table: PieceTable) -> PieceTable:
    """The same pieces, sorted by stream position."""
    return table.select(np.argsort(table.offset, kind="stable"))


def join(tables: Sequence[PieceTable]) -> PieceTable:
    """Several tables, one after the other."""
    first = np.cumsum([0, *(len(table.places) for table in tables)])
    columns = {name: np.concatenate([getattr(table, name) for table in tables]) for name in OF_PIECE}
    return PieceTable(
        places=tuple(place for table in tables for place in table.places),
        shard=np.concatenate([table.shard + shift for table, shift in zip(tables, first.tolist(), strict=False)]),
        **columns,
    )


def check_neighbours(table: PieceTable, rules: TokenRules, shortest_row: int = 1) -> Fault | None:
    """The first contradiction between neighbours in the stream: nothing is trained twice, and documents go on or end.

    Args:
        table: pieces sorted by stream position.
        rules: what ids mean.
        shortest_row: what is left out inside a document is a multiple of it.
    """
    last, offset, document = table.last[:-1], table.offset, table.document
    tokens, documents = offset[1:] - last, np.diff(document)
    ended, begun = table.last_token[:-1], table.first_token[1:]
    # As many documents begin in between as there are tokens: each of these tokens begins one.
    close = (tokens == documents) & (documents > 0)
    checks = (
        (tokens < 0, "has a piece at {offset} of the stream, and {other} holds that token as a target too"),
        (documents < 0, "has a piece of document {document}, but {other}, before it in the stream, is of {before}"),
        (
            documents > tokens,
            "has a piece of document {document}, {tokens} tokens after the end of {other}, which is of {before}: fewer "
            "tokens than documents",
        ),
        (
            (tokens == 0) & (ended != begun),
            "has a piece at {offset} of the stream that begins with {begun}, but {other}, which it continues, ends "
            "with {ended}",
        ),
        (
            close & (ended != rules.eos_id),
            f"has a piece where document {{document}} begins, but {{other}}, where {{before}} ends, ends with "
            f"{{ended}}, expected the EOS {rules.eos_id}",
        ),
        (
            np.full(len(close), rules.bos_id is not None) & close & (begun != rules.bos_id),
            f"has a piece where document {{document}} begins that begins with {{begun}}, expected the BOS "
            f"{rules.bos_id}",
        ),
        (
            np.full(len(close), rules.eos_only_ends) & (ended == rules.eos_id) & (documents == 0),
            "has a piece of document {document}, which has ended with its EOS in {other}",
        ),
        (
            (documents == 0) & (tokens % shortest_row != 0),
            "has a piece of document {document}, {tokens} tokens after the end of {other}, which is of the same, "
            f"expected a multiple of {shortest_row}: only whole rows are left out inside a document",
        ),
    )
    for wrong, problem in checks:
        if wrong.any():
            at = int(np.argmax(wrong))
            facts = {
                "offset": offset[at + 1],
                "document": document[at + 1],
                "before": document[at],
                "tokens": tokens[at],
                "ended": ended[at],
                "begun": begun[at],
                "other": table.where(at),
            }
            return table.fault(at + 1, problem.format(**facts))
    return None


def count_gaps(table: PieceTable) -> Gaps:
    """Count what lies between neighbours: each token that is no target begins a document or was dropped."""
    documents = np.diff(table.document)
    dropped = table.offset[1:] - table.last[:-1] - documents
    return _gaps(dropped, documents)


def count_gap_before(table: PieceTable, offset: int = 0, document: int = 0) -> Gaps:
    """The same for what lies before the first piece of the stream, where `document` begins at `offset`."""
    documents = table.document[:1] - document
    return _gaps(table.offset[:1] - offset - documents, documents + 1)


def _gaps(dropped: IntArray, documents: IntArray) -> Gaps:
    return Gaps(
        dropped=int(dropped.sum()),
        begun_least=int(np.count_nonzero((documents > 0) & (dropped == 0))),
        begun_most=int(np.count_nonzero(documents > 0)),
    )
