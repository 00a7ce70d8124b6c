"""The figures of a page: for each a title, what it shows, the picture, and its numbers as a table.

In:  a manifest and what was read beside it.   Out: `Figure`s.
Guarantee: the description says what the picture shows to who does not see it; the table has its numbers, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curriculum.manifest import Manifest
from curriculum.plan import Plan
from curriculum.schedule import DOCUMENT_CURRICULA
from pipeline.counted import counted
from pipeline.page.build_facts import BuildFacts
from pipeline.page.document_lengths import DocumentLengths
from pipeline.page.draw_build import draw_build, duration
from pipeline.page.draw_flow import draw_flow, percent_of
from pipeline.page.draw_lengths import draw_lengths
from pipeline.page.draw_mixture import draw_mixture
from pipeline.page.draw_phases import draw_phases
from pipeline.page.draw_schedule import draw_schedule
from pipeline.page.facts import growth, growth_title
from pipeline.page.flow import THINNEST
from pipeline.page.groups import MOST_BARS, shown_ticks
from pipeline.page.ideal import ideal_lengths
from pipeline.page.number_tables import MOST_PHASES, Table, accounting_table, phase_table
from pipeline.source_use import MixtureUse

MILESTONES = 13
_DOCUMENTS = "There is no ideal curve: how many rows of each length there are follows from the documents."
NO_IDEAL = {
    "phases": "There is no ideal curve: the lengths are listed, phase by phase.",
    "step": "The schedule is a staircase itself, so there is no other ideal curve.",
    "doubling": "The schedule doubles, stage by stage, so there is no other ideal curve.",
    **dict.fromkeys(DOCUMENT_CURRICULA, _DOCUMENTS),
}
OWN_FUNCTION = "There is no ideal curve: its pacing function is none that comes with this release."


@dataclass(frozen=True, kw_only=True, slots=True)
class PageFigure:
    """One section of the page."""

    key: str
    title: str
    caption: str
    svg: str
    table: Table


def schedule_figure(plan: Plan) -> PageFigure:
    """Row length over steps."""
    has_ideal = ideal_lengths(plan.schedule, np.ones(1)) is not None
    caption = growth(plan)
    if has_ideal:
        caption += " Planned is what was built, in whole multiples and shapes; ideal is the pacing function itself."
    else:
        caption += f" {NO_IDEAL.get(str(plan.schedule['name']), OWN_FUNCTION)}"
    at = [round(number * (plan.total_steps - 1) / (MILESTONES - 1)) for number in range(MILESTONES)]
    steps = sorted(set(at))
    ideal = ideal_lengths(plan.schedule, np.array(steps, np.float64) + 1) if has_ideal else None
    rows = []
    for number, step in enumerate(steps):
        phase = plan.phases[plan.locate(step)[0]]
        wanted = "" if ideal is None else f"{ideal[number]:,.1f}"
        rows.append((step, phase.seq_len, wanted, phase.rows_per_step, phase.tokens_per_step, plan.tokens_at(step)))
    columns = ("step", "tokens in a row", "ideal", "rows", "tokens in the step", "tokens before it")
    table = Table(columns=columns, rows=tuple(rows), note="Some of the steps, evenly spread.")
    label = f"Line chart of row length and of tokens in a step over {counted(plan.total_steps, 'step')}. {caption}"
    return PageFigure(
        key="schedule", title=growth_title(plan), caption=caption, svg=draw_schedule(plan, label), table=table
    )


def phases_figure(manifest: Manifest) -> PageFigure:
    """Steps and tokens of each phase."""
    plan = manifest.plan
    what = "slots" if manifest.packed else "trained tokens"
    longest = [phase for phase in plan.phases if phase.seq_len == plan.max_seq_len]
    share = percent_of(sum(phase.num_tokens for phase in longest), plan.total_tokens)
    together = (
        f" Neighbouring phases share a bar: there are {len(plan.phases):,}." if len(plan.phases) > MOST_BARS else ""
    )
    caption = (
        f"A phase is all rows of one shape. Rows of {plan.max_seq_len:,} tokens have {share} of all "
        f"{what} in {sum(phase.num_steps for phase in longest):,} of {counted(plan.total_steps, 'step')}.{together}"
    )
    label = f"Bar charts of steps and of {what} in {counted(len(plan.phases), 'phase')}. {caption}"
    return PageFigure(
        key="phases", title="Phases", caption=caption, svg=draw_phases(plan, label, what), table=phase_table(manifest)
    )


def flow_figure(manifest: Manifest) -> PageFigure:
    """Where each token went."""
    a = manifest.accounting
    caption = (
        f"The {a.corpus_tokens:,} tokens of the corpus, from left to right, as wide as they are many; what is thinner "
        f"than {THINNEST:g} pixels is drawn that wide, or nobody would see it. corpus = trained + cut off + validation "
        f"+ unused − read again."
    )
    if a.padding_tokens is not None:
        caption += " Padding is no text: it fills rows that no document fits."
    label = f"Flow chart of {a.corpus_tokens:,} tokens: {a.trained_tokens:,} trained, {a.truncated_tokens:,} cut off, "
    label += f"{a.validation_tokens:,} validation, {a.unused_tokens:,} unused, {a.repeated_tokens:,} read again."
    return PageFigure(
        key="flow",
        title="Where each token went",
        caption=caption,
        svg=draw_flow(a, manifest.sources, label),
        table=accounting_table(manifest),
    )


def mixture_figure(use: MixtureUse) -> PageFigure:
    """Sources in each phase."""
    varies = "The shares change from phase to phase" if use.mixture.varies else "All phases have the same shares"
    caption = f"{varies}, in whole rows: every row is text of one source."
    phases = shown_ticks(len(use.plan.phases), MOST_PHASES)
    rows = []
    for phase in phases:
        tokens = [use.trained(k, phase) for k in range(len(use.names))]
        rows.append((phase, use.plan.phases[phase].seq_len, *tokens))
    note = "" if len(phases) == len(use.plan.phases) else "Some of the phases, evenly spread."
    table = Table(columns=("phase", "tokens in a row", *use.names), rows=tuple(rows), note=note)
    label = f"Stacked bars of {len(use.names):,} sources in {counted(len(use.plan.phases), 'phase')}. {caption}"
    return PageFigure(
        key="mixture", title="What each phase is made of", caption=caption, svg=draw_mixture(use, label), table=table
    )


def lengths_figure(lengths: DocumentLengths, max_seq_len: int) -> PageFigure:
    """Documents by length."""
    documents, tokens = (sum(getattr(one, name) for one in lengths.bins) for name in ("documents", "tokens"))
    rows = []
    for number, one in enumerate(lengths.bins):
        is_last = lengths.is_open and number == len(lengths.bins) - 1
        span = f"{one.low:,} or more" if is_last else f"{one.low:,} to {2 * one.low - 1:,}"
        rows.append(
            (span, one.documents, percent_of(one.documents, documents), one.tokens, percent_of(one.tokens, tokens))
        )
    columns = ("tokens", lengths.what, "share", "tokens in them", "share of tokens")
    label = f"Histogram of the length of {lengths.what}, by number and by tokens. {lengths.origin}"
    return PageFigure(
        key="lengths",
        title="How long documents are" if lengths.what == "documents" else "How long the pieces in rows are",
        caption=lengths.origin,
        svg=draw_lengths(lengths, max_seq_len, label),
        table=Table(columns=columns, rows=tuple(rows)),
    )


def build_figure(facts: BuildFacts) -> PageFigure:
    """Times of the build."""
    total = sum(seconds for _, seconds in facts.stages)
    known = dict(facts.lines)
    rates = [known[what] for what in ("text, all stages together", "tokens, all stages together") if what in known]
    workers = f" with {known['workers']} worker{'s' * (known['workers'] != '1')}" if "workers" in known else ""
    caption = f"{duration(total)} in all{workers}: {' or '.join(rates)}." if rates else f"{duration(total)} in all."
    label = f"Bar chart of the seconds of {counted(len(facts.stages), 'stage')}. {caption}"
    rows = tuple((name, f"{seconds:,.3f}") for name, seconds in facts.stages)
    table = Table(columns=("stage", "seconds"), rows=(*rows, *facts.lines))
    return PageFigure(
        key="build", title="How it was built", caption=caption, svg=draw_build(facts.stages, label), table=table
    )
