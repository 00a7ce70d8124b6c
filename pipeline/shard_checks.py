"""Check one shard from its bytes: digest, layout, ids, document starts, stream offsets.

In:  a shard file, what the manifest says about it, the tokenizer's rules, where its rows must lie in the stream.
Out: `RowFacts`, the few numbers per row that the tiling proof needs.
Guarantee: every byte is read, in blocks, so memory does not grow with the shard. The first contradiction is a
`DataError` that names file, row, what was expected, what was found and how to repair it.

    EOS 0, seq_len 4     [5 0 7 8 9], doc_starts [2]   fine: the token before position 2 is the EOS
                         [5 0 7 8 9], doc_starts [3]   refused: the token before position 3 is 7
                         [5 0 7 8 9], doc_starts []    refused if the EOS is a special token: text never makes it
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from curriculum.errors import DataError
from curriculum.manifest import ShardEntry
from curriculum.shard_format import Shard, open_shard
from pipeline.order import IntArray

BLOCK_TOKENS = 4 << 20
"""Tokens looked at together: 8 or 16 MB, far below a shard of 256 MiB."""
REPAIR = "Copy the shard again from where the dataset came from, or repeat `curriculum build ... --overwrite`."
"""The token store makes the second one quick."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenRules:
    """What ids mean in this dataset."""

    vocab_size: int
    eos_id: int
    bos_id: int | None
    """at the start of every document, if any"""
    eos_only_ends: bool
    """text never encodes to the EOS, so every EOS ends a document"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardPlace:
    """One shard of the manifest and where its rows belong."""

    rank: tuple[int, int]
    """(phase, number in the phase): the order of the manifest; validation comes after the last phase"""
    entry: ShardEntry
    seq_len: int
    consumed: int
    """stream tokens that a row uses up"""
    dtype: str
    packed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class RowFacts:
    """What the tiling proof needs of each row. Arrays are [num_rows] unless said otherwise."""

    offset: IntArray
    document: IntArray
    num_starts: IntArray
    first_token: np.ndarray[Any, Any]
    last_token: np.ndarray[Any, Any]
    boundaries: IntArray
    """[num_doc_starts] stream positions where documents begin"""


def check_shard(root: Path, place: ShardPlace, rules: TokenRules, offsets: IntArray | range) -> RowFacts:
    """Check a shard completely.

    Args:
        root: folder of the dataset.
        place: the shard.
        rules: what ids mean.
        offsets: int64 [num_rows], the stream offset that each row must have; or the range that holds them all.

    Raises:
        DataError: the first thing that is wrong with it.
        OSError: it cannot be read.
    """
    path, shard = root / place.entry.path, open_place(root, place)
    check_digest(path, place.entry.sha256)
    rows, positions = _doc_starts(shard)
    _check_positions(path, rows, positions, place.seq_len)
    check_ids(path, shard, rules.vocab_size)
    _check_tokens_at_starts(path, shard, rows, positions, rules)
    if rules.eos_only_ends:
        _check_every_eos(path, shard, rows, positions, rules)
    _check_offsets(path, shard, offsets)
    offset = shard.offset.astype(np.int64)
    return RowFacts(
        offset=offset,
        document=shard.document.astype(np.int64),
        num_starts=np.diff(shard.doc_offsets.astype(np.int64)),
        first_token=shard.tokens[:, 0].copy(),
        last_token=shard.tokens[:, -1].copy(),
        boundaries=offset[rows] + positions,
    )


def open_place(root: Path, place: ShardPlace) -> Shard:
    """Map a shard as the manifest describes it."""
    return open_shard(
        root / place.entry.path,
        seq_len=place.seq_len,
        dtype=place.dtype,
        num_rows=place.entry.num_rows,
        num_bytes=place.entry.num_bytes,
        data_offset=place.entry.data_offset,
        packed=place.packed,
    )


def check_digest(path: Path, expected: str) -> None:
    """Refuse a file with other bytes than the manifest says."""
    with open(path, "rb", buffering=0) as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise DataError(
            f"{path}: its bytes have the sha256 {found}, the manifest says {expected}: they were changed, or this is "
            f"another shard. {REPAIR}"
        )


def _doc_starts(shard: Shard) -> tuple[IntArray, IntArray]:
    """(row, position) of every document start, int64 [num_doc_starts], row after row."""
    edges = shard.doc_offsets.astype(np.int64)
    rows = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
    return rows, shard.doc_positions[edges[0] : edges[-1]].astype(np.int64)


def _check_positions(path: Path, rows: IntArray, positions: IntArray, seq_len: int) -> None:
    outside = (positions < 1) | (positions > seq_len)
    if outside.any():
        at = int(np.argmax(outside))
        raise DataError(
            f"{path}: row {rows[at]} lists a document start at position {positions[at]}, expected 1 to {seq_len}. "
            f"{REPAIR}"
        )
    falling = (positions[1:] <= positions[:-1]) & (rows[1:] == rows[:-1])
    if falling.any():
        at = int(np.argmax(falling))
        raise DataError(
            f"{path}: row {rows[at]} lists document start {positions[at + 1]} after {positions[at]}, expected "
            f"ascending positions. {REPAIR}"
        )


def row_blocks(shard: Shard, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
    """(first row, tokens [rows, seq_len + 1]) of consecutive rows, about `BLOCK_TOKENS` at a time."""
    rows = max(1, BLOCK_TOKENS // shard.tokens.shape[1])
    stop = len(shard.tokens) if stop is None else stop
    for first in range(start, stop, rows):
        yield first, shard.tokens[first : min(first + rows, stop)]


def check_ids(path: Path | str, shard: Shard, vocab_size: int, start: int = 0, stop: int | None = None) -> None:
    """Refuse an id beyond the vocabulary in some rows, all by default."""
    for first, block in row_blocks(shard, start, stop):
        if int(block.max()) >= vocab_size:
            row, column = divmod(int(np.argmax(block >= vocab_size)), block.shape[1])
            raise DataError(
                f"{path}: row {first + row}, position {column} holds the id {block[row, column]}, expected one below "
                f"the vocab_size {vocab_size}. {REPAIR}"
            )


def _check_tokens_at_starts(path: Path, shard: Shard, rows: IntArray, positions: IntArray, rules: TokenRules) -> None:
    wanted = [(positions - 1, rules.eos_id, "EOS", "before")]
    if rules.bos_id is not None:
        wanted.append((positions, rules.bos_id, "BOS", "at"))
    for columns, token, name, where in wanted:
        found = shard.tokens[rows, columns]
        wrong = found != token
        if wrong.any():
            at = int(np.argmax(wrong))
            raise DataError(
                f"{path}: row {rows[at]} lists a document start at position {positions[at]}, but the token {where} "
                f"it is {found[at]}, expected the {name} {token}. {REPAIR}"
            )


def _check_every_eos(path: Path, shard: Shard, rows: IntArray, positions: IntArray, rules: TokenRules) -> None:
    """Every EOS but one at the end of a row is followed by a listed document start.

    Where one token is both EOS and BOS, it may also be the BOS of a document start, or of the row's first document.
    """
    row_tokens = shard.tokens.shape[1]
    listed = rows * row_tokens + positions  # ascending, as _check_positions has shown
    for first, block in row_blocks(shard):
        inside = np.flatnonzero(block[:, :-1] == rules.eos_id)
        row, column = np.divmod(inside, row_tokens - 1)
        cell = (first + row) * row_tokens + column
        unlisted = ~_contains(listed, cell + 1)
        if rules.bos_id == rules.eos_id:
            unlisted &= ~_contains(listed, cell) & (column > 0)
        if unlisted.any():
            at = int(np.argmax(unlisted))
            raise DataError(
                f"{path}: row {first + row[at]} has the EOS {rules.eos_id} at position {column[at]}, but its "
                f"doc_starts do not list position {column[at] + 1}. {REPAIR}"
            )


def _contains(ascending: IntArray, values: IntArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
    at = np.searchsorted(ascending, values)
    found = np.zeros(len(values), np.bool_)
    known = at < len(ascending)
    found[known] = ascending[at[known]] == values[known]
    return found


def _check_offsets(path: Path, shard: Shard, offsets: IntArray | range) -> None:
    found = shard.offset
    if isinstance(offsets, range):
        wrong = (found < offsets.start) | (found >= offsets.stop)
        expected = f"one from {offsets.start} to {offsets.stop - 1}"
    else:
        wrong = found != offsets.astype(np.uint64)
        expected = str(offsets[int(np.argmax(wrong))]) if wrong.any() else ""
    if wrong.any():
        at = int(np.argmax(wrong))
        raise DataError(f"{path}: row {at} has the stream offset {found[at]}, expected {expected}. {REPAIR}")
    # Every document has a token, so its ordinal is never above the position; also keeps int64 arithmetic exact.
    beyond = shard.document > found
    if beyond.any():
        at = int(np.argmax(beyond))
        raise DataError(
            f"{path}: row {at} at stream offset {found[at]} is said to begin in document {shard.document[at]}; there "
            f"are at most as many documents before it as tokens. {REPAIR}"
        )
