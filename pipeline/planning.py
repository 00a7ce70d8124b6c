"""What `curriculum plan` answers: the plan, and the facts about it that people decide by.

In:  options, and a corpus, a store or a token count where the plan needs one.   Out: `PlanOutcome`.
Guarantee: without a corpus nothing is written and no text is read. With one, it is tokenized into the store, which a
build re-uses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from curriculum.errors import ConfigError, PlanError
from curriculum.flops import ModelSize, PlanFlops, plan_flops
from curriculum.manifest import PACKED, required_features
from curriculum.plan import Plan
from curriculum.shape_budget import ShapeRow, shape_table
from curriculum.shard_format import row_bytes, token_dtype, token_itemsize
from pipeline.analysis import Analysis, analyse
from pipeline.build import prepare_plan
from pipeline.census import take_census
from pipeline.corpus_plan import CorpusPlan, StoredCorpus, StoredSource, mixture_use, plan_corpus
from pipeline.engines.choice import open_workers
from pipeline.option_fields import DEFAULT_SHAPES_BY
from pipeline.options import Options
from pipeline.progress import Progress
from pipeline.requested_plan import (
    batch_of,
    check_requested,
    compile_requested,
    curriculum_of,
    pacing_of,
    phases_are_closed,
)
from pipeline.source_use import MixtureUse
from pipeline.sources import CORPUS, mixture_of
from pipeline.store import read_corpora
from pipeline.tokenizer import named_tokenizer, parse_tokenizer_spec


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanRequest:
    """What `plan` is asked besides the options of a build."""

    options: Options
    model_size: tuple[int | None, int | None, int | None] = (None, None, None)
    """parameters, layers, hidden size: all or none"""
    shape_table: bool = False
    """show what a shape budget costs, also without one"""
    census: bool = True
    """look at the documents of the corpus, if there is one"""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanOutcome:
    """A plan and what is known around it."""

    plan: Plan
    corpus_tokens: int | None
    """training tokens of one epoch; None if nobody asked"""
    consumed_tokens: int
    """stream tokens that all steps use up"""
    dtype: str
    warnings: tuple[str, ...]
    flops: PlanFlops | None
    """for the model size that was given"""
    shapes: tuple[ShapeRow, ...]
    """what a budget of so many shapes costs; empty if nobody asked"""
    shapes_by: str
    analysis: Analysis | None
    """what the documents mean for the plan; None without a corpus"""
    use: MixtureUse | None
    """what the plan takes of several sources; None for one"""

    @property
    def packed(self) -> bool:
        """Rows are pieces of documents: with padding, and with more columns."""
        return PACKED in required_features(self.plan)

    @property
    def shard_bytes(self) -> int:
        """Bytes on disk, document starts aside."""
        return sum(phase.num_rows * row_bytes(phase.seq_len, self.dtype, self.packed) for phase in self.plan.phases)


def plan_request(request: PlanRequest, progress: Progress) -> PlanOutcome:
    """Compile the plan that the options ask for.

    Raises:
        PlanError, ConfigError: it cannot work, or nothing says how long the run is.
    """
    options = request.options
    check_requested(options)
    size = _model_size(request.model_size)
    planned, dtype = _planned(options, progress)
    plan = planned.plan if planned else compile_requested(options, options.corpus_tokens)
    return PlanOutcome(
        plan=plan,
        corpus_tokens=planned.corpus_tokens if planned else options.corpus_tokens,
        consumed_tokens=planned.consumed_tokens if planned else plan.consumed_tokens,
        dtype=dtype,
        warnings=tuple(_warnings(options, plan, has_corpus=planned is not None)),
        flops=plan_flops(plan, size) if size else None,
        shapes=_shapes(options, planned) if request.shape_table or options.max_shapes else (),
        shapes_by=options.shapes_by or DEFAULT_SHAPES_BY,
        analysis=_analysis(planned) if planned and request.census else None,
        use=_use(options, plan, planned, token_itemsize(dtype)),
    )


def _use(options: Options, plan: Plan, planned: CorpusPlan | None, itemsize: int) -> MixtureUse | None:
    """Of sources whose text is not at hand, only the shares."""
    if planned is not None:
        return planned.mixed.use if planned.mixed else None
    if not options.is_mixture:
        return None
    mixture = mixture_of(options.sources(), [phase.seq_len for phase in plan.phases], None)
    return mixture_use(options, plan, mixture, itemsize, None)


def _planned(options: Options, progress: Progress) -> tuple[CorpusPlan | None, str]:
    """The plan of a corpus or a store, if one is needed or given, and the dtype of its tokens."""
    if options.corpus or options.source:
        planned, tokenized = prepare_plan(options, progress)
        if options.store is None:
            progress.say(
                f"The tokens are kept in {options.store_files().where}: give `build` that --store to use them."
            )
        return planned, tokenized.tokenizer.dtype
    is_open = options.steps is None and options.tokens is None and options.corpus_tokens is None
    fixed = phases_are_closed(options.phases)
    needs_corpus = options.mode == "document" or (is_open and not fixed)
    corpora = _corpora(options) if options.store is not None else []
    if options.store is not None and (needs_corpus or len(corpora) == 1):
        return _plan_store(options, corpora, progress), str(corpora[0]["dtype"])
    if options.mode == "document":
        raise PlanError(
            "Mode document is planned by the lengths of the documents. Give the corpus, or a --store that holds it."
        )
    if is_open and not fixed:
        raise PlanError(
            "Nothing says how long the run is. Give --steps or --tokens; or, for one pass over a corpus, the corpus, "
            "a --store that holds it, or its --corpus-tokens."
        )
    return None, _dtype(options)


def _corpora(options: Options) -> list[dict[str, Any]]:
    """The tokenized corpora in the store that a plan of these options could be of.

    Those of the tokenizer; if none was named and none is by the default one, any.
    """
    noted = [corpus for corpus in read_corpora(options.store_files()) if corpus["bos"] == options.bos]
    info = named_tokenizer(options.tokenizer, eos=options.eos, bos=options.bos)
    if info is not None:
        return [one for one in noted if (one["tokenizer_sha256"], one["eos_id"]) == (info.sha256, info.eos_id)]
    same = [one for one in noted if one["tokenizer"] == options.tokenizer]
    return same or (noted if options.tokenizer == Options().tokenizer else [])


def _plan_store(options: Options, corpora: list[dict[str, Any]], progress: Progress) -> CorpusPlan:
    store = options.store_files()
    if len(corpora) != 1:
        if not store.children():
            raise PlanError(f"{store.where}: no such folder. Give the token store of a build, or the corpus itself.")
        raise PlanError(f"{store.where}: {_which_corpus(options, corpora)}")
    noted = corpora[0]
    progress.say(f"{store.where}: {noted['tokens']:,} tokens of {noted['name']} by {noted['tokenizer']}.")
    corpus = StoredCorpus(sources=_stored_sources(noted), dtype=noted["dtype"])
    if "sources" in noted:  # weights are held against the names in the store
        options = replace(options, source=tuple(f"{source.name}={source.name}" for source in corpus.sources))
    with open_workers(options, progress.say) as workers:
        return plan_corpus(options, corpus, workers, progress)


def _which_corpus(options: Options, corpora: list[dict[str, Any]]) -> str:
    """Why the plan is of none of the corpora in the store, and what helps: the tail of a refusal.

    Args:
        options: of the plan.
        corpora: those that it could be of: none, or several.
    """
    noted = read_corpora(options.store_files())
    if not noted:
        return (
            "no corpus is completely in it: its build was not finished, or all that it has was added to a dataset by "
            "`curriculum extend`. Give the corpus itself, or --corpus-tokens."
        )
    there = "; ".join(f"{c['tokens']:,} tokens of {c['name']} by {c['tokenizer']} with bos {c['bos']}" for c in noted)
    wanted = f"by tokenizer {options.tokenizer} with bos {options.bos}"
    if not corpora:
        which = f"0 of its tokenized corpora are {wanted}"
    elif len({corpus["tokenizer_sha256"] for corpus in corpora}) > 1:
        which = f"it has {len(corpora)} tokenized corpora with bos {options.bos}, by several tokenizers"
    else:
        return (
            f"{len(corpora)} of its tokenized corpora are {wanted}, and a plan is of one; it has {there}. Give the "
            f"corpus itself, whose tokens are used again, or --corpus-tokens."
        )
    return (
        f"{which}, and a plan is of one; it has {there}. Name its --tokenizer and --bos, or give --corpus-tokens or "
        f"the corpus itself."
    )


def _stored_sources(noted: dict[str, Any]) -> tuple[StoredSource, ...]:
    """The sources of a corpus that the store remembers."""
    alone = {"name": CORPUS, **{key: noted[key] for key in ("parts", "tokens", "documents")}}
    return tuple(
        StoredSource(
            name=str(one["name"]),
            parts=tuple(one["parts"]),
            tokens=int(one["tokens"]),
            documents=int(one["documents"]),
        )
        for one in noted.get("sources", [alone])
    )


def _model_size(given: tuple[int | None, int | None, int | None]) -> ModelSize | None:
    params, layers, hidden = given
    if params is None and layers is None and hidden is None:
        return None
    if params is None or layers is None or hidden is None:
        raise ConfigError("--params, --layers and --hidden describe one model: give all three of them, or none.")
    return ModelSize(params=params, layers=layers, hidden=hidden)


def _shapes(options: Options, planned: CorpusPlan | None) -> tuple[ShapeRow, ...]:
    """What numbers of shapes would cost, for schedules that grow: against the plan without a budget of shapes."""
    pacing = pacing_of(options) if curriculum_of(options) is None else None
    if pacing is None or len(pacing.lengths) == 1:
        raise ConfigError("A shape budget needs a schedule that grows, such as linear: leave --shape-table out.")
    corpus_tokens = planned.corpus_tokens if planned else options.corpus_tokens
    fill = planned.fill_by_length if planned else None
    ideal_options = replace(options, max_shapes=None)
    if planned and planned.mixed and options.tokens is None:  # as many steps as the sources suffice for
        ideal_options, corpus_tokens = replace(ideal_options, steps=planned.plan.total_steps), None
    ideal = compile_requested(ideal_options, corpus_tokens, fill=fill)
    runs = tuple((ideal.phases[phase].seq_len, num_steps) for phase, num_steps in ideal.order)
    ends = (min(pacing.lengths), max(pacing.lengths))
    return shape_table(runs, by=options.shapes_by or DEFAULT_SHAPES_BY, lengths=ends)


def _analysis(planned: CorpusPlan) -> Analysis:
    stream = planned.stream
    return analyse(planned.plan, take_census(stream.store, stream.parts, held_out_below=stream.held_out_below))


def with_analysis(outcome: PlanOutcome, *, census: bool, shape_table: bool) -> dict[str, Any]:
    """The plan object; under `analysis`, what was asked for besides, and what it takes of several sources. Without
    that, exactly what a manifest embeds."""
    asked: dict[str, Any] = {}
    if outcome.flops is not None:
        asked["flops"] = outcome.flops.to_json()
    if shape_table:
        asked["shape_budget"] = [row.to_json() for row in outcome.shapes]
    if outcome.use is not None:
        asked["sources"] = outcome.use.to_json()
    if census:
        if outcome.analysis is None:
            raise ConfigError("--census describes a corpus: give the corpus, or a --store that holds it.")
        asked["census"] = outcome.analysis.to_json()
    plan = outcome.plan.to_json()
    return {**plan, "analysis": asked} if asked else plan


def _dtype(options: Options) -> str:
    info = named_tokenizer(options.tokenizer, eos=options.eos, bos=options.bos)
    if info is not None:
        return info.dtype
    _, vocab_size = parse_tokenizer_spec(options.tokenizer)
    return token_dtype(int(vocab_size or 257))


def _warnings(options: Options, plan: Plan, *, has_corpus: bool) -> list[str]:
    warnings = []
    least = plan.min_tokens_per_step
    if batch_of(options).is_underfull(least):
        warnings.append(
            f"The smallest step trains {least:,} tokens, under 90 % of the {options.batch_tokens:,} asked for: "
            f"a {'larger --batch-tokens' if batch_of(options).rows_multiple_of == 1 else 'smaller --rows-multiple-of'} "
            f"fills it better."
        )
    # Lengths of documents alternate by design.
    lengths = [plan.phases[phase].seq_len for phase, _ in plan.order if plan.mode != "document"]
    if plan.mode == "best-fit" and not has_corpus:
        warnings.append(
            "Rows are taken as full. With the corpus at hand, the plan leaves the room that its documents need to stay "
            "whole, so that one pass lasts for more steps."
        )
    jumps = [(before, after) for before, after in pairwise(lengths) if after > 2 * before]
    if jumps:
        before, after = max(jumps, key=lambda jump: jump[1] / jump[0])
        warnings.append(
            f"The length jumps from {before:,} to {after:,}: the authors of the method warn of long flat phases "
            f"followed by a jump above 2x."
        )
    return warnings


def plan_facts(outcome: PlanOutcome) -> dict[str, Any]:
    """Label -> value, for the table under the chart."""
    plan = outcome.plan
    steps = plan.tokens_per_step
    return {
        "steps": f"{plan.total_steps:,}",
        "training slots" if outcome.packed else "trained tokens": f"{plan.total_tokens:,}",
        "consumed of the corpus": f"{outcome.consumed_tokens:,}"
        + (f" of {outcome.corpus_tokens:,}" if outcome.corpus_tokens else ""),
        "dropped by truncation": f"{plan.dropped_tokens:,}",
        "tokens per step": f"{min(steps):,} to {max(steps):,}",
        "distinct shapes": f"{plan.num_shapes:,}",
        "on disk": f"{outcome.shard_bytes / 1e6:,.1f} MB",
        "world sizes (x micro-batches)": ", ".join(map(str, plan.world_sizes)),
        "plan": f"sha256:{plan.digest()[:16]}...",
    }
