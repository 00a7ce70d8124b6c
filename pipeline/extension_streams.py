"""What the new steps of an extension are cut from: new text, or what the dataset was cut from itself.

In:  a dataset, its build log, the token store; the files of a new source.   Out: `Ready`.
Guarantee: new text gets the dataset's own ids and a place behind all that is there; a stream that the dataset was cut
from is the same stream again, checked against its counts. Nothing of the dataset is touched.

    a mixture of a and b, then `new` was added      its streams a, b and an empty one; or that of `new` alone
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from curriculum.errors import ConfigError
from curriculum.manifest import Manifest
from curriculum.shard_format import token_itemsize
from pipeline.built_streams import built_stream, require_same_tokens, which_store
from pipeline.checked_parts import CheckedParts, PartFacts
from pipeline.corpus import Corpus
from pipeline.engines.workers import Workers
from pipeline.files.contract import Files
from pipeline.fill import corpus_fill
from pipeline.holdout import HeldOut
from pipeline.longer_plan import Longer, going_on
from pipeline.merge import merge_parts
from pipeline.new_source import add_source, built_tokenizer
from pipeline.options import Options
from pipeline.part_index import PartSummary, measure_below
from pipeline.progress import Progress
from pipeline.stream import NumberedStream, StreamSpec, partition_totals
from pipeline.tokenize_stage import tokenize_corpus
from pipeline.tokenized_corpus import TokenizedSource
from pipeline.usable_parts import parts_facts, sound_part


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """What the new steps are cut from."""

    longer: Longer
    streams: tuple[NumberedStream, ...]
    """of every source, if the steps are of several; else of their source"""
    added: TokenizedSource | None


def with_new_text(
    root: Files,
    manifest: Manifest,
    log: dict[str, Any],
    corpus: Corpus,
    options: Options,
    workers: Workers,
    progress: Progress,
) -> Ready:
    """The new source, tokenized like the rest of the dataset and placed behind it."""
    below, built_from_ids = int(log["held_out_below"]), log["request"].get("tokenized") is not None
    if below and built_from_ids != (options.tokenized is not None):
        progress.say(
            "The dataset has held-out documents, chosen by a hash of what they were read from, texts or ids; this "
            "source is read from the other, so a text that it shares with them is not recognized."
        )
    tokenized = tokenize_corpus(options, corpus, workers, progress, built_tokenizer(root, manifest))
    (source,) = tokenized.sources
    store, parts = options.store_files(), tuple(part.name for part in source.parts)
    held_out = HeldOut(below=below, tokens=measure_below(store, parts, below)[1])
    merged = merge_parts(store, source.parts, manifest.dtype, workers, progress)
    new = add_source(manifest, source, store=store, held_out=held_out, merged=merged)
    fill, length = 0, manifest.plan.max_seq_len
    if manifest.build.fill:
        fill = corpus_fill(new.stream.spec, (length,))[length]
    longer = Longer(manifest=new.manifest, source=len(manifest.sources), alike=(), new_fill=fill)
    return Ready(longer=longer, streams=(new.stream,), added=source)


def with_known(
    root: Files,
    manifest: Manifest,
    log: dict[str, Any],
    store: Files,
    number: int | None,
    workers: Workers,
    progress: Progress,
) -> Ready:
    """What the new steps go on in: the streams that the dataset was cut from, checked against its counts."""
    numbers = range(manifest.num_built_sources) if number is None else (number,)
    specs = [_checked_stream(root, manifest, k, log, store, workers, progress) for k in numbers]
    if number is None:  # sources that were added give no row
        rest = manifest.sources[len(specs) :]
        specs += [replace(specs[0], parts=(), merged=None, source=source.name) for source in rest]
    sources = manifest.sources if number is None else (manifest.sources[number],)
    streams = tuple(
        NumberedStream(spec=spec, offset=source.offset, first_document=source.first_document or 0)
        for spec, source in zip(specs, sources, strict=True)
    )
    return Ready(longer=going_on(manifest, number), streams=streams, added=None)


def _checked_stream(
    root: Files,
    manifest: Manifest,
    number: int,
    log: dict[str, Any],
    store: Files,
    workers: Workers,
    progress: Progress,
) -> StreamSpec:
    """The stream of a source, read from larger parts where a build would."""
    try:
        spec = built_stream(root, manifest, number, log, store)
        parts = _sound_parts(spec, workers, progress)
        spec = replace(spec, merged=merge_parts(store, parts, manifest.dtype, workers, progress))
        require_same_tokens(int(partition_totals(spec)[1].sum()), manifest, number)
    except ConfigError as error:
        raise ConfigError(
            f"{store.where}: is not the token store of {root.where}: {error} Give the store "
            f"{which_store(manifest, number)} as --store, or build the dataset anew with more steps."
        ) from error
    return spec


def _sound_parts(spec: StreamSpec, workers: Workers, progress: Progress) -> tuple[PartSummary, ...]:
    """The parts of a stream, their digests compared unless that was done before.

    Raises:
        ConfigError: one is damaged; its text is not at hand to encode it anew.
    """
    store, checked = spec.store, CheckedParts(spec.store)
    tasks = [(name, *checked.leading([name])) for name in spec.parts]
    parts: dict[int, PartSummary] = {}
    try:
        with progress.stage("check", total=len(tasks), unit=" parts") as advance:
            for number, (part, facts) in workers.run(check_part, (store, token_itemsize(spec.dtype)), tasks):
                if part is None:
                    raise ConfigError(f"its part {spec.parts[number]} was changed since it was written.")
                checked.note(part.name, facts)
                parts[number] = part
                advance(1)
    finally:
        checked.write()
    return tuple(parts[number] for number in range(len(tasks)))


def check_part(
    store: Files, itemsize: int, name: str, checked: PartFacts | None = None
) -> tuple[PartSummary | None, PartFacts | None]:
    """A part if it is sound, without what may be large; and its files, as they were before they were read."""
    (facts,) = parts_facts(store, [name])
    part = sound_part(store, name, itemsize, checked)
    return part and replace(part, files=(), skipped_examples=()), facts
