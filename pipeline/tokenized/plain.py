"""What of a stored document is text: its ids without the EOS and BOS that this build sets itself, in the store's dtype.

In:  a block of documents, and the tokenizer that they are said to be made with.   Out: `PlainDocuments`.
Guarantee: every id is one of the tokenizer's, or it is named in a refusal; a document ends with exactly one EOS in
the end, whether it had none, one or (padding) many: each beyond the first counts as an empty document, as two EOS in
a row of a bare array do. With a BOS, one that is there already is not doubled. Documents are told apart by a hash of
their ids.

    EOS 0, [5 6 0] [7] [0] [8 0 0]   ->   5 6 | 7 | 8, and 2 empty documents
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash

from curriculum.errors import BadRecordError
from pipeline.folders import printable
from pipeline.tokenized.id_array import IdBlock, IntArray
from pipeline.tokenizer import TokenizerInfo


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainDocuments:
    """The documents of a block that are not empty."""

    ids: np.ndarray[Any, Any]
    """[sum of lengths], uint16 or uint32 as the tokenizer's vocabulary needs"""
    lengths: IntArray
    positions: IntArray
    hashes: list[int]
    """xxh3-64 of each document's ids as stored"""
    empty_documents: int


def plain_documents(block: IdBlock, tokenizer: TokenizerInfo, path: str, unit: str) -> PlainDocuments:
    """Take the documents of a block.

    Args:
        unit: what positions count, for messages: "document", "row" or "token".

    Raises:
        BadRecordError: an id is not one of the tokenizer's.
    """
    _require_known(block, tokenizer, path, unit)
    ids = block.ids.astype(tokenizer.dtype, copy=False)
    stops = np.cumsum(block.lengths)
    starts = stops - block.lengths
    runs = _trailing_eos(ids, starts, stops, tokenizer.eos_id)
    stops = stops - runs
    if tokenizer.bos_id is not None:
        filled = stops > starts
        starts = starts + (filled & (ids[np.where(filled, starts, 0)] == tokenizer.bos_id) if len(ids) else 0)
    text = np.flatnonzero(stops > starts)
    first, last = starts[text].tolist(), stops[text].tolist()
    data, itemsize = np.ascontiguousarray(ids).view(np.uint8).data, ids.itemsize
    hashes = [
        xxhash.xxh3_64_intdigest(data[start * itemsize : stop * itemsize])
        for start, stop in zip(first, last, strict=True)
    ]
    return PlainDocuments(
        ids=_joined(ids, starts[text], stops[text]),
        lengths=stops[text] - starts[text],
        positions=block.positions[text],
        hashes=hashes,
        empty_documents=len(starts) - len(text) + int(np.maximum(runs - 1, 0).sum()),
    )


def _require_known(block: IdBlock, tokenizer: TokenizerInfo, path: str, unit: str) -> None:
    if len(block.ids) == 0 or (int(block.ids.max()) < tokenizer.vocab_size and int(block.ids.min()) >= 0):
        return
    at = int(np.flatnonzero((block.ids >= tokenizer.vocab_size) | (block.ids < 0))[0])
    document = int(np.searchsorted(np.cumsum(block.lengths), at, side="right"))
    within = at - int(block.lengths[:document].sum())
    raise BadRecordError(
        f"{printable(path)}, {unit} {int(block.positions[document]):,}: its id number {within:,} is "
        f"{int(block.ids[at]):,}, and ids of the tokenizer are 0 to {tokenizer.vocab_size - 1:,}: the file was "
        f"written with another tokenizer{_or_dtype(block, tokenizer)}. Name the right one."
    )


def _or_dtype(block: IdBlock, tokenizer: TokenizerInfo) -> str:
    """A dtype by which all ids of the block would be the tokenizer's, if there is one: then that is more likely."""
    raw = np.ascontiguousarray(block.ids)
    for name in ("uint16", "uint32", "int64"):
        other = np.dtype(name)
        if other.itemsize == raw.itemsize:
            continue
        numbers = np.frombuffer(raw.tobytes()[: raw.nbytes // other.itemsize * other.itemsize], other)
        if len(numbers) and int(numbers.min()) >= 0 and int(numbers.max()) < tokenizer.vocab_size:
            return f", or has ids of {name}, not {raw.dtype.name}, by which all of these would be known"
    return ""


def _trailing_eos(ids: np.ndarray[Any, Any], starts: IntArray, stops: IntArray, eos_id: int) -> IntArray:
    """[documents]: how many EOS each ends with."""
    runs = np.zeros(len(starts), np.int64)
    if len(ids) == 0:
        return runs
    runs += (stops > starts) & (ids[np.maximum(stops - 1, 0)] == eos_id)
    longer = np.flatnonzero((runs == 1) & (stops - 1 > starts) & (ids[np.maximum(stops - 2, 0)] == eos_id))
    for document in longer.tolist():  # padded documents only
        text = np.flatnonzero(ids[starts[document] : stops[document]] != eos_id)
        runs[document] = stops[document] - starts[document] - (int(text[-1]) + 1 if len(text) else 0)
    return runs


def _joined(ids: np.ndarray[Any, Any], starts: IntArray, stops: IntArray) -> np.ndarray[Any, Any]:
    """The stretches one after the other."""
    if len(starts) == 0:
        return np.empty(0, ids.dtype)
    return np.concatenate([ids[start:stop] for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)])
