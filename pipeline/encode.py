"""Encode one work unit of the corpus into a part of the token store; into several if it has very much text.

In:  a unit (a byte range, row groups, a compressed file, a group of small files) and how to encode it.
Out: summaries of the parts; their tokens and indexes are on the disk.
Guarantee: a pure task, the same bytes on any worker, in any order, any number of times. Every record is a document,
an empty document or a skipped record, and the three are counted. Seed and schedule play no part. Memory is that of one
part, however large the unit: a compressed file cannot be divided before it is read.

    documents "ab", "", "c" with ids a=1 b=2 c=3, EOS 0   ->   1 2 0 | 3 0 (in key order), 2 documents, 1 empty
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import orjson
import xxhash

from curriculum.errors import BadRecordError, BuildError
from pipeline.backends import Encoder, encode_documents, open_encoder
from pipeline.documents import BadRecord, Record, read_unit
from pipeline.files.contract import Files
from pipeline.folders import printable
from pipeline.part import UnitDocuments, document_key, write_part
from pipeline.part_index import PartSummary
from pipeline.store import ALGORITHM
from pipeline.store_names import numbered
from pipeline.tokenized.formats import Stored
from pipeline.tokenized.take import STORED_IDS, take_unit
from pipeline.tokenizer import TokenizerInfo
from pipeline.units import Unit

BATCH_CHARS = 4 << 20
"""Texts handed to the encoder at once: enough to keep it busy, little enough for the reference's 145 bytes per byte."""
MAX_EXAMPLES = 20


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
    stored: Stored | None = None
    """how the ids are stored, if the corpus was tokenized elsewhere"""


def part_name(job: EncodeJob, unit: Unit) -> str:
    """Fingerprint of everything that decides the bytes of the unit's parts, and of nothing else: names the first."""
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
    if job.stored is not None:
        what["stored"] = [job.stored.format, job.stored.dtype, job.stored.key]
    return hashlib.sha256(orjson.dumps(what, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


def encode_unit(job: EncodeJob, unit: Unit) -> tuple[PartSummary, ...]:
    """Encode a unit, or take its ids if they are stored already, and publish its parts.

    Raises:
        BadRecordError: a record cannot become a document and `on_bad_record` is "stop".
        BuildError: a file changed while it was read, or the store cannot be written.
    """
    if job.stored is not None:
        backend, parts = STORED_IDS, take_unit(unit, job.stored, job.tokenizer, job.source)
    else:
        encoder = open_encoder(str(job.store.local(job.tokenizer_name)), job.backend)
        backend, parts = f"{encoder.name} {encoder.version}", _encode(job, encoder, unit)
    name = part_name(job, unit)
    return tuple(
        write_part(job.store, numbered(name, number), job.tokenizer, documents, backend)
        for number, documents in enumerate(parts)
    )


def _encode(job: EncodeJob, encoder: Encoder, unit: Unit) -> Iterator[UnitDocuments]:
    """The documents of each part; what is known of each document is noted before its batch is encoded."""
    part = UnitDocuments()
    texts: list[str] = []
    num_chars = 0
    for record in read_unit(unit, job.text_key):
        if isinstance(record, BadRecord):
            _skip(job, record, part)
        elif not record.text:
            part.empty_documents += 1
        else:
            if part.is_full:
                _encode_batch(job, encoder, texts, part)
                part.continues = True
                yield part
                part, texts, num_chars = UnitDocuments(), [], 0
            _note(job, record, part)
            texts.append(record.text)
            num_chars += len(record.text)
            if num_chars >= BATCH_CHARS:
                _encode_batch(job, encoder, texts, part)
                texts, num_chars = [], 0
    _encode_batch(job, encoder, texts, part)
    yield part


def _encode_batch(job: EncodeJob, encoder: Encoder, texts: list[str], part: UnitDocuments) -> None:
    if not texts:
        return
    ids, lengths = encode_documents(encoder, texts)
    if len(lengths) != len(texts) or int(lengths.sum()) != len(ids):
        raise BuildError(
            f"The backend {encoder.name} {encoder.version} returned {len(lengths)} lengths that sum to "
            f"{int(lengths.sum())} for {len(texts)} texts and {len(ids)} ids. Use --backend tokenizers."
        )
    part.ids.append(ids.astype(job.tokenizer.dtype, copy=False))
    part.lengths.append(lengths)


def _skip(job: EncodeJob, record: BadRecord, encoded: UnitDocuments) -> None:
    if job.on_bad_record == "stop":
        raise BadRecordError(refusal(record))
    encoded.num_skipped += 1
    if len(encoded.skipped) < MAX_EXAMPLES:
        encoded.skipped.append(f"{record.path}, {record.where}: {record.reason}")


def _note(job: EncodeJob, record: Record, encoded: UnitDocuments) -> None:
    data = record.text.encode()
    encoded.keys.append(document_key(job.source, record.relative, record.position))
    encoded.text_hashes.append(xxhash.xxh3_64_intdigest(data))
    encoded.file_numbers.append(encoded.files.setdefault(printable(record.relative), len(encoded.files)))
    encoded.positions.append(record.position)
    encoded.text_bytes += len(data)


def refusal(record: BadRecord) -> str:
    """The sentence that stops a build at a bad record."""
    return (
        f"{record.path}, {record.where}: {record.reason}. "
        f"Repair the record, or skip and count such records with --on-bad-record skip."
    )
