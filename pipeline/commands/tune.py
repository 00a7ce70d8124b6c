"""`tune`: which start length and duration to build with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipeline.cli_options import IMPORTERS, GroupedHelp, plan_options
from pipeline.commands.parameters import options_of
from pipeline.commands.results import show

_SETTINGS = (
    ("--params", int, "Parameters of the model: the search begins at 64 from a billion on.  [default: at 8]"),
    ("--fluctuation", float, "Perplexity above so many times its best so far is significant.  [default: 1.3]"),
    ("--beginning-steps", int, "The very beginning: so many first steps.  [default: LR warmup]"),
    ("--probe-steps", int, "Steps that a probe trains and is judged by.  [default: 3 x LR warmup]"),
    ("--validations", int, "In the very beginning, and no fewer after it.  [default: 20, or after each step]"),
    ("--least-length-warmup-steps", int, "The shortest duration; starts are tried with it.  [default: 3 x LR warmup]"),
    ("--most-length-warmup-steps", int, "The longest duration.  [default: 0.8 of the steps]"),
    ("--resolution-steps", int, "Steps between durations that are told apart.  [default: LR warmup]"),
)
_SEARCHED = ("frac", "length_warmup_steps", "length_warmup_tokens", "phases", "balanced", "cycles")
"""Flags of a plan that a tune has no use for."""


def _without_searched(command: click.Command) -> click.Command:
    gone = {*_SEARCHED, *(f"from_{name.replace('-', '_')}" for name in IMPORTERS)}
    command.params = [parameter for parameter in command.params if parameter.name not in gone]
    return command


def _settings_options(command: Any) -> Any:
    for flag, kind, help_text in reversed(_SETTINGS):
        command = click.option(flag, type=kind, default=None, help=help_text)(command)
    return command


@_without_searched
@click.command(cls=GroupedHelp)
@plan_options
@click.option(
    "--train-cmd",
    required=True,
    help="What trains a probe: a command line with {dataset}, {steps} and {log}; {lr_warmup_steps}, {decay_tokens}, "
    "{validate_every}, {out}, {start_length} and {length_warmup_steps} stand for more. No shell reads it.",
)
@click.option("--lr-warmup-steps", type=int, required=True, help="Steps of the learning-rate warmup of the training.")
@_settings_options
@click.option("--probe-timeout", type=float, default=None, help="Seconds that a probe may take.  [default: no limit]")
@click.option("--stall-timeout", type=float, default=None, help="Seconds that its log may stand still.  [default: 600]")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("curriculum-tune"),
    help="Folder of the tune.  [default: ./curriculum-tune]",
)
@click.option("--overwrite", is_flag=True, help="Begin anew: finished probes in the folder are dropped.")
def tune(
    config: Path | None,
    as_json: bool,
    train_cmd: str,
    lr_warmup_steps: int,
    probe_timeout: float | None,
    stall_timeout: float | None,
    out: Path,
    overwrite: bool,
    **flags: Any,
) -> None:
    """Find start length and duration of the warmup with short probes, as the authors of the method do.

    The start is raised while validation perplexity fluctuates at the very beginning; then the longest duration without
    a significant fluctuation is searched. The same command, less
    --overwrite, goes on with a tune that was interrupted.

    \b
    curriculum tune corpus/ --tokenizer tokenizer.json --max-length 1024 --tokens 10_000_000_000 \\
      --lr-warmup-steps 1000 \\
      --train-cmd 'curriculum train {dataset} --out {out} --log {log} --steps {steps} --decay-tokens {decay_tokens}
                   --lr-warmup-steps {lr_warmup_steps} --validate-every {validate_every}'
    curriculum tune --config run.toml --lr-warmup-steps 3000 --params 1500000000 \\
      --train-cmd 'bash train.sh {dataset} {steps} {log} {decay_tokens}' --out my-tune
    curriculum build --config my-tune/tuned.toml --out my-dataset
    """
    from pipeline.progress import Once, Terminal
    from pipeline.report_tune import tune_report
    from pipeline.tuning.probe_faults import Limits
    from pipeline.tuning.settings import TuneSettings
    from pipeline.tuning.train_with import train_with
    from pipeline.tuning.tuner import TuneRequest, run_tune

    said = {
        name: value for flag, _, _ in _SETTINGS if (value := flags.pop(name := flag[2:].replace("-", "_"))) is not None
    }
    seconds = {"total_seconds": probe_timeout, "stall_seconds": stall_timeout}
    limits = Limits(**{name: value for name, value in seconds.items() if value is not None})
    settings = TuneSettings(lr_warmup_steps=lr_warmup_steps, **said)
    progress = Once(Terminal())
    request = TuneRequest(
        options=options_of(config, flags),
        settings=settings,
        folder=out,
        trains=train_with(train_cmd, settings=settings, folder=out, limits=limits, progress=progress),
        overwrite=overwrite,
    )
    result = run_tune(request, progress)
    show(result, tune_report, as_json)
    if result.found is None:
        click.get_current_context().exit(1)
