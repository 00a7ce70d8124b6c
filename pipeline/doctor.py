"""`curriculum doctor`: compare the logs of a run with the plan, or start a trainer, stop it, resume it and compare.

In:  a dataset and logs, or the name of a trainer.   Out: `DoctorReport`.
Guarantee: a trainer is started as a user starts it (torchrun, the script of docs/trainers.md), on CPUs; whatever was
started has ended when a function returns, on errors and interrupts too; without `keep` nothing is left on disk.

    diagnose(TrainerRequest(dataset="my-dataset", trainer="hf"), Silent()).ok        True: 2 ranks, stop at 6, on to 12
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import curriculum
from curriculum.doctor.check import DoctorReport, check_runs
from curriculum.doctor.run_log import load_run
from curriculum.errors import ConfigError
from curriculum.reader import Reader
from pipeline.launch import Launch, run_to_end
from pipeline.progress import Progress

TRAINERS = {
    "torch": ("torch", "pip install 'seqlen-curriculum[torch]'"),
    "hf": ("transformers accelerate", "pip install 'seqlen-curriculum[trainers]'"),
    "accelerate": ("transformers accelerate", "pip install 'seqlen-curriculum[trainers]'"),
    "lightning": ("lightning", "pip install 'seqlen-curriculum[trainers]'"),
    "deepspeed": ("deepspeed", "pip install deepspeed"),
    "torchtitan": ("torchtitan", "pip install 'datasets<4.8' torchtitan, in an environment of its own"),
    "jax": ("jax", "pip install jax torch (for torchrun)"),
}
"""What each trainer imports, and how to get it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainerRequest:
    """Which trainer to start, and how."""

    dataset: str
    trainer: str
    """a key of `TRAINERS`"""
    steps: int = 12
    """steps to train in all, fewer if the dataset has fewer; the stop is in the middle"""
    world_size: int = 2
    resume_world_size: int | None = None
    """processes of the second run; None: as many as of the first"""
    micro_batches: int = 1
    """per step and rank"""
    keep: Path | None = None
    """folder for logs and checkpoint; None: a temporary one"""
    timeout_seconds: float = 600.0
    """for each of the two runs"""


def examine(dataset: str, flags: Mapping[str, Any], progress: Progress) -> DoctorReport:
    """What the command line asks for: `logs` or `trainer`, and options of that one only.

    Raises:
        ConfigError: neither or both of them, or an option of the other one. Else as `check_logs` and `diagnose`.
    """
    options = dict(flags)
    logs, trainer = options.pop("logs", ()), options.pop("trainer", None)
    if bool(logs) == bool(trainer):
        raise ConfigError("give --check LOG, once for each run, or --trainer NAME, and not both.")
    of_logs = {"start_step", "saved_at"}
    strange = sorted(name for name in options if (name in of_logs) != bool(logs))
    if strange:
        flag, other = strange[0].removesuffix("_seconds").replace("_", "-"), "--trainer" if logs else "--check"
        raise ConfigError(f"--{flag} belongs to {other}; leave it out.")
    if logs:
        return check_logs(dataset, logs, **options)
    return diagnose(TrainerRequest(dataset=dataset, trainer=trainer, **options), progress)


def check_logs(
    dataset: str, logs: Sequence[Path], *, start_step: int = 0, saved_at: Sequence[int] | None = None
) -> DoctorReport:
    """Compare a run and its resumes with the dataset.

    Args:
        dataset: what `curriculum.open` takes.
        logs: folders that CURRICULUM_DOCTOR_LOG named, in the order of the runs.
        start_step: where the first run began.
        saved_at: step of the checkpoint that each further run loaded, if it is known.

    Raises:
        DataError: a log or the dataset cannot be read.
        ConfigError: steps that the dataset does not have.
    """
    runs = [load_run(log) for log in logs]
    return check_runs(curriculum.open(dataset), runs, start_step=start_step, resumed_at=saved_at)


def diagnose(request: TrainerRequest, progress: Progress) -> DoctorReport:
    """Train to the middle, end, resume to the last step, and compare both runs with the plan.

    Raises:
        ConfigError: a library is missing, or processes and micro-batches do not divide the dataset's rows.
        CurriculumError: the trainer failed or took too long; the message ends with what it printed.
    """
    _require_library(request.trainer)
    reader = curriculum.open(request.dataset)
    stops = _stops(request, reader)
    sizes = (request.world_size, request.resume_world_size or request.world_size)
    with _folder(request.keep) as name:
        folder = Path(name)
        for number, (stop, world_size) in enumerate(zip(stops, sizes, strict=True), 1):
            launch = Launch(
                name=f"{request.trainer}, run {number} of 2",
                module=f"curriculum.examples.train_{request.trainer}",
                arguments=_arguments(request, folder, stop),
                world_size=world_size,
                folder=folder,
                log=folder / f"run-{number}",
                num_calls=(stop - (stops[0] if number == 2 else 0)) * request.micro_batches,
                timeout_seconds=request.timeout_seconds,
            )
            run_to_end(launch, progress)
        runs = [load_run(folder / "run-1"), load_run(folder / "run-2")]
        return check_runs(reader, runs, resumed_at=stops[:1], stop_steps=stops, trainer=request.trainer)


def _arguments(request: TrainerRequest, folder: Path, stop: int) -> tuple[str, ...]:
    dataset = request.dataset if "://" in request.dataset else str(Path(request.dataset).resolve())
    arguments = (dataset, "--checkpoint", str(folder / "checkpoint"), "--stop-before", str(stop))
    return arguments if request.micro_batches == 1 else (*arguments, "--micro-batches", str(request.micro_batches))


def _require_library(trainer: str) -> None:
    imported, install = TRAINERS[trainer]
    missing = [name for name in ("torch", *imported.split()) if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"--trainer {trainer} needs {' and '.join(missing)}, not installed here; run: {install}")


def _stops(request: TrainerRequest, reader: Reader) -> tuple[int, int]:
    """Steps before which the two runs end."""
    last = min(request.steps, len(reader))
    if last < 2:
        raise ConfigError(f"a run that stops and resumes has at least 2 steps, not {last}; give more --steps.")
    middle = last // 2
    sizes = ((request.world_size, 0), (request.resume_world_size or request.world_size, middle))
    for world_size, step in sizes:
        divisors = reader.plan.divisors(step)
        if world_size < 1 or request.micro_batches < 1 or world_size * request.micro_batches not in divisors:
            raise ConfigError(
                f"{request.dataset}: {world_size} processes x {request.micro_batches} micro-batches do not divide the "
                f"rows per step of every phase from step {step} on. Products that do: "
                f"{', '.join(map(str, divisors))}. Choose --world-size, --resume-world-size and --micro-batches so."
            )
    return middle, last


def _folder(keep: Path | None) -> AbstractContextManager[str]:
    if keep is None:
        return tempfile.TemporaryDirectory(prefix="curriculum-doctor-", ignore_cleanup_errors=True)
    if keep.exists() and any(keep.iterdir()):
        raise ConfigError(f"--keep {keep}: the folder is not empty; name a new one.")
    keep.mkdir(parents=True, exist_ok=True)
    return nullcontext(str(keep.resolve()))
