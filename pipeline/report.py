"""What `plan` and `build` show people: a table, a curve, a few facts. Text on stdout, 80 columns are enough.

In:  outcomes.   Out: printed text.

    1,024 ┤                    ████████████
          ┤            ▄▆██████████████████
        8 ┤▁▁▂▃▄▅▆▇████████████████████████
          step 0                       999
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from curriculum.plan import Plan
from curriculum.printable import printable_text
from pipeline.files.address import is_url
from pipeline.lineage import extended_by, held_out_of_new
from pipeline.report_packing import packing_lines
from pipeline.report_sources import source_lines, source_sentences

if TYPE_CHECKING:
    from pipeline.build import BuildResult
    from pipeline.planning import PlanOutcome

CHART_ROWS = 8
CHART_COLUMNS = 64
EIGHTHS = " ▁▂▃▄▅▆▇█"
SHOWN_PHASES = 24
"""More phases than that are shortened to the first and last dozen."""


def plan_report(outcome: PlanOutcome, *, all_phases: bool) -> None:
    """Print the phases, the curve, the facts of a plan, and what is known about its shapes and documents."""
    from pipeline.planning import plan_facts
    from pipeline.report_analysis import (
        LEGEND,
        SHAPES_LEGEND,
        advice_lines,
        analysis_table,
        census_facts,
        census_table,
        flops_facts,
        shape_budget_table,
    )

    console = Console(highlight=False)
    console.print(_phase_table(outcome.plan, all_phases))
    console.print("\n".join(length_chart(outcome.plan)), markup=False)
    facts = plan_facts(outcome)
    if outcome.flops is not None:
        facts |= flops_facts(outcome.flops)
    if outcome.analysis is not None:
        facts |= census_facts(outcome.analysis.census)
    console.print(_facts(facts))
    if outcome.use is not None:
        console.print("\n".join(["", *source_lines(outcome.use, all_phases=all_phases)]), markup=False)
    if outcome.shapes:
        console.print()
        console.print(shape_budget_table(outcome.shapes, by=outcome.shapes_by))
        console.print(SHAPES_LEGEND, markup=False)
    if outcome.analysis is not None:
        console.print()
        console.print(census_table(outcome.analysis.census))
        console.print()
        console.print(analysis_table(outcome.analysis, all_phases=all_phases))
        console.print("\n".join(["", LEGEND, "", *advice_lines(outcome.analysis)]), markup=False)


def _facts(values: dict[str, str]) -> Table:
    table = Table(box=None, show_header=False)
    for label, value in values.items():
        table.add_row(label, value)
    return table


def build_report(result: BuildResult) -> None:
    """Print what was built and what to do next."""
    console = Console(highlight=False, soft_wrap=True)
    manifest, plan = result.manifest, result.manifest.plan
    state, new = "is finished", extended_by(manifest)[-1:]
    if result.already_finished:
        more = f"; for more steps, ask for more than {plan.total_steps:,} with --total-steps" if new else ""
        state = f"is finished already; nothing to do{more}"
    # Of packed rows, what they leave out of each source is not recorded.
    together = " (all sources together)" if manifest.packed and len(manifest.sources) > 1 else ""
    lines = [
        f"{result.files.where} {state}.",
        f"  id      {manifest.id}",
        *(f"  new     {steps}, after {parent}" for steps, parent in new),
        *(f"  held    {line}" for line in held_out_of_new(manifest)),
        f"  plan    {plan.total_steps:,} steps, {manifest.accounting.trained_tokens:,} trained tokens, "
        f"{len(plan.phases)} phases up to length {plan.max_seq_len:,}",
        f"  corpus  {manifest.accounting.documents:,} documents, {manifest.accounting.corpus_tokens:,} tokens, "
        f"{manifest.accounting.unused_tokens:,} unused{together}",
        *(f"  rows    {line}" for line in packing_lines(manifest, result.packing)),
        *(f"  source  {line}" for line in source_sentences(manifest)),
        f"  next    {_next(result)}",
    ]
    console.print("\n".join(map(printable_text, lines)), markup=False)


def _next(result: BuildResult) -> str:
    """`verify` reads folders; of an address, `inspect` does."""
    command = "inspect" if is_url(result.files.where) else "verify"
    return f"curriculum {command} {result.files.where}"


def length_chart(plan: Plan) -> Iterator[str]:
    """Lines of a chart of the sequence length over the steps."""
    columns = min(CHART_COLUMNS, plan.total_steps)
    steps = [i * (plan.total_steps - 1) // max(columns - 1, 1) for i in range(columns)]
    lengths = [plan.phases[plan.locate(step)[0]].seq_len for step in steps]
    eighths = [max(1, round(8 * CHART_ROWS * length / plan.max_seq_len)) for length in lengths]
    labels = {CHART_ROWS - 1: f"{plan.max_seq_len:,}", 0: f"{min(lengths):,}"}
    for row in reversed(range(CHART_ROWS)):
        bars = "".join(EIGHTHS[min(max(height - 8 * row, 0), 8)] for height in eighths)
        yield f"{labels.get(row, ''):>10} ┤{bars}".rstrip()
    yield f"{'step':>10}  0{plan.total_steps - 1:>{max(columns - 1, 1)},}"


def _phase_table(plan: Plan, all_phases: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("phase", "length", "rows/step", "first step", "steps", "tokens"):
        table.add_column(name, justify="right")
    runs = list(_runs(plan))
    hidden = 0 if all_phases or len(runs) <= SHOWN_PHASES else len(runs) - SHOWN_PHASES
    for i, (phase_index, first_step, steps) in enumerate(runs):
        phase = plan.phases[phase_index]
        if hidden and i == SHOWN_PHASES // 2:
            table.add_row("...", f"{hidden} more", "", "", "", "--all-phases")
        if hidden and SHOWN_PHASES // 2 <= i < SHOWN_PHASES // 2 + hidden:
            continue
        numbers = (
            phase_index,
            phase.seq_len,
            phase.rows_per_step,
            first_step,
            steps,
            steps * phase.tokens_per_step,
        )
        table.add_row(*(f"{number:,}" for number in numbers))
    return table


def _runs(plan: Plan) -> Iterator[tuple[int, int, int]]:
    first_step = 0
    for phase, steps in plan.order:
        yield phase, first_step, steps
        first_step += steps
