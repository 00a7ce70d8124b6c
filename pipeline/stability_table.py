"""Runs side by side, as `curriculum stability` shows them.

In:  their summaries, with the same thresholds.   Out: lines of text, a run by its number.
Guarantee: columns are as wide as they need to be; what a run lacks is a dash.

                                   max                         spike
       steps   tokens  diverged  ratio  >1.1  >1.2  >1.5  >2   score  validation
    1    488  999,424         0  1.144    18     0     0   0  0.20 %      5.0025
    2    573  998,400         0  1.144    35     0     0   0  0.00 %      4.9071
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

from curriculum.stability import VARIANCES, Summary, as_typed

NAMES = dict(zip(VARIANCES, ("norm", "max", "root norm", "root max"), strict=True))


def side_by_side(found: Sequence[Summary]) -> list[str]:
    """Numbers to compare; of the variances a table of their own."""
    above = [f">{as_typed(threshold)}" for threshold in found[0].steps_above]
    head = ["steps", "tokens", "diverged", "ratio", *above, "score", "validation"]
    lines, starts = _table([[*[""] * 3, "max", *[""] * len(above), "spike", ""], head], map(_cells, found))
    if any(summary.variances for summary in found):
        table, starts = _table([[*NAMES.values()] * 2], map(_variance_cells, found))
        titles = f"{'highest variance':{starts[4] - starts[0]}}correlation with the loss ratio"
        lines += ["", " " * starts[0] + titles, *table]
    return lines


def number(value: float) -> str:
    """Of any size, in few characters."""
    return f"{value:,.0f}" if 1000 <= value < 1e9 else f"{value:.3g}"


def _table(heads: list[list[str]], rows: Iterable[list[str]]) -> tuple[list[str], list[int]]:
    """The lines, rows numbered, and where columns begin."""
    cells = [*(["", *head] for head in heads), *([str(place), *row] for place, row in enumerate(rows, 1))]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(map(str.rjust, row, widths)).rstrip() for row in cells]
    return lines, list(accumulate(width + 2 for width in widths))


def _cells(found: Summary) -> list[str]:
    ratio, score = found.max_ratio, found.any_spikes.score
    return [
        f"{found.num_steps:,}",
        "-" if found.tokens is None else f"{found.tokens:,}",
        f"{found.divergences:,}",
        "-" if ratio is None else f"{ratio.value:.3f}" if ratio.value < 1000 else number(ratio.value),
        *(f"{count:,}" for count in found.steps_above.values()),
        "-" if score is None else f"{100 * score:.2f} %",
        "-" if found.last_validation is None else f"{found.last_validation.value:.4f}",
    ]


def _variance_cells(found: Summary) -> list[str]:
    highest = [found.variances.get(key) for key in VARIANCES]
    pearson = [found.correlations[key].pearson for key in VARIANCES]
    return [
        *("-" if at is None else number(at.value) for at in highest),
        *("-" if value is None else f"{value:+.3f}" for value in pearson),
    ]
