"""The plan of a tokenized corpus: what is held out, the stream of the rest, and the plan that fits it.

In:  options, and the parts of the token store that hold the corpus.   Out: `CorpusPlan`.
Guarantee: reads indexes, never tokens. In document mode the documents decide how many rows of each length there are, so
they are counted here, once.

    8.6 M tokens, nothing held out, segment mode      stream of 1 partition, 616 steps
"""

from __future__ import annotations

from dataclasses import dataclass

from curriculum.plan import Plan
from pipeline.document_rows import DocumentRows, count_document_rows
from pipeline.engines.local import Workers
from pipeline.holdout import HeldOut, hold_out
from pipeline.options import Options
from pipeline.progress import Progress
from pipeline.stream import StreamSpec, count_partitions, lay_out_stream


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredCorpus:
    """A corpus in the token store."""

    parts: tuple[str, ...]
    tokens: int
    dtype: str


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


def plan_corpus(options: Options, corpus: StoredCorpus, workers: Workers, progress: Progress) -> CorpusPlan:
    """Compile the plan for a corpus.

    Raises:
        PlanError: it cannot work with so many tokens, or such documents.
    """
    held_out = hold_out(
        options.store_folder(), corpus.parts, num_tokens=options.validation_tokens, frac=options.validation_share()
    )
    corpus_tokens = corpus.tokens - held_out.tokens
    stream = StreamSpec(
        store=str(options.store_folder()),
        parts=corpus.parts,
        dtype=corpus.dtype,
        seed=options.seed,
        held_out_below=held_out.below,
        num_partitions=count_partitions(corpus_tokens),
    )
    curriculum, document_rows = options.curriculum(), None
    if curriculum is not None:
        pieces = lay_out_stream(stream, options.epochs * corpus_tokens)
        document_rows = count_document_rows(stream, pieces, curriculum.lengths, workers, progress)
    rows_by_length = document_rows.rows_by_length if document_rows else None
    return CorpusPlan(
        plan=options.compile_plan(corpus_tokens, rows_by_length),
        stream=stream,
        held_out=held_out,
        corpus_tokens=corpus_tokens,
        document_rows=document_rows,
    )
