"""The plan of a tokenized corpus: what is held out, the stream of the rest, and the plan that fits it.

In:  options, and the parts of the token store that hold the corpus.   Out: `CorpusPlan`.
Guarantee: reads indexes, never tokens. In document mode the documents decide how many rows of each length there are, so
they are counted here, once.

    8.6 M tokens, nothing held out, segment mode      stream of 1 partition, 616 steps
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from curriculum.errors import PlanError
from curriculum.plan import Plan
from pipeline.document_rows import DocumentRows, count_document_rows
from pipeline.engines.workers import Workers
from pipeline.fill import corpus_fill
from pipeline.holdout import HeldOut, hold_out
from pipeline.options import Options
from pipeline.progress import Progress
from pipeline.stream import MergedParts, StreamSpec, count_partitions, lay_out_stream
from pipeline.windows import consumed_tokens

MAX_PIECES = 1 << 22
"""Partitions times epochs of document mode: 64 T tokens, and an object in memory for each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredCorpus:
    """A corpus in the token store."""

    parts: tuple[str, ...]
    tokens: int
    dtype: str
    merged: MergedParts | None = None
    """larger parts to read in their place"""


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
    )
    document_rows, fill = None, None
    if options.mode == "document":
        plan, document_rows = _plan_documents(options, stream, corpus_tokens, workers, progress)
    else:
        fill = corpus_fill(stream, options.pacing().lengths) if options.mode == "best-fit" else None
        plan = options.compile_plan(corpus_tokens, fill=fill)
    return CorpusPlan(
        plan=plan,
        stream=stream,
        held_out=held_out,
        corpus_tokens=corpus_tokens,
        document_rows=document_rows,
        fill_by_length=fill,
        fill=tuple(fill[phase.seq_len] for phase in plan.phases) if fill else (),
    )


def _plan_documents(
    options: Options, stream: StreamSpec, corpus_tokens: int, workers: Workers, progress: Progress
) -> tuple[Plan, DocumentRows]:
    """Count rows of as many epochs as the budget needs, and plan by them."""
    curriculum = options.curriculum()
    assert curriculum is not None
    epochs = options.epochs if options.steps is None and options.tokens is None else 1
    while True:
        if epochs * stream.num_partitions > MAX_PIECES:
            raise PlanError(f"epochs {options.epochs} of this corpus are too many to plan; use fewer, or fewer steps.")
        pieces = lay_out_stream(stream, epochs * corpus_tokens)
        rows = count_document_rows(stream, pieces, curriculum.lengths, workers, progress)
        try:
            return options.compile_plan(corpus_tokens, rows.rows_by_length), rows
        except PlanError:
            if epochs == options.epochs:
                raise
        epochs = min(2 * epochs, options.epochs)
