"""A `Prober` that cuts a dataset for each candidate and trains on it with a command or a function.

In:  the options of the build, what to train with, a folder.   Out: a `ProbeRun` for each candidate.
Guarantee: what a probe prints and its log stay in a folder of its own; its dataset and checkpoints are gone when it has
ended, well or not. What a killed one has left is gone when it is run again, which waits until the training of the
killed one has ended: its guard holds the folder of all probes for so long.

    FOLDER/start00008-warmup00000300-steps00000120/log.jsonl
    FOLDER/start00008-warmup00000300-steps00000120/output.txt
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from curriculum.errors import BuildError, ConfigError
from pipeline.files.address import is_url
from pipeline.hub.names import is_hub_name
from pipeline.lock import HeldError, locked_handle
from pipeline.options import Options
from pipeline.progress import Progress
from pipeline.publish import make_folder, remove
from pipeline.tuning.candidate import Candidate, Evaluation, ProbeRun
from pipeline.tuning.probe_dataset import cut_probe
from pipeline.tuning.probe_faults import Limits
from pipeline.tuning.run_training import GRACE_SECONDS, train
from pipeline.tuning.train_command import Training
from pipeline.tuning.when_free import when_free

LOG, OUTPUT = "log.jsonl", "output.txt"
WAIT_SECONDS = GRACE_SECONDS + 10
"""For the training of a tune that was killed."""
WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetProber:
    """Trains the first steps of a candidate's full plan, on a dataset of the plan's first window: it has more steps."""

    options: Options
    """as `probe_dataset.tunable` returned them"""
    training: Training
    folder: Path
    """for the folders of all probes"""
    progress: Progress
    lr_warmup_steps: int
    validate_every: int
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Refuse a folder whose files would be taken for text of the corpus.

        Raises:
            ConfigError: it lies below the corpus.
        """
        paths = (path for source in self.options.sources() for path in source.paths)
        for path in (path for path in paths if not (is_url(path) or is_hub_name(path))):
            plain = WILDCARD.split(path, maxsplit=1)[0]
            root = Path(path) if plain == path else Path(f"{plain}x").parent
            if self.folder.resolve().is_relative_to(root.resolve()):
                raise ConfigError(
                    f"{self.folder}: lies in the corpus ({path}), so that the logs of probes would be read as text. "
                    f"Give another folder."
                )

    def __call__(self, candidate: Candidate, num_steps: int, stop_now: Callable[[Evaluation], bool], /) -> ProbeRun:
        """Train; see `pipeline.tuning.candidate.Prober`.

        Raises:
            PlanError, ConfigError: the candidate cannot be built, or its full training has fewer steps.
            BuildError: as `pipeline.build.build` and `pipeline.tuning.run_training.train`; or an earlier training goes
                on.
        """
        with _alone(self.folder, self.progress) as held:
            return self._probe(candidate, num_steps, stop_now, held)

    def _probe(
        self, candidate: Candidate, num_steps: int, stop_now: Callable[[Evaluation], bool], held: int
    ) -> ProbeRun:
        began = time.monotonic()
        folder = probe_folder(self.folder, candidate, num_steps)
        dataset, out, log = folder / "dataset", folder / "out", folder / LOG
        remove(folder)
        make_folder(out)
        try:
            probe = cut_probe(self.options, candidate, num_steps, dataset, self.progress)
            values = {
                "dataset": dataset,
                "steps": num_steps,
                "log": log,
                "out": out,
                "decay_tokens": probe.decay_tokens,
                "lr_warmup_steps": self.lr_warmup_steps,
                "validate_every": self.validate_every,
                "start_length": candidate.start_length,
                "length_warmup_steps": candidate.length_warmup_steps,
            }
            trained = train(
                self.training,
                values,
                num_steps=num_steps,
                log=log,
                output=folder / OUTPUT,
                limits=self.limits,
                stop_now=stop_now,
                progress=self.progress,
                held=(held,),
            )
        finally:
            remove(dataset)
            remove(out)
        return ProbeRun(
            evaluations=trained.evaluations,
            num_tokens=probe.full_plan.tokens_at(trained.num_steps),
            num_steps=trained.num_steps,
            stopped_early=trained.stopped_early,
            seconds=time.monotonic() - began,
        )


@contextmanager
def _alone(folder: Path, progress: Progress) -> Iterator[int]:
    """Hold the folder of all probes: no other training writes there, or is on the accelerator for one of them."""
    with ExitStack() as stack:
        try:
            held = when_free(
                lambda: stack.enter_context(locked_handle(folder, others="--out")),
                seconds=WAIT_SECONDS,
                waits=f"{folder}: waits until the training of an earlier tune has ended.",
                progress=progress,
            )
        except HeldError:
            raise BuildError(
                f"{folder}: the training of an earlier tune is still there after {WAIT_SECONDS:g} seconds. End it, "
                f"then run the same command again."
            ) from None
        yield held


def probe_folder(folder: Path, candidate: Candidate, num_steps: int) -> Path:
    """The folder of a probe."""
    start, warmup = candidate.start_length, candidate.length_warmup_steps
    return folder.absolute() / f"start{start:05d}-warmup{warmup:08d}-steps{num_steps:08d}"
