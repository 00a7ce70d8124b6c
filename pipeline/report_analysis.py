"""The tables that help to choose: what the corpus is like, what each mode does to it, what shapes and FLOPs cost.

In:  a census, an analysis, the rows of a shape table, FLOPs.   Out: tables and text for 80 columns, not yet printed.
Guarantee: nothing is computed here but how a number is shown; `--json` has the numbers.

    length from  documents   tokens      %  share of tokens
            256        173   63,651  0.7 %  ▌
            512        217  162,332  1.9 %  █▍
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich import box
from rich.table import Table

from curriculum.flops import PlanFlops
from curriculum.shape_budget import ShapeRow
from pipeline.analysis import Analysis, PhaseAnalysis, Shares, group_phases
from pipeline.census import Census
from pipeline.recommendation import percent

SHOWN_GROUPS = 12
BAR_COLUMNS = 16
EIGHTHS = " ▏▎▍▌▋▊▉█"
LEGEND = """\
long      tokens in documents that fill a row of this length on their own
crossing  attention that joins different documents, in rows cut from a stream
          (segment, truncate)
cut       documents that rows of a stream cut
dropped   consumed tokens that truncation drops
whole     training targets in rows of this length if no row crosses a document;
          what "run" lacks is packed
split     documents that fit no row of this length whole\
"""
"""What the columns of `analysis_table` mean."""


def census_table(census: Census) -> Table:
    """Documents and tokens by document length, each line up to the next one; bars are tokens."""
    table = _table("length from", "documents", "tokens", "%")
    table.add_column("share of tokens", no_wrap=True, min_width=BAR_COLUMNS)
    bins = census.histogram()
    most = max(item.tokens for item in bins)
    for item in bins:
        table.add_row(
            f"{item.low:,}",
            f"{item.documents:,}",
            f"{item.tokens:,}",
            percent(item.tokens / census.tokens),
            bar(item.tokens / most),
        )
    return table


def census_facts(census: Census) -> dict[str, str]:
    """Label -> value, for the facts under a chart."""
    return {
        "documents": f"{census.documents:,} with {census.tokens:,} tokens, EOS included",
        "document length": f"mean {float(census.mean_length):,.0f}, median {census.percentile(50):,}, "
        f"95 % up to {census.percentile(95):,} tokens",
    }


def analysis_table(analysis: Analysis, *, all_phases: bool = False) -> Table:
    """What every mode does to the corpus at the lengths of the plan; neighbouring lengths share a line."""
    rows = analysis.phases if all_phases else group_phases(analysis.phases, SHOWN_GROUPS)
    trained = sum(phase.num_tokens for phase in analysis.phases)
    names = ("\nlength", "\ntokens", "any\nlong", "stream\ncrossing", "segment\ncut", "truncate\ndropped")
    table = _table(*names, "document\nwhole", "best-fit\nsplit")
    for row in rows:
        table.add_row(_lengths(row), percent(row.num_tokens / trained), *_cells(row.shares, row.bucket))
    table.add_section()
    table.add_row("run", "100 %", *_cells(analysis.totals, 1 - float(analysis.document.leftover_share)))
    return table


def advice_lines(analysis: Analysis, columns: int = 80) -> list[str]:
    """The recommendation as text of that width."""
    advice = analysis.recommendation
    is_same = (advice.mode, advice.max_length) == (analysis.mode, analysis.max_seq_len)
    better = "" if is_same else " better"
    first = f"Mode {advice.mode} with rows up to {advice.max_length:,} suits this corpus{better}."
    text = " ".join([first, *advice.sentences])
    # A no-break space, for as long as lines are broken: "26" and "%" belong together.
    return [line.replace("\xa0%", " %") for line in textwrap.wrap(text.replace(" %", "\xa0%"), columns)]


def shape_budget_table(rows: Sequence[ShapeRow], *, by: str = "relative") -> Table:
    """What a budget of K shapes costs, so that people can choose --max-shapes."""
    table = _table("--max-shapes", "mean deviation", "worst", "largest jump", "tokens of ideal")
    for row in rows:
        table.add_row(
            f"{row.num_shapes:,}",
            _deviation(row.mean_deviation, by),
            _deviation(row.worst_deviation, by),
            f"{row.largest_jump:.2f} x",
            f"{100 * row.relative_length_sum:.2f} %",
        )
    return table


SHAPES_LEGEND = """\
deviation       of a step's length from the schedule, over all steps of the run
largest jump    between neighbouring lengths
tokens of ideal trained tokens against the schedule, if every step has equal rows\
"""
"""What the columns of `shape_budget_table` mean."""


def flops_facts(flops: PlanFlops) -> dict[str, str]:
    """Label -> value: what training costs, against the same tokens all at the maximum length."""
    return {
        "training FLOPs": f"{flops.total:.3g}, {percent(flops.attention_share)} of them attention",
        "at constant length": f"{flops.constant_length:.3g}: the plan saves {percent(flops.saved_share)}",
    }


def bar(share: float, columns: int = BAR_COLUMNS) -> str:
    """A horizontal bar of up to that many columns; anything above zero is seen."""
    eighths = max(round(8 * columns * share), 1 if share > 0 else 0)
    return (EIGHTHS[8] * (eighths // 8) + EIGHTHS[eighths % 8]).rstrip()


def _table(*names: str) -> Table:
    # Two columns between numbers, not three, and none at the edges: eight columns of numbers fit 80.
    # Two columns between numbers, not three, and none at the edges: eight columns of numbers fit 80.
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _lengths(row: PhaseAnalysis) -> str:
    return f"{row.shortest:,}" if row.shortest == row.longest else f"{row.shortest:,}-{row.longest:,}"


def _cells(shares: Shares, bucket: float | None) -> tuple[str, ...]:
    return (
        percent(shares.long_enough),
        percent(shares.cross_document),
        percent(shares.documents_cut),
        percent(shares.tokens_dropped),
        "" if bucket is None else percent(bucket),
        percent(shares.documents_split),
    )


def _deviation(value: float, by: str) -> str:
    if by == "absolute":
        return f"{value:,.1f} tokens"
    return f"{100 * value:,.2f} %" if value < 0.1 else f"{100 * value:,.0f} %"
