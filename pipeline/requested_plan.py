"""The plan that options ask for: schedule, batch and budget with their defaults, and the plan compiled of them.

In:  options, and what is known of the corpus.   Out: pacing, length of the warmup, batch, budget; the plan.
Guarantee: pure, nothing is read; what cannot work whatever the corpus is can be refused before any data is touched.

    warmup_of(Options(frac=Decimal("0.3")))         Fraction(3, 10)
    curriculum_of(Options(mode="document"))         DocumentCurriculum(name="grow-p2", start_length=8, ...)
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from curriculum.document_plan import DocumentCurriculum, check_document_request, compile_document_plan
from curriculum.errors import PlanError
from curriculum.plan import Batch, Budget, Plan, check_request, compile_plan
from curriculum.request import Request
from curriculum.schedule import DOCUMENT_CURRICULA, ExplicitPhases, Pacing, TokenWarmup, parse_frac, parse_phases
from pipeline.option_fields import (
    DEFAULT_BATCH_ROWS,
    DEFAULT_DEGREE,
    DEFAULT_FRAC,
    DEFAULT_MAX_LENGTH,
    DEFAULT_SHAPES_BY,
    DEFAULT_STAGES,
    DEFAULT_START_LENGTH,
    OptionFields,
)


def compile_requested(
    options: OptionFields,
    corpus_tokens: int | None,
    rows_by_length: Mapping[int, int] | None = None,
    fill: Mapping[int, int] | None = None,
) -> Plan:
    """The plan for a corpus of that many training tokens.

    Args:
        options: what is asked for.
        corpus_tokens: training tokens of one epoch, None if unknown.
        rows_by_length: rows that the documents give to each length, which document mode is planned by.
        fill: how full rows of each length get, which best-fit mode is planned by.

    Raises:
        PlanError: it cannot work.
    """
    curriculum = curriculum_of(options)
    if curriculum is not None:
        return compile_document_plan(
            curriculum=curriculum,
            rows_by_length=rows_by_length or {},
            batch=batch_of(options),
            steps=options.steps,
            tokens=options.tokens,
        )
    return compile_plan(**_asked(options, corpus_tokens, fill))


def check_requested(options: OptionFields) -> None:
    """Refuse what cannot work whatever the corpus is."""
    curriculum = curriculum_of(options)
    if curriculum is not None:
        check_document_request(curriculum, batch_of(options), steps=options.steps, tokens=options.tokens)
    else:
        check_request(**_asked(options, None))
    options.validation_share()


def request_of(options: OptionFields, corpus_tokens: int | None) -> Request:
    """What `compile_plan` solves, in all modes but document."""
    return Request(**_asked(options, corpus_tokens))


def _asked(options: OptionFields, corpus_tokens: int | None, fill: Mapping[int, int] | None = None) -> dict[str, Any]:
    return {
        "pacing": pacing_of(options),
        "warmup": warmup_of(options),
        "batch": batch_of(options),
        "budget": budget_of(options, corpus_tokens, fill),
        "mode": options.mode,
        "max_shapes": options.max_shapes,
        "shapes_by": options.shapes_by or DEFAULT_SHAPES_BY,
    }


def curriculum_of(options: OptionFields) -> DocumentCurriculum | None:
    """The buckets and their order in document mode; None in the other modes."""
    if options.mode != "document":
        return None
    if options.schedule_name not in DOCUMENT_CURRICULA:
        raise PlanError(
            f"schedule is {options.schedule_name!r} in mode 'document'; choose one of {', '.join(DOCUMENT_CURRICULA)}."
        )
    return DocumentCurriculum(
        name=options.schedule_name,
        start_length=DEFAULT_START_LENGTH if options.start_length is None else options.start_length,
        max_length=DEFAULT_MAX_LENGTH if options.max_length is None else options.max_length,
        cycles=options.cycles,
        balanced=options.balanced,
        seed=options.seed,
    )


def pacing_of(options: OptionFields) -> Pacing | ExplicitPhases:
    """The schedule without its duration, in all modes but document."""
    if options.phases is not None:
        separate = options.is_mixture and any(one.weight and one.weight.by_phase for one in options.sources())
        return parse_phases(options.phases, multiple_of=options.alignment, separate=separate)
    max_length = DEFAULT_MAX_LENGTH if options.max_length is None else options.max_length
    if options.schedule_name == "constant":
        return Pacing.constant(max_length, options.alignment)
    return Pacing(
        name=options.schedule_name,
        start_length=DEFAULT_START_LENGTH if options.start_length is None else options.start_length,
        max_length=max_length,
        multiple_of=options.alignment,
        degree=options.degree if options.degree is not None else DEFAULT_DEGREE.get(options.schedule_name, 1),
        stages=options.stages if options.stages is not None else DEFAULT_STAGES.get(options.schedule_name),
    )


def warmup_of(options: OptionFields) -> Fraction | int | TokenWarmup | None:
    """Duration of the length warmup: a share of the steps, or a number of steps or trained tokens."""
    if options.phases is not None or options.schedule_name == "constant":
        return None
    if options.length_warmup_steps is not None:
        return options.length_warmup_steps
    if options.length_warmup_tokens is not None:
        return TokenWarmup(tokens=options.length_warmup_tokens)
    return parse_frac(str(DEFAULT_FRAC if options.frac is None else options.frac))


def batch_of(options: OptionFields) -> Batch:
    """Rows or tokens per step; 16 rows if nothing is said."""
    rows = DEFAULT_BATCH_ROWS if options.batch_rows is None and options.batch_tokens is None else options.batch_rows
    return Batch(rows=rows, tokens=options.batch_tokens, rows_multiple_of=options.rows_multiple_of)


def budget_of(options: OptionFields, corpus_tokens: int | None, fill: Mapping[int, int] | None = None) -> Budget:
    """What ends the run; `corpus_tokens` is the length of one epoch, None if unknown."""
    return Budget(
        steps=options.steps, tokens=options.tokens, corpus_tokens=corpus_tokens, epochs=options.epochs, fill=fill
    )


def phases_are_closed(phases: str | None) -> bool:
    """Whether these phases say themselves how many steps there are: the last one is not `LEN:*`."""
    return phases is not None and not phases.rstrip().endswith("*")
