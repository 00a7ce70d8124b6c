"""The tokenizer that a corpus is encoded with, as a file of the token store.

In:  what the options name: a tokenizer.json, of a disk or the Hub, `bytes`, or `train:N` and the corpus to train on.
Out: the name of the file in the store, and what it says of itself.
Guarantee: what happens to the original file later does not matter, and a file of the store is believed for its bytes,
not for its name: a damaged one is written again. A trained tokenizer depends on the documents alone: it is trained on
those with the smallest keys, whatever the units and the workers.

    --tokenizer bytes            tokenizers/bytes.json
    --tokenizer gpt2.json        tokenizers/<its sha256>.json
    --tokenizer train:8192       tokenizers/trained-<fingerprint of the corpus and 8192>.json, beside it .sha256
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import orjson

from curriculum.errors import BadRecordError, BuildError
from pipeline.backends import split_pieces
from pipeline.corpus import Corpus, SourceUnit, total_bytes
from pipeline.documents import BadRecord, read_unit
from pipeline.encode import refusal
from pipeline.engines.workers import Workers
from pipeline.files.contract import Files
from pipeline.layout import write_bytes
from pipeline.options import Options
from pipeline.part import document_key
from pipeline.progress import Progress
from pipeline.sample_files import keep_sample, read_sample
from pipeline.store import ALGORITHM
from pipeline.store_names import TOKENIZERS
from pipeline.tokenizer import (
    TokenizerInfo,
    byte_tokenizer,
    load_tokenizer,
    named_tokenizer,
    parse_tokenizer_spec,
    train_tokenizer,
)
from pipeline.units import Unit

TRAINING_BYTES = 32 << 20
"""A tokenizer is trained on that much text: the documents with the smallest keys, a random sample of the corpus."""
TRAINING_PIECE_BYTES = 1 << 20
"""Longer documents are trained on in pieces."""
ABOVE_EVERY_KEY = b"\xff" * 17
"""Greater than any key."""


def corpus_tokenizer(
    options: Options, corpus: Corpus, units: tuple[SourceUnit, ...], workers: Workers, progress: Progress
) -> tuple[str, TokenizerInfo]:
    """The tokenizer, as a file of the store: what happens to the original file later does not matter."""
    store = options.store_files()
    existing = named_tokenizer(options.tokenizer, eos=options.eos, bos=options.bos)
    if existing is not None:
        return keep_tokenizer(store, existing)
    kind, value = parse_tokenizer_spec(options.tokenizer)
    if kind == "bytes":
        name, data = _stored_tokenizer("bytes"), byte_tokenizer().encode()
        _keep(store, name, data, hashlib.sha256(data).hexdigest())
    else:
        what = [ALGORITHM, value, corpus.stamp, options.text_key, corpus.on_bad_record]
        name = _stored_tokenizer(f"trained-{hashlib.sha256(orjson.dumps(what)).hexdigest()[:32]}")
        digest_name = f"{name.removesuffix('.json')}.sha256"
        if not _holds(store, name, (store.read(digest_name) or b"").decode(errors="replace")):
            data = _train(int(value or 0), options, corpus, units, workers, progress).encode()
            write_bytes(store, name, data)
            write_bytes(store, digest_name, hashlib.sha256(data).hexdigest().encode())
    return name, load_tokenizer(str(store.local(name)), eos=options.eos, bos=options.bos)


def keep_tokenizer(store: Files, info: TokenizerInfo) -> tuple[str, TokenizerInfo]:
    """A copy of the tokenizer in the store.

    Raises:
        BuildError: the file is not the one any more that its digest was taken of.
    """
    name = _stored_tokenizer(info.sha256)
    _keep(store, name, Path(info.path).read_bytes(), info.sha256)
    return name, replace(info, path=str(store.local(name)))


def _keep(store: Files, name: str, data: bytes, sha256: str) -> None:
    if hashlib.sha256(data).hexdigest() != sha256:
        raise BuildError("The tokenizer was written to while it was read. Run the same command again.")
    if not _holds(store, name, sha256):
        write_bytes(store, name, data)


def _holds(store: Files, name: str, sha256: str) -> bool:
    """Whether the store has just these bytes under that name: a name alone proves nothing."""
    data = store.read(name)
    return data is not None and hashlib.sha256(data).hexdigest() == sha256


def _stored_tokenizer(name: str) -> str:
    return f"{TOKENIZERS}/{name}.json"


def _train(
    vocab_size: int,
    options: Options,
    corpus: Corpus,
    units: tuple[SourceUnit, ...],
    workers: Workers,
    progress: Progress,
) -> str:
    documents = _documents_with_smallest_keys(options, corpus, units, workers, progress)
    if not documents:
        raise BuildError(f"The corpus ({corpus.name}) holds no text to train a tokenizer on.")
    texts = [text for _, text in documents]
    excess = sum(len(text.encode()) for text in texts) - TRAINING_BYTES
    if excess > 0:  # only the last document can reach beyond
        texts[-1] = texts[-1].encode()[:-excess].decode(errors="ignore")
    progress.say(f"Training a tokenizer of {vocab_size:,} entries on {len(texts):,} documents.")
    # Whole documents of 32 MB would cost the trainer 145 bytes per byte.
    return train_tokenizer((piece for text in texts for piece in split_pieces(text, TRAINING_PIECE_BYTES)), vocab_size)


def _documents_with_smallest_keys(
    options: Options, corpus: Corpus, units: tuple[SourceUnit, ...], workers: Workers, progress: Progress
) -> list[tuple[bytes, str]]:
    """(key, text) up to `TRAINING_BYTES`. Keys are uniform, so four times the share that is needed is enough but for
    odd corpora: only then every document is looked at. What is chosen is the same either way."""
    total = total_bytes(units)
    share = min(4 * TRAINING_BYTES / max(total, 1), 1.0)
    cutoffs = [int(share * 2**64).to_bytes(8, "big")] if share < 1 else []
    documents: list[tuple[bytes, str]] = []
    for below in (*cutoffs, ABOVE_EVERY_KEY):
        documents = []
        store = options.store_files()
        shared = (store, options.text_key, corpus.on_bad_record, below)
        with progress.stage("sample", total=total, unit="B") as advance:
            tasks = [(corpus.sources[one.source].name, one.unit) for one in units]
            for number, found in workers.run(sample_unit, shared, tasks):
                documents = _smallest(documents + _take_sample(store, found))
                advance(units[number].unit.num_bytes)
        if sum(len(text.encode()) for _, text in documents) >= TRAINING_BYTES:
            break
    return documents


def sample_unit(store: Files, text_key: str, on_bad_record: str, below: bytes, source: str, unit: Unit) -> str:
    """A file of the store with (key, text) of the documents of a unit with the smallest keys, all smaller than `below`:
    at most `TRAINING_BYTES` of text and one document more."""
    kept: list[tuple[bytes, str]] = []
    num_bytes = 0
    for record in read_unit(unit, text_key):
        if isinstance(record, BadRecord):
            if on_bad_record == "stop":
                raise BadRecordError(refusal(record))
        elif record.text and (key := document_key(source, record.relative, record.position)) < below:
            kept.append((key, record.text))
            num_bytes += len(record.text.encode())
            if num_bytes > 2 * TRAINING_BYTES:
                kept = _smallest(kept)
                num_bytes = sum(len(text.encode()) for _, text in kept)
    return keep_sample(store, [[key.hex(), text] for key, text in _smallest(kept)])


def _take_sample(store: Files, name: str) -> list[tuple[bytes, str]]:
    sample = [(bytes.fromhex(key), text) for key, text in read_sample(store, name)]
    store.remove(name)
    return sample


def _smallest(documents: list[tuple[bytes, str]]) -> list[tuple[bytes, str]]:
    """In key order, up to and with the document that reaches `TRAINING_BYTES`."""
    documents = sorted(documents)
    num_bytes = 0
    for count, (_, text) in enumerate(documents, start=1):
        num_bytes += len(text.encode())
        if num_bytes >= TRAINING_BYTES:
            return documents[:count]
    return documents
