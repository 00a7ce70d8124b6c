"""The plan of a tokenized corpus: what is held out, the stream of the rest, and the plan that fits it.

In:  options, and the parts of the token store that hold the corpus.   Out: `CorpusPlan`.
Guarantee: reads indexes, never tokens. In document mode the documents decide how many rows of each length there are, so
they are counted here, once.

    8.6 M tokens, nothing held out, segment mode      stream of 1 partition, 616 steps
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from curriculum.errors import PlanError
from curriculum.mixture import Mixture
from curriculum.plan import Plan
from curriculum.shard_format import token_itemsize
from pipeline.document_rows import DocumentRows, count_document_rows
from pipeline.engines.workers import Workers
from pipeline.fill import corpus_fill
from pipeline.holdout import HeldOut, hold_out
from pipeline.mixed_windows import number_streams, rows_by_source
from pipeline.mixture_plan import SourceSize, plan_mixture
from pipeline.options import Options
from pipeline.part_index import measure_below
from pipeline.progress import Progress
from pipeline.requested_plan import compile_requested, curriculum_of, pacing_of
from pipeline.source_use import MixtureUse
from pipeline.sources import CORPUS
from pipeline.stored_documents import PartFiles
from pipeline.stream import NumberedStream, StreamSpec, count_partitions, lay_out_stream
from pipeline.windows import consumed_tokens, window_size

MAX_PIECES = 1 << 22
"""Partitions times epochs of document mode: 64 T tokens, and an object in memory for each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredSource:
    """One source in the token store."""

    name: str
    parts: tuple[str, ...]
    tokens: int
    documents: int
    merged: PartFiles | None = None
    """larger parts to read in their place"""

    @property
    def files(self) -> PartFiles:
        """What is read, and which keys it holds all of."""
        return self.merged or PartFiles.of_parts(self.parts)


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredCorpus:
    """A corpus in the token store."""

    sources: tuple[StoredSource, ...]
    dtype: str

    @property
    def parts(self) -> tuple[str, ...]:
        """Of all sources, one source after the other."""
        return tuple(part for source in self.sources for part in source.parts)

    @property
    def tokens(self) -> int:
        """Of all sources."""
        return sum(source.tokens for source in self.sources)

    @property
    def merged(self) -> PartFiles | None:
        """Larger parts of all sources to read in place of theirs; None if there are none."""
        if not any(source.merged for source in self.sources):
            return None
        files = [source.files for source in self.sources]
        return PartFiles(
            names=tuple(name for one in files for name in one.names),
            ranges=tuple(keys for one in files for keys in one.ranges),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class MixedSource:
    """One source of a mixture, less what is held out."""

    size: SourceSize
    stream: StreamSpec
    documents: int
    """training documents of one epoch"""
    held_out_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusMixture:
    """The sources of a mixture and what each phase takes of them."""

    use: MixtureUse
    sources: tuple[MixedSource, ...]

    @property
    def taken(self) -> tuple[tuple[int, int], ...]:
        """(training tokens, tokens used up) of every source."""
        sizes = [source.size.num_tokens for source in self.sources]
        return tuple(zip(sizes, self.use.consumed, strict=True))

    def streams(self) -> tuple[NumberedStream, ...]:
        """The streams of all sources, numbered end to end."""
        sizes, documents = [s.size.num_tokens for s in self.sources], [s.documents for s in self.sources]
        places = number_streams(self.use.consumed, sizes, documents)
        return tuple(
            NumberedStream(spec=source.stream, offset=offset, first_document=document)
            for source, (offset, document) in zip(self.sources, places, strict=True)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusPlan:
    """A plan, and the stream that it cuts."""

    plan: Plan
    stream: StreamSpec
    held_out: HeldOut
    corpus_tokens: int
    """training tokens of one epoch"""
    document_rows: DocumentRows | None
    """document mode only"""
    fill_by_length: Mapping[int, int] | None
    """best-fit mode: the same for every length of the schedule, whether the plan has it or not"""
    fill: tuple[int, ...]
    """best-fit mode: how full the rows of each phase are to get, in parts per million; else ()"""
    mixed: CorpusMixture | None
    """of several sources"""

    @property
    def consumed_tokens(self) -> int:
        """Stream tokens that all steps use up."""
        return consumed_tokens(self.plan, self.fill)


def plan_corpus(options: Options, corpus: StoredCorpus, workers: Workers, progress: Progress) -> CorpusPlan:
    """Compile the plan for a corpus.

    Raises:
        PlanError: it cannot work with so many tokens, or such documents.
    """
    held_out = hold_out(
        options.store_files(), corpus.parts, num_tokens=options.validation_tokens, frac=options.validation_share()
    )
    corpus_tokens = corpus.tokens - held_out.tokens
    stream = StreamSpec(
        store=options.store_files(),
        parts=corpus.parts,
        dtype=corpus.dtype,
        seed=options.seed,
        held_out_below=held_out.below,
        num_partitions=count_partitions(corpus_tokens),
        merged=corpus.merged,
        source=corpus.sources[0].name if len(corpus.sources) == 1 else CORPUS,
    )
    document_rows, fill, mixed = None, None, None
    if len(corpus.sources) > 1:
        plan, mixed = _plan_mixture(options, corpus, stream, progress)
    elif options.mode == "document":
        plan, document_rows = _plan_documents(options, stream, corpus_tokens, workers, progress)
    else:
        fill = corpus_fill(stream, pacing_of(options).lengths) if options.mode == "best-fit" else None
        plan = compile_requested(options, corpus_tokens, fill=fill)
    return CorpusPlan(
        plan=plan,
        stream=stream,
        held_out=held_out,
        corpus_tokens=corpus_tokens,
        document_rows=document_rows,
        fill_by_length=fill,
        fill=tuple(fill[phase.seq_len] for phase in plan.phases) if fill else (),
        mixed=mixed,
    )


def _plan_mixture(
    options: Options, corpus: StoredCorpus, stream: StreamSpec, progress: Progress
) -> tuple[Plan, CorpusMixture]:
    """Measure each source without its held-out documents, and plan by all of them."""
    sources = []
    for source, named in zip(corpus.sources, options.sources(), strict=True):
        documents, held_out_tokens = measure_below(stream.store, source.parts, stream.held_out_below)
        num_tokens = source.tokens - held_out_tokens
        sources.append(
            MixedSource(
                size=SourceSize(name=source.name, num_tokens=num_tokens, epochs=named.epochs),
                stream=replace(
                    stream,
                    parts=source.parts,
                    merged=source.merged,
                    num_partitions=count_partitions(num_tokens),
                    source=source.name,
                ),
                documents=source.documents - documents,
                held_out_tokens=held_out_tokens,
            )
        )
    itemsize = token_itemsize(corpus.dtype)
    plan, mixture = plan_mixture(options, [source.size for source in sources], itemsize, progress.say)
    use = mixture_use(options, plan, mixture, itemsize, tuple(source.size.num_tokens for source in sources))
    return plan, CorpusMixture(use=use, sources=tuple(sources))


def mixture_use(
    options: Options, plan: Plan, mixture: Mixture, itemsize: int, sizes: tuple[int, ...] | None
) -> MixtureUse:
    """What a plan takes of every source, by the windows and shards that a build of these options writes."""
    window_tokens = window_size(plan, options.shuffle_window)
    rows = rows_by_source(
        plan, mixture, window_tokens=window_tokens, shard_bytes=options.shard_bytes, itemsize=itemsize
    )
    return MixtureUse(plan=plan, mixture=mixture, names=options.source_names, rows=rows, sizes=sizes)


def _plan_documents(
    options: Options, stream: StreamSpec, corpus_tokens: int, workers: Workers, progress: Progress
) -> tuple[Plan, DocumentRows]:
    """Count rows of as many epochs as the budget needs, and plan by them."""
    curriculum = curriculum_of(options)
    assert curriculum is not None
    epochs = options.epochs if options.steps is None and options.tokens is None else 1
    while True:
        if epochs * stream.num_partitions > MAX_PIECES:
            raise PlanError(f"epochs {options.epochs} of this corpus are too many to plan; use fewer, or fewer steps.")
        pieces = lay_out_stream(stream, epochs * corpus_tokens)
        rows = count_document_rows(stream, pieces, curriculum.lengths, workers, progress)
        try:
            return compile_requested(options, corpus_tokens, rows.rows_by_length), rows
        except PlanError:
            if epochs == options.epochs:
                raise
        epochs = min(2 * epochs, options.epochs)
