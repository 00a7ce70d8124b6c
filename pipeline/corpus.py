"""From CORPUS arguments to a complete token store: what `plan` needs to count and `build` to cut.

In:  options and workers.   Out: `TokenizedCorpus`: the parts of every source, the tokenizer, exact counts.
Guarantee: a unit that is in the store already is not encoded again; one more file costs only that file. Which tokenizer
backend did the work does not change a byte.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import orjson

from curriculum.errors import BadRecordError, BuildError, ConfigError
from curriculum.shard_format import token_itemsize
from pipeline.backends import open_encoder, split_pieces
from pipeline.checked_parts import CheckedParts, PartFacts
from pipeline.documents import BadRecord, Record, read_unit
from pipeline.encode import MAX_EXAMPLES, EncodeJob, encode_unit, part_name, refusal
from pipeline.endings import endings
from pipeline.engines.workers import Workers
from pipeline.files.address import is_below, is_url
from pipeline.files.contract import Files
from pipeline.folders import printable
from pipeline.inputs import Inputs, find_inputs
from pipeline.layout import write_bytes
from pipeline.options import Options
from pipeline.part import document_key
from pipeline.progress import Progress
from pipeline.sources import CORPUS, NamedSource
from pipeline.standard_library import find_standard_library
from pipeline.store import ALGORITHM, PartSummary, note_corpus, numbered, parts_facts, usable_parts
from pipeline.tokenized.formats import Stored
from pipeline.tokenized.sample import check_stored_corpus
from pipeline.tokenized.take import STORED_IDS
from pipeline.tokenizer import (
    TokenizerInfo,
    byte_tokenizer,
    load_tokenizer,
    parse_tokenizer_spec,
    train_tokenizer,
)
from pipeline.trust import Expected, choose_backend, circumstances, sample_difference
from pipeline.units import Unit, split_units

TRAINING_BYTES = 32 << 20
"""A tokenizer is trained on that much text: the documents with the smallest keys, a random sample of the corpus."""
TRAINING_PIECE_BYTES = 1 << 20
"""Longer documents are trained on in pieces."""
EVERY_KEY = b"\xff" * 17
"""Greater than any key."""
SAMPLED_UNITS = 16
SAMPLED_CHARS = 16 << 10
"""The backend check reads that much of each of 16 units: 256 kB cost the slow reference about 0.1 s."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusSource:
    """The files of one source."""

    name: str
    inputs: Inputs

    @property
    def digest(self) -> str:
        """Names, sizes and modification times: what a request remembers of a corpus, also after it was copied."""
        files = [
            # An object has no modification time that a copy would keep; its stamp is its ETag or version.
            [os.fsencode(f.relative).hex(), f.size, f.stamp if is_url(f.path) else f.mtime_ns, f.kind]
            for f in self.inputs.files
        ]
        return hashlib.sha256(orjson.dumps(files)).hexdigest()

    @property
    def stamp(self) -> str:
        """The digest and the files' inodes and change times: nothing else on this machine has the same."""
        stamps = [self.digest, *(file.stamp for file in self.inputs.files)]
        return hashlib.sha256(orjson.dumps(stamps)).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """What is to be tokenized, found but not read yet."""

    sources: tuple[CorpusSource, ...]
    on_bad_record: str
    name: str
    """for people"""

    @property
    def digest(self) -> str:
        """Of all sources, their names and order included; of a single one its own."""
        return self._joined([source.digest for source in self.sources])

    @property
    def stamp(self) -> str:
        """The same, inodes and change times included."""
        return self._joined([source.stamp for source in self.sources])

    def _joined(self, digests: list[str]) -> str:
        names = [source.name for source in self.sources]
        return digests[0] if names == [CORPUS] else hashlib.sha256(orjson.dumps([names, digests])).hexdigest()

    @property
    def sizes(self) -> tuple[tuple[str, int], ...]:
        """Path and bytes of every single file of a disk; folders written by `datasets` are left out."""
        files = (file for source in self.sources for file in source.inputs.files)
        return tuple((file.path, file.size) for file in files if file.kind != "datasets" and not is_url(file.path))

    def units(self, unit_bytes: int | None, stored: Stored | None) -> tuple[SourceUnit, ...]:
        """The work units of all sources, one source after the other."""
        return tuple(
            SourceUnit(source=number, unit=unit)
            for number, source in enumerate(self.sources)
            for unit in split_units(source.inputs.files, unit_bytes, stored)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceUnit:
    """A work unit and the source that it belongs to, as an index into the corpus's sources."""

    source: int
    unit: Unit


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizedSource:
    """One source that is completely in the store."""

    name: str
    parts: tuple[PartSummary, ...]
    """in the order of the units, without their files and examples: some hundred bytes each"""

    @property
    def tokens(self) -> int:
        """All tokens, EOS (and BOS) included."""
        return sum(part.tokens for part in self.parts)

    @property
    def documents(self) -> int:
        """Documents that are not empty."""
        return sum(part.documents for part in self.parts)

    @property
    def fingerprint(self) -> str:
        """Of the set of documents and their places, whatever the division into parts."""
        lanes = [sum(part.content[lane] for part in self.parts) % 2**64 for lane in (0, 1)]
        return f"{lanes[0]:016x}{lanes[1]:016x}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizedCorpus:
    """A corpus that is completely in the store."""

    tokenizer: TokenizerInfo
    backend: str
    sources: tuple[TokenizedSource, ...]
    skipped_examples: tuple[str, ...] = ()
    """sentences about the first skipped records"""

    @property
    def parts(self) -> tuple[PartSummary, ...]:
        """The parts of all sources, one source after the other."""
        return tuple(part for source in self.sources for part in source.parts)

    @property
    def part_names(self) -> tuple[str, ...]:
        """Names of the parts, in the order of the units."""
        return tuple(part.name for part in self.parts)

    @property
    def tokens(self) -> int:
        """All tokens, EOS (and BOS) included."""
        return sum(part.tokens for part in self.parts)

    @property
    def documents(self) -> int:
        """Documents that are not empty."""
        return sum(part.documents for part in self.parts)


def find_corpus(options: Options, progress: Progress) -> Corpus:
    """The files of the CORPUS arguments or of the sources, or the Python standard library if there are none.

    Raises:
        ConfigError: a source has weights and no path, or there are no files.
    """
    named = options.sources()
    if options.corpus or options.source:
        sources = tuple(_find_source(source, options, progress) for source in named)
        name = " ".join(map(printable, options.corpus or options.source))
        return Corpus(sources=sources, on_bad_record=options.on_bad_record, name=name)
    if options.weight:
        raise ConfigError(
            f"weight names {named[0].name!r}, but no source of that name is given; add --source {named[0].name}=PATH."
        )
    if options.tokenized is not None:
        raise ConfigError(f"tokenized is {options.tokenized!r}, and no corpus is given: name its files or folders.")
    inputs = find_standard_library()
    progress.say(
        f"No corpus given: taking the Python standard library of this machine "
        f"({len(inputs.files):,} files, {inputs.total_bytes / 1e6:.0f} MB)."
    )
    # A few of its files are test data in no valid encoding; Python itself refuses to read them.
    sources = (CorpusSource(name=CORPUS, inputs=inputs),)
    return Corpus(sources=sources, on_bad_record="skip", name="the Python standard library")


def _find_source(source: NamedSource, options: Options, progress: Progress) -> CorpusSource:
    what = "Source " + repr(source.name) if options.source else "Corpus"
    try:
        found = find_inputs(source.paths, endings(options.tokenized), options=options.storage_option)
        inputs = _without_output(found, options, progress)
    except ConfigError as error:
        if not options.source:
            raise
        raise ConfigError(f"{what}: {error}") from error
    if inputs.num_ignored:
        progress.say(f"{what}: {inputs.num_ignored:,} files with other endings are left out.")
    return CorpusSource(name=source.name, inputs=inputs)


def _without_output(inputs: Inputs, options: Options, progress: Progress) -> Inputs:
    """The files that are not our own: an output inside the corpus folder must not be read back.

    Raises:
        ConfigError: nothing else is there.
    """
    own = (options.out, options.store_address())
    folders = [Path(place).resolve() for place in own if not is_url(place)]
    prefixes = [place for place in own if is_url(place)]

    @cache
    def is_own(folder: str) -> bool:
        if is_url(folder):
            return any(is_below(folder, ours) for ours in prefixes)
        return any(Path(folder).resolve().is_relative_to(ours) for ours in folders)

    files = tuple(file for file in inputs.files if not is_own(os.path.dirname(file.path)))  # noqa: PTH120
    if not files:
        raise ConfigError(
            f"All {len(inputs.files):,} files of the corpus lie in the output {own[0]} or the store {own[1]}. "
            f"Give another --out and --store, or another corpus."
        )
    if len(files) < len(inputs.files):
        progress.say(f"Corpus: {len(inputs.files) - len(files):,} files of the output or the store are left out.")
    return replace(inputs, files=files)


def tokenize_corpus(
    options: Options, corpus: Corpus, workers: Workers, progress: Progress, tokenizer: TokenizerInfo | None = None
) -> TokenizedCorpus:
    """Encode every unit of the corpus that the store does not hold yet.

    Args:
        options: how to read it.
        corpus: its files.
        workers: who encodes.
        progress: where it is shown.
        tokenizer: that of a dataset which exists; None for the one that the options ask for.

    Raises:
        BadRecordError: a record cannot become a document and bad records are not skipped.
        BuildError: the corpus holds no text, or a file or the store cannot be read or written.
    """
    store = options.store_files()
    stored = options.stored()
    units = corpus.units(options.unit_bytes, stored)
    if tokenizer is None:
        name, tokenizer = _tokenizer(options, corpus, units, workers, progress)
    else:
        name, tokenizer = _kept(store, tokenizer)
    plain = tuple(one.unit for one in units)
    job = EncodeJob(
        store=store,
        source=CORPUS,
        text_key=options.text_key,
        on_bad_record=corpus.on_bad_record,
        tokenizer=tokenizer,
        tokenizer_name=name,
        backend="",
        stored=stored,
    )
    if stored is not None:
        backend = _check_stored(options, stored, tokenizer, plain, progress)
    else:
        backend = _backend(options, job, plain, workers, progress)
    job = replace(job, backend=backend)
    jobs = tuple(replace(job, source=source.name) for source in corpus.sources)
    parts: dict[int, tuple[PartSummary, ...]] = {}
    examples: list[tuple[int, tuple[str, ...]]] = []
    checked = CheckedParts(store)
    tasks = []
    for one in units:
        name = part_name(jobs[one.source], one.unit)
        known = checked.leading(numbered(name, n) for n in itertools.count())
        tasks.append((one.source, one.unit, known))
    try:
        with progress.stage("encode", total=_total_bytes(units), unit="B") as advance:
            for number, (of_unit, files, sentences) in workers.run(ensure_parts, (jobs,), tasks):
                parts[number] = of_unit
                for part, facts_of_part in zip(of_unit, files, strict=True):
                    checked.note(part.name, facts_of_part)
                examples = _first_examples([*examples, (number, sentences)])
                advance(units[number].unit.num_bytes)
    finally:
        checked.write()
    of_source: list[list[PartSummary]] = [[] for _ in corpus.sources]
    for number, one in enumerate(units):
        of_source[one.source] += parts[number]
    result = TokenizedCorpus(
        tokenizer=tokenizer,
        backend=backend,
        sources=tuple(
            TokenizedSource(name=source.name, parts=tuple(found))
            for source, found in zip(corpus.sources, of_source, strict=True)
        ),
        skipped_examples=tuple(sentence for _, sentences in examples for sentence in sentences)[:MAX_EXAMPLES],
    )
    if result.documents == 0:
        raise BuildError(f"The corpus ({corpus.name}) holds no text: {len(units):,} units without a document.")
    _note(options, corpus, result)
    return result


def _note(options: Options, corpus: Corpus, result: TokenizedCorpus) -> None:
    """Remember in the store what `plan --store` counts by."""
    tokenizer = result.tokenizer
    facts = {
        "name": corpus.name,
        "tokenizer": options.tokenizer,
        "tokenizer_sha256": tokenizer.sha256,
        "dtype": tokenizer.dtype,
        "eos_id": tokenizer.eos_id,
        "bos": options.bos,
        "documents": result.documents,
        "tokens": result.tokens,
        "parts": list(result.part_names),
    }
    if options.source:
        facts["sources"] = [
            {"name": one.name, "tokens": one.tokens, "documents": one.documents, "parts": [p.name for p in one.parts]}
            for one in result.sources
        ]
    what = [corpus.name, options.tokenizer, tokenizer.eos_id, tokenizer.bos_id, options.text_key]
    stored = options.stored()
    what += [] if stored is None else [stored.format, stored.dtype, stored.key]
    note_corpus(options.store_files(), hashlib.sha256(orjson.dumps(what)).hexdigest()[:32], facts)


def _total_bytes(units: Sequence[SourceUnit]) -> int:
    return sum(one.unit.num_bytes for one in units)


def _backend(options: Options, job: EncodeJob, units: tuple[Unit, ...], workers: Workers, progress: Progress) -> str:
    """The backend to encode with. Workers load it, and compare the sample, before they encode.

    Where the sample of just these units was found equal before, by the same versions, nothing is loaded: to cut a store
    anew takes no encoder.
    """
    wanted = None if options.backend == "auto" else options.backend
    what = [circumstances(job.tokenizer), [part_name(job, unit) for unit in units]]
    checked = f"corpora/{hashlib.sha256(orjson.dumps(what)).hexdigest()[:32]}.checked"
    if wanted != "tokenizers" and job.store.facts(checked) is not None:
        return "fastokens"
    workers.prepare(open_encoder, job.tokenizer.path, wanted or "fastokens")

    def compare(path: str, sample: list[Expected]) -> str | None:
        name = _keep_sample(job.store, sample)
        tasks = [(number,) for number in range(len(sample))]
        found = dict(workers.run(sample_difference_at, (job.store, job.tokenizer_name, name), tasks))
        job.store.remove(name)
        return next((found[number] for number in sorted(found) if found[number] is not None), None)

    sample = _sample(units, options.text_key)
    backend = choose_backend(
        job.tokenizer, sample, warn=progress.say, wanted=wanted, compare=compare, called=options.tokenizer
    )
    if backend == "fastokens":
        write_bytes(job.store, checked, b"")
    return backend


def _keep_sample(store: Files, sample: list[Expected]) -> str:
    """A file of the store with texts and their ids: workers may be on other machines, and are sent names only."""
    name = f"aside/sample-{secrets.token_hex(8)}.json"
    write_bytes(store, name, orjson.dumps([[each.named, each.ids.tolist(), each.lengths.tolist()] for each in sample]))
    return name


def sample_difference_at(store: Files, tokenizer_name: str, sample_name: str, number: int) -> str | None:
    """`sample_difference` with the tokenizer of a store and one of the samples in a file there.

    Raises:
        BuildError: the file is gone.
    """
    kept = store.read(sample_name)
    if kept is None:
        raise BuildError(f"{store.where}/{sample_name} vanished while it was needed. Run the same command again.")
    named, ids, lengths = orjson.loads(kept)[number]
    expected = Expected(named=tuple(map(tuple, named)), ids=np.array(ids, "<u4"), lengths=np.array(lengths, np.int64))
    return sample_difference(str(store.local(tokenizer_name)), expected)


def _check_stored(
    options: Options, stored: Stored, tokenizer: TokenizerInfo, units: tuple[Unit, ...], progress: Progress
) -> str:
    """Refuse ids that are of another tokenizer, dtype or EOS; what then stands for the encoder."""
    check_stored_corpus(
        units,
        stored,
        tokenizer,
        tokenizer_name=options.tokenizer,
        go_on=options.tokenizer_check == "warn",
        say=progress.say,
    )
    return STORED_IDS.split()[0]


def ensure_parts(
    jobs: tuple[EncodeJob, ...], source: int, unit: Unit, checked: tuple[PartFacts, ...]
) -> tuple[tuple[PartSummary, ...], tuple[PartFacts | None, ...], tuple[str, ...]]:
    """The parts of a unit, from the store if a backend that is trusted now wrote them, else encoded; their files; and
    sentences about the first records that were skipped.

    The summaries come without what may be large: a worker that is killed while it sends a large result blocks the
    others, and the parent holds one for every part of the corpus.

    Args:
        jobs: of each source of the corpus.
        source: the one that the unit belongs to.
        unit: what to read.
        checked: files of the unit's parts when an earlier run compared their digests.
    """
    job = jobs[source]
    found, files = usable_parts(job.store, part_name(job, unit), token_itemsize(job.tokenizer.dtype), checked)
    if not found or any(part.backend.split()[0] not in ("tokenizers", job.backend) for part in found):
        found = encode_unit(job, unit)
        files = parts_facts(job.store, [part.name for part in found])
    sentences = tuple(sentence for part in found for sentence in part.skipped_examples)[:MAX_EXAMPLES]
    return tuple(replace(part, files=(), skipped_examples=()) for part in found), files, sentences


def _first_examples(examples: list[tuple[int, tuple[str, ...]]]) -> list[tuple[int, tuple[str, ...]]]:
    """Of (unit, sentences) those of the first units, as many as hold `MAX_EXAMPLES`."""
    kept, count = [], 0
    for number, sentences in sorted(examples):
        if sentences and count < MAX_EXAMPLES:
            kept.append((number, sentences))
            count += len(sentences)
    return kept


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
    name = f"aside/sample-{secrets.token_hex(8)}.json"
    write_bytes(store, name, orjson.dumps([[key.hex(), text] for key, text in _smallest(kept)]))
    return name


def _take_sample(store: Files, name: str) -> list[tuple[bytes, str]]:
    sample = [(bytes.fromhex(key), text) for key, text in orjson.loads(store.read(name) or b"[]")]
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


def _tokenizer(
    options: Options, corpus: Corpus, units: tuple[SourceUnit, ...], workers: Workers, progress: Progress
) -> tuple[str, TokenizerInfo]:
    """The tokenizer, as a file of the store: what happens to the original file later does not matter."""
    store = options.store_files()
    kind, value = parse_tokenizer_spec(options.tokenizer)
    if kind == "file":
        return _kept(store, load_tokenizer(str(value), eos=options.eos, bos=options.bos))
    if kind == "bytes":
        name = _stored_tokenizer("bytes")
        text = byte_tokenizer
    else:
        what = [ALGORITHM, value, corpus.stamp, options.text_key, corpus.on_bad_record]
        name = _stored_tokenizer(f"trained-{hashlib.sha256(orjson.dumps(what)).hexdigest()[:32]}")

        def text() -> str:
            return _train(int(value or 0), options, corpus, units, workers, progress)

    if store.facts(name) is None:
        write_bytes(store, name, text().encode())
    return name, load_tokenizer(str(store.local(name)), eos=options.eos, bos=options.bos)


def _kept(store: Files, info: TokenizerInfo) -> tuple[str, TokenizerInfo]:
    """A copy of the tokenizer in the store."""
    name = _stored_tokenizer(info.sha256)
    if store.facts(name) is None:
        write_bytes(store, name, Path(info.path).read_bytes())
    return name, replace(info, path=str(store.local(name)))


def _stored_tokenizer(name: str) -> str:
    return f"tokenizers/{name}.json"


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
    total = _total_bytes(units)
    share = min(4 * TRAINING_BYTES / max(total, 1), 1.0)
    cutoffs = [int(share * 2**64).to_bytes(8, "big")] if share < 1 else []
    documents: list[tuple[bytes, str]] = []
    for below in (*cutoffs, EVERY_KEY):
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


def _sample(units: Sequence[Unit], text_key: str) -> Iterator[str]:
    """The beginning of evenly spaced units, for the backend check."""
    for unit in units[:: -(-len(units) // SAMPLED_UNITS) or 1]:
        left = SAMPLED_CHARS
        for record in islice(read_unit(unit, text_key), 1000):
            if isinstance(record, Record):
                yield record.text[:left]
                left -= len(record.text)
                if left <= 0:
                    break
