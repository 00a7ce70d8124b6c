"""`stability`: how stable training runs were."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.commands.parameters import as_json_option
from pipeline.commands.results import show


@click.command()
@click.argument("logs", metavar="LOG...", nargs=-1, required=True)
@as_json_option
@click.option(
    "--threshold",
    "thresholds",
    type=float,
    multiple=True,
    help="Count steps whose loss ratio is above; again for more.",
)
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw the runs into this .svg or .png.")
@click.option(
    "--over",
    type=click.Choice(["steps", "tokens"]),
    help="What the picture goes along.  [default: tokens for several logs that all have them, else steps]",
)
def stability(
    logs: tuple[str, ...], as_json: bool, thresholds: tuple[float, ...], plot: Path | None, over: str | None
) -> None:
    """How stable was each run: loss ratio, spikes, Adam's variance, and how they go together?

    LOG is what `curriculum train` and the StabilityCallback of Trainer and Lightning write, or JSON lines with a step
    and a loss of any trainer, or the trainer_state.json of a Hugging Face Trainer.

    \b
    curriculum stability run/stability.jsonl
    curriculum stability baseline.jsonl warmup.jsonl --plot both.svg
    curriculum stability run/stability.jsonl --threshold 1.3 --json
    """
    from curriculum.stability import THRESHOLDS
    from pipeline.report_stability import stability_report
    from pipeline.stability_logs import report_stability

    show(report_stability(logs, plot, thresholds or THRESHOLDS, over), stability_report, as_json)
