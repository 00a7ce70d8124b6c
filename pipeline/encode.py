"""Encode one work unit of the corpus into one part of the token store.

In:  a unit (a byte range, row groups, a compressed file, a group of small files) and how to encode it.
Out: the part's summary; its tokens and index are on the disk.
Guarantee: a pure task, the same bytes on any worker, in any order, any number of times. Every record is a document,
an empty document or a skipped record, and the three are counted. Seed and schedule play no part.

    documents "ab", "", "c" with ids a=1 b=2 c=3, EOS 0   ->   1 2 0 | 3 0 (in key order), 2 documents, 1 empty
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import xxhash

from curriculum.errors import BadRecordError, BuildError
from pipeline.backends import Encoder, encode_documents, open_encoder
from pipeline.documents import BadRecord, Record, read_unit
from pipeline.files.contract import Files
from pipeline.folders import printable
from pipeline.store import (
    ALGORITHM,
    PartIndex,
    PartSummary,
    fold_content,
    tokens_name,
    write_index,
)
from pipeline.tokenizer import TokenizerInfo
from pipeline.units import Unit

BATCH_CHARS = 4 << 20
"""Texts handed to the encoder at once: enough to keep it busy, little enough for the reference's 145 bytes per byte."""
MAX_EXAMPLES = 20
WRITE_TOKENS = 4 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodeJob:
    """What all units of a build have in common."""

    store: Files
    source: str
    text_key: str
    on_bad_record: str
    """"stop" or "skip" """
    tokenizer: TokenizerInfo
    tokenizer_name: str
    """file of the store: workers may be on other machines"""
    backend: str


@dataclass(kw_only=True, slots=True)
class _Encoded:
    """Documents of a unit in reading order."""

    ids: list[np.ndarray[Any, Any]] = field(default_factory=list)
    lengths: list[np.ndarray[Any, Any]] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    text_hashes: list[int] = field(default_factory=list)
    files: dict[str, int] = field(default_factory=dict)
    file_numbers: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    empty_documents: int = 0
    skipped: list[str] = field(default_factory=list)
    num_skipped: int = 0
    text_bytes: int = 0


