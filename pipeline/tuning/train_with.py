"""What probes are trained with, as people say it: a command, a function, or a prober of their own.

In:  a template of a command line, or a callable.   Out: `TrainWith`: its name for the state, and what makes the prober.
Guarantee: what cannot be run is refused here, before anything is tokenized.

    train_with("train.py --data {dataset} --steps {steps} --log {log} --warmup {lr_warmup_steps}", ...)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.options import Options
from pipeline.progress import Progress
from pipeline.tuning.candidate import Prober
from pipeline.tuning.prober import DatasetProber
from pipeline.tuning.run_callable import training_function
from pipeline.tuning.run_command import Limits, Training, training_command

TrainingFunction = Callable[[str, int, str], object]
"""`train(dataset, steps, log)`, as docs/tuning.md says it."""
PROBES_FOLDER = "probes"
LR_WARMUP = "{lr_warmup_steps}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainWith:
    """What trains the probes."""

    name: str
    """a tune is continued with what it was begun with"""
    prober_of: Callable[[Options], Prober]
    """makes the prober, of the options that all probes share"""


def train_with(
    train: str | TrainingFunction, *, lr_warmup_steps: int, folder: Path, limits: Limits, progress: Progress
) -> TrainWith:
    """A command or a function, each probe in a process of its own, on a dataset cut for it.

    Raises:
        ConfigError: it cannot be run so.
    """
    if isinstance(train, str):
        name, training = train, training_command(train.replace(LR_WARMUP, str(lr_warmup_steps)))
    else:
        training = training_function(train)
        name = training.name

    def prober_of(options: Options) -> Prober:
        return _prober(options, training, folder, limits, progress)

    return TrainWith(name=name, prober_of=prober_of)


def own_prober(prober: Prober) -> TrainWith:
    """A prober of people's own: called in this process, with candidates and no dataset."""
    name = getattr(prober, "__qualname__", type(prober).__qualname__)
    return TrainWith(name=f"prober {name}", prober_of=lambda options: prober)


def _prober(options: Options, training: Training, folder: Path, limits: Limits, progress: Progress) -> Prober:
    return DatasetProber(
        options=options, training=training, folder=folder / PROBES_FOLDER, limits=limits, progress=progress
    )
