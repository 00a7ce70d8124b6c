"""`train` and `doctor`: a model on a dataset, and what reached a model."""

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
@click.option("--out", default="run", show_default=True, help="Folder of checkpoint and log; continued if it has one.")
@click.option("--layers", type=int, help="[default: 4; GPT-2 117M: 12]")
@click.option("--width", type=int, help="[default: 256; GPT-2 117M: 768]")
@click.option("--heads", type=int, help="[default: 4; GPT-2 117M: 12]")
@click.option("--lr", type=float, help="Peak learning rate.  [default: 0.001]")
@click.option("--lr-warmup-steps", type=int, help="Steps of its linear warmup.  [default: 1 % of all]")
@click.option("--lr-schedule", type=click.Choice(["cosine", "linear", "wsd"]), help="Its decay.  [default: cosine]")
@click.option("--lr-final", type=float, help="Fraction of the peak at its end.  [default: 0.1]")
@click.option("--decay-tokens", type=int, help="Trained tokens at its end.  [default: all of the dataset's]")
@click.option("--beta2", type=float, help="Of Adam's second moment.  [default: 0.95]")
@click.option("--weight-decay", type=float, help="Of matrices and embeddings.  [default: 0.1]")
@click.option("--clip", type=float, help="Most norm of the gradients.  [default: 1.0]")
@click.option("--seed", type=int, help="Of the initial weights.  [default: 0]")
@click.option(
    "--steps", type=int, help="Train up to so many, those before a resume included.  [default: all of the dataset's]"
)
@click.option("--validate-every", type=int, help="Steps.  [default: 100]")
@click.option("--validation-rows", type=int, help="Held-out rows at once.  [default: 16]")
@click.option("--save-every", type=int, help="Steps.  [default: 1000]")
@click.option("--micro-tokens", type=int, help="Inputs at once, at most: bounds memory.  [default: all of a step]")
@click.option("--log", help="File of the log.  [default: OUT/stability.jsonl]")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), help="[default: auto]")
@click.option("--bf16", is_flag=True, default=None, help="Forward and backward in bfloat16.")
@click.option("--compile", is_flag=True, default=None, help="With torch.compile: a graph per shape, or one for many.")
@click.option("--threads", type=int, help="Of a process, on the CPU.  [default: torch's]")
def train(dataset: str, as_json: bool, **flags: Any) -> None:
    """Train a GPT-2 on DATASET, and log how stable it is. The same command continues a run that was stopped.

    \b
    curriculum train my-dataset --lr 6e-4 --lr-warmup-steps 100
    curriculum train my-dataset --layers 12 --width 768 --heads 12 --bf16 --compile --micro-tokens 65536
    torchrun --standalone --nproc-per-node 8 --no-python curriculum train my-dataset --out run
    curriculum stability run/stability.jsonl
    """
    from pipeline.progress import Terminal
    from pipeline.train import is_first_process, outcome_text, require_finite, train_model

    given = {name: value for name, value in flags.items() if value is not None}
    outcome = train_model({"dataset": dataset, **given}, Terminal())
    if is_first_process():
        show(outcome, outcome_text, as_json)
    require_finite(outcome)


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