def part_name(job: EncodeJob, unit: Unit) -> str:
    """Fingerprint of everything that decides the bytes of the unit's part, and of nothing else."""
    what = {
        "algorithm": ALGORITHM,
        "source": job.source,
        "text_key": job.text_key,
        "on_bad_record": job.on_bad_record,
        "tokenizer": job.tokenizer.sha256,
        "eos": job.tokenizer.eos_id,
        "bos": job.tokenizer.bos_id,
        "unit": unit.identity(),
    }
    return hashlib.sha256(orjson.dumps(what, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


def encode_unit(job: EncodeJob, unit: Unit) -> PartSummary:
    """Encode a unit and publish its part.

    Raises:
        BadRecordError: a record cannot become a document and `on_bad_record` is "stop".
        BuildError: a file changed while it was read, or the store cannot be written.
    """
    encoder = open_encoder(str(job.store.local(job.tokenizer_name)), job.backend)
    encoded = _encode(job, encoder, unit)
    columns, order, source_start = _index(job, encoded)
    name = part_name(job, unit)
    with job.store.write(tokens_name(name)) as file:
        digest = xxhash.xxh3_128()
        for block in _token_blocks(job.tokenizer, encoded, order, source_start):
            file.write(block)
            digest.update(block.data)
    summary = PartSummary(
        name=name,
        documents=len(order),
        tokens=int(columns.num_tokens.sum()),
        empty_documents=encoded.empty_documents,
        skipped_records=encoded.num_skipped,
        skipped_examples=tuple(encoded.skipped),
        text_bytes=encoded.text_bytes,
        content=fold_content(columns),
        tokens_digest=digest.hexdigest(),
        index_digest=columns.digest(),
        backend=f"{encoder.name} {encoder.version}",
        files=tuple(encoded.files),
    )
    write_index(job.store, columns, summary)
    return summary


def _encode(job: EncodeJob, encoder: Encoder, unit: Unit) -> _Encoded:
    encoded = _Encoded()
    for texts in _batches(job, unit, encoded):
        ids, lengths = encode_documents(encoder, texts)
        if len(lengths) != len(texts) or int(lengths.sum()) != len(ids):
            raise BuildError(
                f"The backend {encoder.name} {encoder.version} returned {len(lengths)} lengths that sum to "
                f"{int(lengths.sum())} for {len(texts)} texts and {len(ids)} ids. Use --backend tokenizers."
            )
        encoded.ids.append(ids.astype(job.tokenizer.dtype, copy=False))
        encoded.lengths.append(lengths)
    return encoded


def _batches(job: EncodeJob, unit: Unit, encoded: _Encoded) -> Iterator[list[str]]:
    """Texts of the unit's non-empty documents in batches; what is known of each document is noted in `encoded`."""
    texts: list[str] = []
    num_chars = 0
    for record in read_unit(unit, job.text_key):
        if isinstance(record, BadRecord):
            _skip(job, record, encoded)
        elif not record.text:
            encoded.empty_documents += 1
        else:
            _note(job, record, encoded)
            texts.append(record.text)
            num_chars += len(record.text)
            if num_chars >= BATCH_CHARS:
                yield texts
                texts, num_chars = [], 0
    if texts:
        yield texts


def _skip(job: EncodeJob, record: BadRecord, encoded: _Encoded) -> None:
    if job.on_bad_record == "stop":
        raise BadRecordError(refusal(record))
    encoded.num_skipped += 1
    if len(encoded.skipped) < MAX_EXAMPLES:
        encoded.skipped.append(f"{record.path}, {record.where}: {record.reason}")


def _note(job: EncodeJob, record: Record, encoded: _Encoded) -> None:
    data = record.text.encode()
    encoded.keys.append(document_key(job.source, record))
    encoded.text_hashes.append(xxhash.xxh3_64_intdigest(data))
    encoded.file_numbers.append(encoded.files.setdefault(printable(record.relative), len(encoded.files)))
    encoded.positions.append(record.position)
    encoded.text_bytes += len(data)


def document_key(source: str, record: Record) -> bytes:
    """The stable 128-bit key of a document: 16 bytes, big-endian, so that bytes sort as numbers."""
    place = b"%s\0%s\0%d" % (source.encode(), os.fsencode(record.relative), record.position)
    return bytes(xxhash.xxh3_128_digest(place))


def refusal(record: BadRecord) -> str:
    """The sentence that stops a build at a bad record."""
    return (
        f"{record.path}, {record.where}: {record.reason}. "
        f"Repair the record, or skip and count such records with --on-bad-record skip."
    )


def _index(
    job: EncodeJob, encoded: _Encoded
) -> tuple[PartIndex, np.ndarray[Any, np.dtype[np.int64]], np.ndarray[Any, np.dtype[np.int64]]]:
    """The index in key order; the reading-order number of each of its documents; where each begins in the ids."""
    keys = np.frombuffer(b"".join(encoded.keys), ">u8").reshape(-1, 2).astype(np.uint64)
    lengths = np.concatenate(encoded.lengths) if encoded.lengths else np.empty(0, np.int64)
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    num_tokens = (lengths + 1 + (job.tokenizer.bos_id is not None))[order].astype(np.uint64)

    def column(values: Any) -> np.ndarray[Any, np.dtype[np.uint64]]:
        return np.asarray(values, np.uint64)[order]

    index = PartIndex(
        key_high=column(keys[:, 0]),
        key_low=column(keys[:, 1]),
        text_hash=column(encoded.text_hashes),
        start=np.cumsum(num_tokens) - num_tokens,
        num_tokens=num_tokens,
        file=column(encoded.file_numbers),
        position=column(encoded.positions),
    )
    return index, order, np.cumsum(lengths) - lengths


def _token_blocks(
    tokenizer: TokenizerInfo,
    encoded: _Encoded,
    order: np.ndarray[Any, Any],
    source_start: np.ndarray[Any, Any],
) -> Iterator[np.ndarray[Any, Any]]:
    """The documents in key order, BOS before (if any) and EOS after each, in blocks of the store's dtype."""
    ids = np.concatenate(encoded.ids) if encoded.ids else np.empty(0, tokenizer.dtype)
    encoded.ids.clear()
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
