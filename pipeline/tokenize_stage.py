"""Tokenize a corpus: every unit that the store does not hold yet, by all workers.

In:  options, the files of a corpus, and workers.   Out: `TokenizedCorpus`, all of whose parts are in the store.
Guarantee: a unit that is in the store already is not encoded again; one more file costs only that file. Which tokenizer
backend did the work does not change a byte.

    a.txt b.txt in the store, c.txt is new      ->  one unit is encoded, three are counted
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace

import orjson

from curriculum.errors import BuildError
from curriculum.shard_format import token_itemsize
from pipeline.checked_parts import CheckedParts, PartFacts
from pipeline.corpus import Corpus, SourceUnit, total_bytes
from pipeline.corpus_backend import check_stored, corpus_backend
from pipeline.corpus_tokenizer import corpus_tokenizer, keep_tokenizer
from pipeline.encode import MAX_EXAMPLES, EncodeJob, encode_unit, part_name
from pipeline.engines.workers import Workers
from pipeline.options import Options
from pipeline.part_index import PartSummary
from pipeline.progress import Progress
from pipeline.sources import CORPUS
from pipeline.store import note_corpus
from pipeline.store_names import numbered
from pipeline.tokenized_corpus import TokenizedCorpus, TokenizedSource
from pipeline.tokenizer import TokenizerInfo
from pipeline.units import Unit
from pipeline.usable_parts import parts_facts, usable_parts


def tokenize_corpus(
    options: Options,
    corpus: Corpus,
    workers: Workers,
    progress: Progress,
    tokenizer: TokenizerInfo | None = None,
    *,
    units: tuple[SourceUnit, ...] | None = None,
) -> TokenizedCorpus:
    """Encode every unit of the corpus that the store does not hold yet.

    Args:
        options: how to read it.
        corpus: its files.
        workers: who encodes.
        progress: where it is shown.
        tokenizer: that of a dataset which exists; None for the one that the options ask for.
        units: those of the corpus, if they are known already.

    Raises:
        BadRecordError: a record cannot become a document and bad records are not skipped.
        BuildError: the corpus holds no text, or a file or the store cannot be read or written.
    """
    units = corpus.units(options.unit_bytes, options.stored()) if units is None else units
    jobs = _jobs(options, corpus, units, workers, progress, tokenizer)
    parts, skipped_examples = _encode(jobs, units, workers, progress)
    of_source: list[list[PartSummary]] = [[] for _ in corpus.sources]
    for number, one in enumerate(units):
        of_source[one.source] += parts[number]
    result = TokenizedCorpus(
        tokenizer=jobs[0].tokenizer,
        backend=jobs[0].backend,
        sources=tuple(
            TokenizedSource(name=source.name, parts=tuple(found))
            for source, found in zip(corpus.sources, of_source, strict=True)
        ),
        skipped_examples=skipped_examples,
    )
    if result.documents == 0:
        raise BuildError(f"The corpus ({corpus.name}) holds no text: {len(units):,} units without a document.")
    if tokenizer is None:  # text that is added to a dataset is no corpus to plan: it has no steps of its own
        _remember_corpus(options, corpus, result)
    return result


def _jobs(
    options: Options,
    corpus: Corpus,
    units: tuple[SourceUnit, ...],
    workers: Workers,
    progress: Progress,
    tokenizer: TokenizerInfo | None,
) -> tuple[EncodeJob, ...]:
    """What the units of each source are encoded with: tokenizer and backend are those of the whole corpus."""
    store, stored = options.store_files(), options.stored()
    if tokenizer is None:
        tokenizer_name, tokenizer = corpus_tokenizer(options, corpus, units, workers, progress)
    else:
        tokenizer_name, tokenizer = keep_tokenizer(store, tokenizer)
    plain = tuple(one.unit for one in units)
    job = EncodeJob(
        store=store,
        source=CORPUS,
        text_key=options.text_key,
        on_bad_record=corpus.on_bad_record,
        tokenizer=tokenizer,
        tokenizer_name=tokenizer_name,
        backend="",
        stored=stored,
    )
    if stored is not None:
        backend = check_stored(options, stored, tokenizer, plain, progress)
    else:
        backend = corpus_backend(options, job, plain, workers, progress)
    return tuple(replace(job, source=source.name, backend=backend) for source in corpus.sources)


def _encode(
    jobs: tuple[EncodeJob, ...], units: tuple[SourceUnit, ...], workers: Workers, progress: Progress
) -> tuple[dict[int, tuple[PartSummary, ...]], tuple[str, ...]]:
    """The parts of each unit, by its number; and sentences about the first records that were skipped."""
    parts: dict[int, tuple[PartSummary, ...]] = {}
    examples: list[tuple[int, tuple[str, ...]]] = []
    checked = CheckedParts(jobs[0].store)
    tasks = []
    for one in units:
        unit_name = part_name(jobs[one.source], one.unit)
        known = checked.leading(numbered(unit_name, n) for n in itertools.count())
        tasks.append((one.source, one.unit, known))
    try:
        with progress.stage("encode", total=total_bytes(units), unit="B") as advance:
            for number, (of_unit, files, sentences) in workers.run(ensure_parts, (jobs,), tasks):
                parts[number] = of_unit
                for part, facts_of_part in zip(of_unit, files, strict=True):
                    checked.note(part.name, facts_of_part)
                examples = _first_examples([*examples, (number, sentences)])
                advance(units[number].unit.num_bytes)
    finally:
        checked.write()
    return parts, tuple(sentence for _, sentences in examples for sentence in sentences)[:MAX_EXAMPLES]


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


def _remember_corpus(options: Options, corpus: Corpus, result: TokenizedCorpus) -> None:
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
