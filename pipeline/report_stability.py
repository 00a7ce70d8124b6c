"""What `curriculum stability` shows people: text for 80 columns.

In:  a `StabilityReport`.   Out: a string, without the last line break.
Guarantee: what could not be told is said, with the reason; nothing of a log reaches the terminal raw.

    run        run/stability.jsonl
    steps      600, 0 to 599; 1,843,200 tokens trained
    loss ratio highest 1.213 in step 412 (length 256); above 1.1 in 9 steps, above 1.2 in 1
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from curriculum.printable import printable_text
from curriculum.spike_score import SpikeScore
from curriculum.stability import At, Correlation, Summary
from pipeline.counted import counted
from pipeline.stability_logs import Run, StabilityReport

COLUMNS = 80
_LABEL_COLUMNS = 13


def stability_report(report: StabilityReport) -> str:
    """A block for each log; then all of them side by side."""
    blocks = ["\n".join(_block(run)) for run in report.runs]
    if len(report.runs) > 1:
        blocks.append("\n".join(_side_by_side(report.runs)))
    if report.plot is not None:
        blocks.append("\n".join(_fact("plot", report.plot)))
    return "\n\n".join(blocks)


def _block(run: Run) -> list[str]:
    found = run.summary
    lines = _fact("run", run.log)
    lines += _fact("steps", _steps(found))
    if run.num_dropped:
        dropped = counted(run.num_dropped, "record")
        lines += _fact("dropped", f"{dropped}: a later line goes back, as of a run that resumed, or of another one")
    lines += _fact("loss", "; ".join(_losses(found)) or "none in the log")
    lines += _fact("loss ratio", _ratio(found))
    for at in found.worst[1:]:
        if at.value > min(found.steps_above):
            lines += _fact("", f"then {_at(at)}")
    lines += _fact("spike score", "; ".join(_spikes(found)))
    if found.variance_l1 or found.variance_max:
        lines += _fact("variance", "; ".join(_variance(found)))
    lines += _fact("correlation", "; ".join(_correlations(found)))
    if found.best_validation and found.last_validation:
        best, last = found.best_validation, found.last_validation
        lines += _fact("validation", f"best {best.value:.4f} in step {best.step:,}; last {last.value:.4f}")
    if found.missing:
        lines += _fact("not in it", ", ".join(found.missing))
    return lines


def _steps(found: Summary) -> str:
    span = f"{found.num_steps:,}, {found.first_step:,} to {found.last_step:,}"
    if found.last_step - found.first_step + 1 > found.num_steps:
        span += " (not every step was logged)"
    return span if found.tokens is None else f"{span}; {counted(found.tokens, 'token')} trained"


def _losses(found: Summary) -> Iterator[str]:
    if found.lowest_loss is not None:
        yield f"lowest {found.lowest_loss.value:.4f} in step {found.lowest_loss.step:,}"
    if found.last_loss is not None:
        yield f"last {found.last_loss:.4f}"
    if found.divergences:
        yield f"NaN or infinite in {counted(found.divergences, 'step')}, first in step {found.first_divergence:,}"


def _ratio(found: Summary) -> str:
    if found.max_ratio is None and found.lowest_loss is not None and found.lowest_loss.value <= 0:
        return f"none: the lowest loss is {found.lowest_loss.value:.4f}, and a ratio is one of losses above 0"
    if found.max_ratio is None:
        return "none: no step has a loss, finite and with one before it"
    counts = [f"above {threshold:g} in {counted(count, 'step')}" for threshold, count in found.steps_above.items()]
    return f"highest {_at(found.max_ratio)}; {', '.join(counts)}"


def _at(at: At) -> str:
    length = "" if at.seq_len is None else f" (length {at.seq_len:,})"
    return f"{at.value:.4f} in step {at.step:,}{length}"


def _spikes(found: Summary) -> Iterator[str]:
    named = (("loss", found.loss_spikes), ("gradient norm", found.grad_norm_spikes), ("either", found.any_spikes))
    for name, score in named:
        if score.num_values or score.num_not_finite:
            yield f"{name} {_percent(score)}"


def _percent(score: SpikeScore) -> str:
    if score.score is None:
        return f"not known: {score.why_none}".removesuffix(".")
    return f"{100 * score.score:.2f} % ({score.num_spikes:,} of {score.num_values:,})"


def _variance(found: Summary) -> Iterator[str]:
    for name, at in (("L1 norm", found.variance_l1), ("largest element", found.variance_max)):
        if at is not None:
            yield f"{name} at most {at.value:.3g}, in step {at.step:,}"


def _correlations(found: Summary) -> Iterator[str]:
    both = (("variance norm", found.correlation_l1), ("variance max", found.correlation_max))
    for name, correlation in both:
        yield f"of loss ratio and {name}: {_pearson(correlation)}"


def _pearson(correlation: Correlation) -> str:
    if correlation.pearson is None:
        return (correlation.why_none or "").removesuffix(".")
    return f"{correlation.pearson:+.3f} over {counted(correlation.num_steps, 'step')}"


def _side_by_side(runs: tuple[Run, ...]) -> list[str]:
    """Numbers to compare; columns as wide as they need."""
    thresholds = list(runs[0].summary.steps_above)
    head = ["", "steps", "diverged", "max ratio", *(f"> {threshold:g}" for threshold in thresholds)]
    head += ["spikes", "max var", "validation"]
    rows = [head, *([str(number), *_cells(run.summary)] for number, run in enumerate(runs, 1))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return [*table, *(line for number, run in enumerate(runs, 1) for line in _fact(f"{number:>{widths[0]}}", run.log))]


def _cells(found: Summary) -> list[str]:
    score = found.any_spikes.score
    return [
        f"{found.num_steps:,}",
        f"{found.divergences:,}",
        "-" if found.max_ratio is None else f"{found.max_ratio.value:.3f}",
        *(f"{count:,}" for count in found.steps_above.values()),
        "-" if score is None else f"{100 * score:.2f} %",
        "-" if found.variance_max is None else f"{found.variance_max.value:.2g}",
        "-" if found.last_validation is None else f"{found.last_validation.value:.4f}",
    ]


def _fact(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        printable_text(text),
        COLUMNS,
        initial_indent=label.ljust(_LABEL_COLUMNS),
        subsequent_indent=" " * _LABEL_COLUMNS,
        break_long_words=False,
        break_on_hyphens=False,
    )
