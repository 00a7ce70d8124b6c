"""Check packed rows from their bytes: pieces of documents laid end to end, padding after them.

In:  a packed shard, what the manifest says about it, what ids mean; then the pieces of all shards of a window.
Out: `PieceFacts`, a few numbers per piece; or a `DataError` or `Fault` that names the shard.
Guarantee: every byte is read. Proven: pieces fill their rows without gaps and overlap nowhere in their window, so no
token is a target twice there; a document that continues in another piece shares one token with it; the EOS stands at the
end of a document and nowhere else; padding is EOS. Not proven: that each row is where the seed deals it, and, in
document mode, that windows do not overlap each other: both depend on the lengths of documents.

    seq_len 4, EOS 0     [5 6 0 8 9], num_tokens 5, doc_starts [3]   fine: the pieces 5 6 0 and 8 9
                         [5 0 6 8 9], num_tokens 5, doc_starts [3]   refused: text after the EOS of a document
                         [5 6 0 8 0], num_tokens 3, doc_starts []    refused: padding that is not the EOS
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from curriculum.errors import DataError
from curriculum.shard_format import Shard
from pipeline.order import IntArray
from pipeline.shard_checks import REPAIR, ShardPlace, TokenRules, check_digest, check_ids, open_place, row_blocks
from pipeline.tiling import Fault


@dataclass(frozen=True, kw_only=True, slots=True)
class PieceFacts:
    """The pieces of a shard, or of several. Arrays are [num_pieces] unless said otherwise."""

    row: IntArray
    offset: IntArray
    num_tokens: IntArray
    document: IntArray
    first_token: np.ndarray[Any, Any]
    last_token: np.ndarray[Any, Any]
    row_documents: IntArray
    """[num_rows] the document of the first piece of each row"""

    @property
    def num_targets(self) -> int:
        """Targets of all pieces."""
        return int((self.num_tokens - 1).sum())


def check_packed_shard(root: Path, place: ShardPlace, rules: TokenRules) -> PieceFacts:
    """Check a packed shard completely.

    Raises:
        DataError: names file, row, what was expected and found.
    """
    path, shard = root / place.entry.path, open_place(root, place)
    check_digest(path, place.entry.sha256)
    facts, position = _pieces(path, shard, place.seq_len)
    check_ids(path, shard, rules)
    _check_padding(path, shard, rules)
    if rules.eos_only_ends:
        _check_every_eos(path, shard, facts, position, rules)
    return facts


def _pieces(path: Path, shard: Shard, seq_len: int) -> tuple[PieceFacts, IntArray]:
    """The pieces of a shard, row after row, and the position of each in its row."""
    assert shard.num_tokens is not None
    assert shard.piece_offset is not None
    assert shard.piece_document is not None
    stored = shard.num_tokens.astype(np.int64)
    _refuse(path, (stored < 2) | (stored > seq_len + 1), stored, f"stores {{}} tokens, expected 2 to {seq_len + 1}")
    edges = shard.doc_offsets.astype(np.int64)
    num_rows, further = len(stored), np.diff(edges)
    row = np.repeat(np.arange(num_rows), further + 1)
    first = edges[:-1] - edges[0] + np.arange(num_rows)
    is_first = np.zeros(len(row), np.bool_)
    is_first[first] = True
    listed = slice(int(edges[0]), int(edges[-1]))
    columns = {}
    for name, of_first, of_further in (
        ("position", np.zeros(num_rows, np.int64), shard.doc_positions[listed]),
        ("offset", shard.offset, shard.piece_offset[listed]),
        ("document", shard.document, shard.piece_document[listed]),
    ):
        values = np.empty(len(row), np.int64)
        values[is_first], values[~is_first] = of_first.astype(np.int64), of_further.astype(np.int64)
        columns[name] = values
    position = columns.pop("position")
    ends = np.append(position[1:], 0)
    ends[np.append(is_first[1:], True)] = stored
    num_tokens = ends - position
    bad = num_tokens < 2
    if bad.any():
        at = int(np.argmax(bad))
        raise DataError(
            f"{path}: row {row[at]} has a piece of {num_tokens[at]} tokens at position {position[at]}, expected 2 or "
            f"more: its doc_starts are not ascending, or lie beyond its num_tokens. {REPAIR}"
        )
    facts = PieceFacts(
        row=row,
        num_tokens=num_tokens,
        first_token=shard.tokens[row, position],
        last_token=shard.tokens[row, ends - 1],
        row_documents=shard.document.astype(np.int64),
        **columns,
    )
    return facts, position


def _refuse(path: Path, wrong: np.ndarray[Any, np.dtype[np.bool_]], values: IntArray, what: str) -> None:
    if wrong.any():
        at = int(np.argmax(wrong))
        raise DataError(f"{path}: row {at} {what.format(values[at])}. {REPAIR}")


def _check_padding(path: Path, shard: Shard, rules: TokenRules) -> None:
    assert shard.num_tokens is not None
    columns = np.arange(shard.tokens.shape[1])
    for first, block in row_blocks(shard):
        padding = columns >= shard.num_tokens[first : first + len(block), None]
        wrong = padding & (block != rules.eos_id)
        if wrong.any():
            row, column = divmod(int(np.argmax(wrong)), block.shape[1])
            raise DataError(
                f"{path}: row {first + row} holds {block[row, column]} at position {column}, in its padding, expected "
                f"the EOS {rules.eos_id}. {REPAIR}"
            )


def _check_every_eos(path: Path, shard: Shard, facts: PieceFacts, position: IntArray, rules: TokenRules) -> None:
    """Inside a piece no EOS but the last token, which then ends the document (or the first, where it is the BOS too)."""
    row_tokens = shard.tokens.shape[1]
    last = np.zeros(len(shard.tokens) * row_tokens, np.bool_)
    cells = facts.row * row_tokens + position
    last[cells + facts.num_tokens - 1] = True
    if rules.bos_id == rules.eos_id:
        last[cells] = True
    assert shard.num_tokens is not None
    columns = np.arange(row_tokens)
    allowed = last.reshape(-1, row_tokens)
    for first, block in row_blocks(shard):
        rows = slice(first, first + len(block))
        inside = columns < shard.num_tokens[rows, None]
        wrong = (block == rules.eos_id) & inside & ~allowed[rows]
        if wrong.any():
            row, column = divmod(int(np.argmax(wrong)), row_tokens)
            raise DataError(
                f"{path}: row {first + row} has the EOS {rules.eos_id} at position {column}, inside a piece: a document "
                f"ends with its EOS. {REPAIR}"
            )


def prove_disjoint(places: Sequence[ShardPlace], facts: Sequence[PieceFacts], interval: range) -> Fault | None:
    """Prove that no token of the stream is a target twice among these pieces, or say where.

    Args:
        places: shards of one window.
        facts: their pieces.
        interval: stream positions that the window may use, the last shared with the next.
    """
    shard = np.repeat(np.arange(len(places)), [len(of_shard.offset) for of_shard in facts])
    row, offset, num_tokens, document, first_token, last_token = (
        np.concatenate([getattr(of_shard, name) for of_shard in facts])
        for name in ("row", "offset", "num_tokens", "document", "first_token", "last_token")
    )

    def fault(piece: int, problem: str) -> Fault:
        place = places[int(shard[piece])]
        sentence = f"{place.entry.path}: row {row[piece]} {problem}. {REPAIR}"
        return Fault(rank=place.rank, path=place.entry.path, sentence=sentence)

    last = offset + num_tokens - 1
    outside = (offset < interval.start) | (last > interval.stop)
    if outside.any():
        at = int(np.argmax(outside))
        return fault(
            at, f"has a piece at {offset[at]} of the stream, expected {interval.start} to {interval.stop} in its window"
        )
    order = np.argsort(offset, kind="stable")
    before, after = order[:-1], order[1:]
    overlap = last[before] > offset[after]
    joined = last[before] == offset[after]
    unequal = joined & ((last_token[before] != first_token[after]) | (document[before] != document[after]))
    falling = document[before] > document[after]
    for wrong, problem in (
        (overlap, "trains tokens a second time"),
        (unequal, "does not continue the piece before it"),
        (falling, "begins in an earlier document than the piece before it"),
    ):
        if wrong.any():
            at = int(after[int(np.argmax(wrong))])
            return fault(at, f"has a piece at {offset[at]} of the stream that {problem}")
    return None
