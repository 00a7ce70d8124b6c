"""What `curriculum plan` answers: the plan, and the facts about it that people decide by.

In:  options, and a corpus, a store or a token count where the plan needs one.   Out: `PlanOutcome`.
Guarantee: without a corpus nothing is written and no text is read. With one, it is tokenized into the store, which a
build re-uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from curriculum.errors import PlanError
from curriculum.plan import Plan
from curriculum.shard_format import row_bytes, token_dtype
from pipeline.build import held_out_documents, prepare_plan
from pipeline.options import Options
from pipeline.progress import Progress
from pipeline.store import read_corpora
from pipeline.tokenizer import load_tokenizer, parse_tokenizer_spec


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanOutcome:
    """A plan and what is known around it."""

    plan: Plan
    corpus_tokens: int | None
    """training tokens of one epoch; None if nobody asked"""
    dtype: str
    warnings: tuple[str, ...]

    @property
    def shard_bytes(self) -> int:
        """Bytes on disk, document starts aside."""
        return sum(phase.num_rows * row_bytes(phase.seq_len, self.dtype) for phase in self.plan.phases)


def plan_request(options: Options, progress: Progress) -> PlanOutcome:
    """Compile the plan that the options ask for.

    Raises:
        PlanError, ConfigError: it cannot work, or nothing says how long the run is.
    """
    options.check()
    if options.corpus:
        plan, tokenized, held_out = prepare_plan(options, progress)
        dtype: str = tokenized.tokenizer.dtype
        corpus_tokens: int | None = tokenized.tokens - held_out.tokens
    else:
        corpus_tokens = _corpus_tokens(options)
        plan = options.compile_plan(corpus_tokens)
        dtype = _dtype(options)
    return PlanOutcome(plan=plan, corpus_tokens=corpus_tokens, dtype=dtype, warnings=tuple(_warnings(options, plan)))


def _corpus_tokens(options: Options) -> int | None:
    if options.corpus_tokens is not None:
        return options.corpus_tokens
    if options.steps is None and options.tokens is None and options.phases is None:
        if options.store is not None:
            return _tokens_in_store(options)
        raise PlanError(
            "Nothing says how long the run is. Give --steps or --tokens; or, for one pass over a corpus, the corpus, "
            "a --store that holds it, or its --corpus-tokens."
        )
    return None


def _tokens_in_store(options: Options) -> int:
    store = options.store_folder()
    corpora = [corpus for corpus in read_corpora(store) if corpus["bos"] == options.bos]
    if len(corpora) != 1:
        listing = "; ".join(f"{c['tokens']:,} tokens of {c['name']} by {c['tokenizer']}" for c in corpora) or "none"
        raise PlanError(
            f"{store}: a plan needs a store with one tokenized corpus, this one has {len(corpora)} ({listing}). "
            f"Give --corpus-tokens, or the corpus itself."
        )
    return int(corpora[0]["tokens"]) - held_out_documents(options, tuple(corpora[0]["parts"])).tokens


def _dtype(options: Options) -> str:
    kind, value = parse_tokenizer_spec(options.tokenizer)
    if kind == "file":
        return load_tokenizer(str(value), eos=options.eos, bos=options.bos).dtype
    return token_dtype(int(value or 257))


def _warnings(options: Options, plan: Plan) -> list[str]:
    warnings = []
    least = plan.min_tokens_per_step
    if options.batch().is_underfull(least):
        warnings.append(
            f"The smallest step trains {least:,} tokens, under 90 % of the {options.batch_tokens:,} asked for: "
            f"a smaller --rows-multiple-of fills it better."
        )
    lengths = [plan.phases[phase].seq_len for phase, _ in plan.order]
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
    steps = [plan.tokens_per_step[phase] for phase, _ in plan.order]
    return {
        "steps": f"{plan.total_steps:,}",
        "trained tokens": f"{plan.total_tokens:,}",
        "consumed of the corpus": f"{plan.consumed_tokens:,}"
        + (f" of {outcome.corpus_tokens:,}" if outcome.corpus_tokens else ""),
        "dropped by truncation": f"{plan.dropped_tokens:,}",
        "tokens per step": f"{min(steps):,} to {max(steps):,}",
        "distinct shapes": f"{plan.num_shapes:,}",
        "on disk": f"{outcome.shard_bytes / 1e6:,.1f} MB",
        "world sizes (x micro-batches)": ", ".join(map(str, plan.world_sizes)),
        "plan": f"sha256:{plan.digest()[:16]}...",
    }
