"""What probes are trained with, as people say it: a command, a function, or a prober of their own.

In:  a template of a command line, or a callable.   Out: `TrainWith`: its name for the state, and what makes the prober.
Guarantee: what cannot be run is refused here, before anything is tokenized.

    train_with("python train.py --data {dataset} --steps {steps} --log {log}", ...)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.options import Options
from pipeline.progress import Progress
from pipeline.tuning.candidate import Prober
from pipeline.tuning.probe_faults import Limits
from pipeline.tuning.prober import DatasetProber
from pipeline.tuning.run_callable import training_function
from pipeline.tuning.settings import TuneSettings
from pipeline.tuning.train_command import training_command

TrainingFunction = Callable[..., object]
"""`train(dataset, steps, log)`, and more by name, as docs/tuning.md says it."""
PROBES_FOLDER = "probes"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainWith:
    """What trains the probes."""

    name: str
    """a tune is continued with what it was begun with"""
    prober_of: Callable[[Options], Prober]
    """makes the prober, of the options that all probes share"""


def train_with(
    train: str | TrainingFunction, *, settings: TuneSettings, folder: Path, limits: Limits, progress: Progress
) -> TrainWith:
    """A command or a function, each probe in a process of its own, on a dataset cut for it.

    Args:
        train: the one or the other.
        settings: of the tune.
        folder: of the tune.
        limits: how long a probe may take.
        progress: where it is shown.

    Raises:
        ConfigError: it cannot be run so.
    """
    training = training_command(train) if isinstance(train, str) else training_function(train)
    if not training.takes("decay_tokens"):
        progress.say(
            f"{training.name[0].upper()}{training.name[1:]} is not told decay_tokens: a learning rate that decays over "
            f"the steps of a probe falls too soon, and everything looks steadier than it is. Take it, unless the rate "
            f"is constant or knows the steps of the full training."
        )

    def prober_of(options: Options) -> Prober:
        return DatasetProber(
            options=options,
            training=training,
            folder=folder / PROBES_FOLDER,
            progress=progress,
            lr_warmup_steps=settings.lr_warmup_steps,
            validate_every=settings.rule.validate_every,
            limits=limits,
        )

    return TrainWith(name=train if isinstance(train, str) else training.name, prober_of=prober_of)


def own_prober(prober: Prober) -> TrainWith:
    """A prober of people's own: called in this process, with candidates and no dataset."""
    name = getattr(prober, "__qualname__", type(prober).__qualname__)
    return TrainWith(name=f"prober {name}", prober_of=lambda options: prober)
