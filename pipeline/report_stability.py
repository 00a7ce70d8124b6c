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
from itertools import groupby

from curriculum.divergence import stands_for_nan
from curriculum.printable import printable_text
from curriculum.spike_score import SpikeScore
from curriculum.stability import VARIANCES, At, Correlation, Summary, as_typed
from pipeline.counted import counted
from pipeline.stability_logs import Run, StabilityReport
from pipeline.stability_table import NAMES, number, side_by_side

COLUMNS = 80
_LABEL_COLUMNS = 13


def stability_report(report: StabilityReport) -> str:
    """A block for each log; then all of them side by side."""
    blocks = ["\n".join(_block(run)) for run in report.runs]
    if len(report.runs) > 1:
        blocks.append("\n".join(side_by_side([run.summary for run in report.runs])))
        width = len(str(len(report.runs)))
        names = (_fact(f"{place:>{width}}", run.log) for place, run in enumerate(report.runs, 1))
        blocks.append("\n".join(line for name in names for line in name))
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
    if run.caution is not None:
        lines += _fact("caution", run.caution)
    lines += _fact("loss", "; ".join(_losses(found)) or "none in the log")
    if found.divergences:
        steps = f"{counted(found.divergences, 'step')}, first in step {found.first_divergence:,}"
        lines += _fact("diverged", f"loss, validation loss or variance is NaN or infinite in {steps}{_zeros(run)}")
    if found.first_grad_norm_not_finite is not None:
        norms = counted(found.grad_norm_spikes.num_not_finite, "step")
        lines += _fact("not finite", f"gradient norm in {norms}, first in step {found.first_grad_norm_not_finite:,}")
    lines += _fact("loss ratio", _ratio(found))
    for at in found.worst[1:]:
        if at.value > min(found.steps_above):
            lines += _fact("", f"then {_at(at)}")
    lines += _fact("spike score", "; ".join(_spikes(found)))
    for label, l1, largest in (("variance", *VARIANCES[:2]), ("its root", *VARIANCES[2:])):
        named = (("L1 norm", found.variances.get(l1)), ("largest element", found.variances.get(largest)))
        highest = [f"{name} at most {number(at.value)}, in step {at.step:,}" for name, at in named if at]
        lines += _fact(label, "; ".join(highest))
    lines += _fact("correlation", "; ".join(_correlations(found)))
    lines += _fact("validation", "; ".join(_validations(found)))
    if run.not_taken:
        lines += _fact("not taken", f"{', '.join(run.not_taken)} (several evaluation sets)")
    if found.missing:
        lines += _fact("not in it", ", ".join(found.missing))
    return lines


def _steps(found: Summary) -> str:
    span = f"{found.num_steps:,}, {found.first_step:,} to {found.last_step:,}"
    if found.last_step - found.first_step + 1 > found.num_steps:
        span += " (not every step was logged)"
    return span if found.tokens is None else f"{span}; {counted(found.tokens, 'token')} trained"


def _zeros(run: Run) -> str:
    zeros = sum(map(stands_for_nan, run.records))
    return (
        f"; in {zeros:,} of them the loss is a 0 beside a gradient norm that is not finite, as Trainer makes it of NaN"
        if zeros
        else ""
    )


def _losses(found: Summary) -> Iterator[str]:
    if found.lowest_loss is not None:
        yield f"lowest {found.lowest_loss.value:.4f} in step {found.lowest_loss.step:,}"
    if found.last_loss is not None:
        yield f"last {found.last_loss:.4f}"


def _validations(found: Summary) -> Iterator[str]:
    if found.best_validation is not None:
        yield f"best {found.best_validation.value:.4f} in step {found.best_validation.step:,}"
    if found.last_validation is not None:
        yield f"last {found.last_validation.value:.4f}"


def _ratio(found: Summary) -> str:
    if found.max_ratio is None and found.lowest_loss is not None and found.lowest_loss.value <= 0:
        return f"none: the lowest loss is {found.lowest_loss.value:.4f}, and a ratio is one of losses above 0"
    if found.max_ratio is None:
        return "none: no step has a loss, finite and with one before it"
    steps = ((as_typed(threshold), counted(count, "step")) for threshold, count in found.steps_above.items())
    counts = [f"above {threshold} in {count}" for threshold, count in steps]
    text = f"highest {_at(found.max_ratio)}; {', '.join(counts)}"
    if not found.steps_without_ratio:
        return text
    return f"{text}; none in {counted(found.steps_without_ratio, 'step')}, as a loss before was 0 or less"


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


def _correlations(found: Summary) -> Iterator[str]:
    """Of the variances that the log has, those over equally many steps together; then why others have none."""

    def over(named: tuple[str, Correlation]) -> tuple[str, int]:
        return named[1].why_none or "", named[1].num_steps

    known = [(NAMES[key], found.correlations[key]) for key in VARIANCES if key not in found.missing]
    for (why, num_steps), group in groupby(sorted(known, key=over), key=over):
        if not why:
            values = ", ".join(f"{name} {correlation.pearson:+.3f}" for name, correlation in group)
            yield f"with the loss ratio over {counted(num_steps, 'step')}: {values}"
        else:
            yield f"{', '.join(name for name, _ in group)}: {why.removesuffix('.')}"


def _fact(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        printable_text(text),
        COLUMNS,
        initial_indent=label.ljust(_LABEL_COLUMNS),
        subsequent_indent=" " * _LABEL_COLUMNS,
        break_long_words=False,
        break_on_hyphens=False,
    )
