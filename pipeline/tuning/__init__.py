"""The paper's tuning strategy: which start length, and how long a warmup, from a small part of the training.

    from pipeline.tuning import tune

    result = tune(
        {"corpus": ("corpus/",), "max_length": 1024, "tokens": 10**10},  # options of a build
        train="python train.py --data {dataset} --steps {steps} --log {log} --decay-tokens {decay_tokens}",
        # train may be a function, too; or prober=...
        lr_warmup_steps=1000,
        out="my-tune",
    )
    result.found      Candidate(start_length=16, length_warmup_steps=21000)

Read in this order: `candidate.py` (what is tried, and what trying it tells: the seam between the search and whatever
trains); `fluctuation.py` (when perplexity fluctuates), `search.py` (what to try next) and `settings.py`, all pure;
`when_free.py` (others may hold the store), `probe_dataset.py` (the first steps of a candidate's full plan as a
dataset), `train_command.py`, `called.py`, `run_callable.py`, `guard.py`, `follow_log.py`, `probe_log.py`,
`probe_faults.py`, `run_training.py` and `prober.py` (training on it in a process that is watched), `train_with.py`;
`bounds.py` (where to search), `state.py` (what a killed tune goes on with), `result.py`, `tuned_config.py` (the TOML
of the answer), `draw_tune.py`, `write_result.py`, and `tuner.py`, the wiring.
`pipeline/report_tune.py` is the table for a terminal: `print(tune_report(result))`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.tuning.candidate import Candidate, Evaluation, Prober, ProbeRun
from pipeline.tuning.probe_faults import Limits
from pipeline.tuning.result import TuneResult

if TYPE_CHECKING:
    from pipeline.progress import Progress

__all__ = ["Candidate", "Evaluation", "Limits", "ProbeRun", "Prober", "TuneResult", "tune"]


def tune(
    options: Mapping[str, Any],
    *,
    lr_warmup_steps: int,
    out: str | Path = "curriculum-tune",
    train: str | Callable[..., object] | None = None,
    prober: Prober | None = None,
    overwrite: bool = False,
    limits: Limits | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> TuneResult:
    """Find the start length and the duration of the length warmup, as `curriculum tune` does.

    Args:
        options: of the build, by the names of its flags with underscores; neither `frac` nor `length_warmup_steps`.
        lr_warmup_steps: of the learning rate, which the windows of a probe are multiples of.
        out: folder of the tune.
        train: what trains a probe: a command line with `{dataset}`, `{steps}` and `{log}`, or a function with
            these parameters, and more of the placeholders of a command where it names them, at the top of a module or
            script that is a file; either is run in a process of its own.
        prober: instead of `train`: called in this process, as `pipeline.tuning.candidate.Prober` says.
        overwrite: begin anew: finished probes in the folder are dropped, also those of the same tune.
        limits: how long a probe may take.
        progress: where it is shown, such as `pipeline.progress.Terminal()`; nowhere unless given.
        settings: `fluctuation`, `beginning_steps`, `probe_steps`, `validations`, `least_length_warmup_steps`,
            `most_length_warmup_steps`, `resolution_steps`, `params`, as the flags.

    A function and a prober are known by their names alone: who changes what they do gives `overwrite`, too.

    Raises:
        PlanError, ConfigError: the request cannot work.
        BuildError: a probe failed or cannot be judged; called again, the tune goes on.
        DataError: what an earlier call has left in the folder is damaged.
    """
    from curriculum.errors import ConfigError  # importing the package loads no stage
    from pipeline.option_sources import load_options
    from pipeline.progress import Once, Silent
    from pipeline.tuning.settings import settings_of
    from pipeline.tuning.train_with import own_prober, train_with
    from pipeline.tuning.tuner import TuneRequest, run_tune

    if (train is None) == (prober is None):
        raise ConfigError("Give either train (a command or a function) or prober.")
    progress = Once(progress or Silent())
    asked = settings_of(lr_warmup_steps, settings)
    if prober is not None:
        trains = own_prober(prober)
    else:
        assert train is not None
        trains = train_with(train, settings=asked, folder=Path(out), limits=limits or Limits(), progress=progress)
    request = TuneRequest(
        options=load_options(None, options), settings=asked, folder=Path(out), trains=trains, overwrite=overwrite
    )
    return run_tune(request, progress)
