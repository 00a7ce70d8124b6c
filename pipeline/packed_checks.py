"""Check packed rows from their bytes: pieces of documents laid end to end, padding after them.

In:  a packed shard, what the manifest says about it, what ids mean.
Out: `PieceFacts`, a few numbers per piece; or a `DataError` that names the shard.
Guarantee: every byte is read. Pieces fill their rows without gaps; padding is EOS; where text never makes an EOS, none
stands inside a piece. How pieces of different rows fit together is for `piece_table` and `packed_proof`.

    seq_len 4, EOS 0     [5 6 0 8 9], num_tokens 5, doc_starts [3]   fine: the pieces 5 6 0 and 8 9
                         [5 0 6 8 9], num_tokens 5, doc_starts [3]   refused: text after the EOS of a document
                         [5 6 0 8 0], num_tokens 3, doc_starts []    refused: padding that is not the EOS
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from curriculum.errors import DataError
from curriculum.limits import MAX_TOTAL
from curriculum.shard_format import Shard
from pipeline.order import IntArray
from pipeline.shard_checks import REPAIR, ShardPlace, TokenRules, check_digest, check_ids, open_place, row_blocks


@dataclass(frozen=True, kw_only=True, slots=True)
class PieceFacts:
    """The pieces of a shard, or of several. Arrays are [num_pieces] unless said otherwise."""

    row: IntArray
    position: IntArray
    """of the first token in its row"""
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


def check_packed_shard(root: Path, place: ShardPlace, rules: TokenRules, shortest_row: int | None = None) -> PieceFacts:
    """Check a packed shard completely.

    Args:
        root: folder of the dataset.
        place: the shard.
        rules: what ids mean.
        shortest_row: document mode: longer rows are one piece, and what is shorter ends its document.

    Raises:
        DataError: names file, row, what was expected and found.
    """
    path, shard = root / place.entry.path, open_place(root, place)
    check_digest(path, place.entry.sha256)
    facts = read_pieces(path, shard)
    check_ids(path, shard, rules.vocab_size)
    if shortest_row is not None:
        _check_rows_of_documents(path, facts, place.seq_len, shortest_row, rules)
    _check_padding(path, shard, rules)
    if rules.eos_only_ends:
        _check_every_eos(path, shard, facts, rules)
    return facts


def read_pieces(path: Path, shard: Shard) -> PieceFacts:
    """The pieces of a shard, row after row; of its tokens only the first and the last of each are read.

    Raises:
        DataError: they do not lie end to end in their row, or lie where no stream has tokens.
    """
    assert shard.num_tokens is not None
    assert shard.piece_offset is not None
    assert shard.piece_document is not None
    stored = shard.num_tokens.astype(np.int64)
    edges = shard.doc_offsets.astype(np.int64)
    num_rows = len(stored)
    row = np.repeat(np.arange(num_rows), np.diff(edges) + 1)
    is_first = np.zeros(len(row), np.bool_)
    is_first[edges[:-1] - edges[0] + np.arange(num_rows)] = True
    listed = slice(int(edges[0]), int(edges[-1]))

    def of_pieces(of_first: np.ndarray[Any, Any], of_further: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        values = np.empty(len(row), of_further.dtype)
        values[is_first], values[~is_first] = of_first, of_further[listed]
        return values

    position = of_pieces(np.zeros(num_rows, np.uint32), shard.doc_positions).astype(np.int64)
    offset = of_pieces(shard.offset, shard.piece_offset)
    document = of_pieces(shard.document, shard.piece_document)
    ends = np.append(position[1:], 0)
    ends[np.append(is_first[1:], True)] = stored
    num_tokens = ends - position
    _refuse(
        path,
        row,
        num_tokens < 2,
        "has a piece of {} tokens at position {}, expected 2 or more: its doc_starts are not ascending, or lie "
        "beyond its num_tokens",
        num_tokens,
        position,
    )
    # Every document has a token, so its ordinal is never above the position; also keeps int64 arithmetic exact.
    _refuse(path, row, offset > MAX_TOTAL, f"has a piece at {{}} of the stream, expected at most {MAX_TOTAL}", offset)
    beyond = "has a piece at {} of the stream, of document {}: at most as many documents as tokens come before it"
    _refuse(path, row, document > offset, beyond, offset, document)
    return PieceFacts(
        row=row,
        position=position,
        offset=offset.astype(np.int64),
        num_tokens=num_tokens,
        document=document.astype(np.int64),
        first_token=shard.tokens[row, position],
        last_token=shard.tokens[row, ends - 1],
        row_documents=shard.document.astype(np.int64),
    )


def _check_rows_of_documents(path: Path, facts: PieceFacts, seq_len: int, shortest_row: int, rules: TokenRules) -> None:
    shorter = facts.num_tokens <= seq_len
    if seq_len > shortest_row:
        what = f"has a piece of {{}} tokens, expected one of {seq_len + 1} that fills the row"
        _refuse(path, facts.row, shorter, what, facts.num_tokens)
    what = f"has a piece of {{}} tokens that ends with {{}}: what does not fill a row ends with the EOS {rules.eos_id}"
    _refuse(path, facts.row, shorter & (facts.last_token != rules.eos_id), what, facts.num_tokens, facts.last_token)


def _refuse(
    path: Path,
    row: IntArray,
    wrong: np.ndarray[Any, np.dtype[np.bool_]],
    what: str,
    *values: np.ndarray[Any, Any],
) -> None:
    """Refuse the first piece that is wrong; its values fill the braces of the sentence."""
    if wrong.any():
        at = int(np.argmax(wrong))
        raise DataError(f"{path}: row {row[at]} {what.format(*(of_piece[at] for of_piece in values))}. {REPAIR}")


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


def _check_every_eos(path: Path, shard: Shard, facts: PieceFacts, rules: TokenRules) -> None:
    """In a piece no EOS but the last token, which then ends the document (or the first, where it is the BOS too)."""
    row_tokens = shard.tokens.shape[1]
    last = np.zeros(len(shard.tokens) * row_tokens, np.bool_)
    cells = facts.row * row_tokens + facts.position
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
                f"{path}: row {first + row} has the EOS {rules.eos_id} at position {column}, inside a piece: a "
                f"document ends with its EOS. {REPAIR}"
            )
