"""`doctor`: what reached a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipeline.commands.parameters import as_json_option, dataset_argument
from pipeline.commands.results import show

_TRAINERS = ("torch", "hf", "accelerate", "lightning", "deepspeed", "torchtitan", "jax")


@click.command()
@dataset_argument
@as_json_option
@click.option(
    "--check", "logs", type=click.Path(path_type=Path), multiple=True, help="Log of a run; again for resumes."
)
@click.option(
    "--start-step", type=click.IntRange(min=0), default=None, help="With --check: where it began.  [default: 0]"
)
@click.option("--saved-at", type=int, multiple=True, help="With --check: step of the checkpoint of each resume.")
@click.option("--trainer", type=click.Choice(_TRAINERS), default=None, help="Start this trainer on CPU processes.")
@click.option("--steps", type=int, default=None, help="Steps to train; the stop is in the middle.  [default: 12]")
@click.option("--world-size", type=int, default=None, help="Processes.  [default: 2]")
@click.option("--resume-world-size", type=int, default=None, help="Processes after the stop.  [default: as before]")
@click.option("--micro-batches", type=int, default=None, help="Micro-batches per step and process.  [default: 1]")
@click.option("--keep", type=click.Path(path_type=Path), default=None, help="Keep logs and checkpoint in this folder.")
@click.option("--timeout", "timeout_seconds", type=float, default=None, help="Seconds for each run.  [default: 600]")
def doctor(dataset: str, as_json: bool, **flags: Any) -> None:
    """Did the rows of DATASET reach the model: all of them, once, in order, with their labels?

    \b
    curriculum doctor --trainer hf my-dataset                    train, stop, resume; compare with the plan
    curriculum doctor --trainer torch --steps 40 --resume-world-size 4 my-dataset
    CURRICULUM_DOCTOR_LOG=log/1 torchrun my_train.py             your own loop, with curriculum.doctor.record(batch)
    curriculum doctor --check log/1 --check log/2 my-dataset     the run and its resume
    """
    from pipeline.doctor import examine
    from pipeline.progress import Terminal
    from pipeline.report_doctor import doctor_report

    report = examine(dataset, {name: value for name, value in flags.items() if value not in (None, ())}, Terminal())
    show(report, doctor_report, as_json)
    if not report.ok:
        click.get_current_context().exit(1)
