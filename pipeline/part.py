"""Documents of one work unit, in reading order, to one part of the token store.

In:  ids without EOS and BOS, lengths, keys, hashes and places of the documents.   Out: the part's summary; its tokens
and index are in the store.
Guarantee: the same documents give the same bytes wherever they come from, encoded here or elsewhere. Tokens lie in
the order of the keys, each document with its BOS (if any) and its EOS.

    keys 2, 1   ids 5 6 | 7   EOS 0      ->      7 0 5 6 0, num_tokens 2 3, start 0 2
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xxhash

from pipeline.files.contract import Files
from pipeline.part_index import PartIndex, PartSummary, fold_content, write_index
from pipeline.store_names import tokens_name
from pipeline.tokenizer import TokenizerInfo

WRITE_TOKENS = 4 << 20
PART_BYTES = 256 << 20
"""A part ends with the document that reaches this much text, or ids: what a worker holds of a compressed file."""
PART_DOCUMENTS = 2 << 20
"""Or that many documents: each costs a worker about 250 bytes until its part is written."""


@dataclass(kw_only=True, slots=True)
class UnitDocuments:
    """Documents of a unit, or of a run of it, in reading order; the empty ones are only counted."""

    ids: list[np.ndarray[Any, Any]] = field(default_factory=list)
    """end to end, of the store's dtype"""
    lengths: list[np.ndarray[Any, Any]] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    text_hashes: list[int] = field(default_factory=list)
    files: dict[str, int] = field(default_factory=dict)
    """relative path -> its number"""
    file_numbers: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    empty_documents: int = 0
    skipped: list[str] = field(default_factory=list)
    num_skipped: int = 0
    text_bytes: int = 0
    continues: bool = False
    """the unit has more documents, in another part"""

    @property
    def is_full(self) -> bool:
        """Whether the next document begins another part."""
        return self.text_bytes >= PART_BYTES or len(self.keys) >= PART_DOCUMENTS


def document_key(source: str, relative: str, position: int) -> bytes:
    """The stable 128-bit key of a document: 16 bytes, big-endian, so that bytes sort as numbers."""
    return document_keys(source, relative, [position])[0]


def document_keys(source: str, relative: str, positions: Iterable[int]) -> list[bytes]:
    """The keys of documents of one file."""
    file = b"%s\0%s\0" % (source.encode(), os.fsencode(relative))
    return [xxhash.xxh3_128_digest(b"%s%d" % (file, position)) for position in positions]


def write_part(store: Files, name: str, tokenizer: TokenizerInfo, unit: UnitDocuments, backend: str) -> PartSummary:
    """Publish a part; its index last. The ids of `unit` are used up.

    Raises:
        BuildError: the store cannot be written.
    """
    columns, order, source_start = _index(tokenizer, unit)
    with store.write(tokens_name(name)) as file:
        digest = xxhash.xxh3_128()
        for block in _token_blocks(tokenizer, unit, order, source_start):
            file.write(block)
            digest.update(block.data)
    summary = PartSummary(
        name=name,
        documents=len(order),
        tokens=int(columns.num_tokens.sum()),
        empty_documents=unit.empty_documents,
        skipped_records=unit.num_skipped,
        skipped_examples=tuple(unit.skipped),
        text_bytes=unit.text_bytes,
        content=fold_content(columns),
        tokens_digest=digest.hexdigest(),
        index_digest=columns.digest(),
        backend=backend,
        files=tuple(unit.files),
        continues=unit.continues,
    )
    write_index(store, columns, summary)
    return summary


def _index(
    tokenizer: TokenizerInfo, unit: UnitDocuments
) -> tuple[PartIndex, np.ndarray[Any, np.dtype[np.int64]], np.ndarray[Any, np.dtype[np.int64]]]:
    """The index in key order; the reading-order number of each of its documents; where each begins in the ids."""
    keys = np.frombuffer(b"".join(unit.keys), ">u8").reshape(-1, 2).astype(np.uint64)
    lengths = np.concatenate(unit.lengths) if unit.lengths else np.empty(0, np.int64)
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    num_tokens = (lengths + 1 + (tokenizer.bos_id is not None))[order].astype(np.uint64)

    def column(values: Any) -> np.ndarray[Any, np.dtype[np.uint64]]:
        return np.asarray(values, np.uint64)[order]

    index = PartIndex(
        key_high=column(keys[:, 0]),
        key_low=column(keys[:, 1]),
        text_hash=column(unit.text_hashes),
        start=np.cumsum(num_tokens) - num_tokens,
        num_tokens=num_tokens,
        file=column(unit.file_numbers),
        position=column(unit.positions),
    )
    return index, order, np.cumsum(lengths) - lengths


def _token_blocks(
    tokenizer: TokenizerInfo,
    unit: UnitDocuments,
    order: np.ndarray[Any, Any],
    source_start: np.ndarray[Any, Any],
) -> Iterator[np.ndarray[Any, Any]]:
    """The documents in key order, BOS before (if any) and EOS after each, in blocks of the store's dtype."""
    ids = np.concatenate(unit.ids) if unit.ids else np.empty(0, tokenizer.dtype)
    unit.ids.clear()
    source_stop = np.append(source_start[1:], len(ids))
    bos = [] if tokenizer.bos_id is None else [np.array([tokenizer.bos_id], ids.dtype)]
    eos = np.array([tokenizer.eos_id], ids.dtype)
    block: list[np.ndarray[Any, Any]] = []
    size = 0
    for start, stop in zip(source_start[order].tolist(), source_stop[order].tolist(), strict=True):
        block += [*bos, ids[start:stop], eos]
        size += stop - start
        if size >= WRITE_TOKENS:
            yield np.concatenate(block)
            block, size = [], 0
    if block:
        yield np.concatenate(block)
