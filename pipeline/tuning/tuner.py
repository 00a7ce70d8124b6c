"""The wiring of a tune: plans from the store, the search, the prober, the state, the files at the end.

In:  the options of a build, settings, something to train with, a folder.   Out: `TuneResult`, its files in the folder.
Guarantee: the number of probes is told before the first. After each the state is on the disk, so the same command goes
on where a tune was killed, and a finished one is shown again without training.

    FOLDER/tune.json      the finished probes          FOLDER/tuned.toml     for `curriculum build --config`
    FOLDER/probes/        what each printed, its log   FOLDER/tune.svg       the picture
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curriculum.errors import BuildError
from pipeline.build_identity import build_identity
from pipeline.lock import locked
from pipeline.options import Options
from pipeline.progress import Progress
from pipeline.store import ALGORITHM
from pipeline.tuning.bounds import search_space, starts_of, tokenized_corpus
from pipeline.tuning.candidate import Candidate, Prober
from pipeline.tuning.fluctuation import Judgement, Verdict, Watch, judge
from pipeline.tuning.probe_dataset import tunable
from pipeline.tuning.result import JudgedProbe, TuneResult
from pipeline.tuning.search import Answer, Probe, SearchSpace, next_move
from pipeline.tuning.settings import TuneSettings, refuse_searched
from pipeline.tuning.state import FinishedProbe, open_state, save_state
from pipeline.tuning.train_with import TrainWith
from pipeline.tuning.write_result import forget_result, write_result


@dataclass(frozen=True, kw_only=True, slots=True)
class TuneRequest:
    """Everything that a tune is asked for."""

    options: Options
    settings: TuneSettings
    folder: Path
    trains: TrainWith
    overwrite: bool = False


def run_tune(request: TuneRequest, progress: Progress) -> TuneResult:
    """Search, or go on with a search that was interrupted.

    Raises:
        PlanError, ConfigError: the request cannot work.
        BuildError: a probe failed or cannot be judged; running again goes on with those that are finished.
    """
    refuse_searched(request.options)
    options = tunable(request.options, progress.say)
    starts = starts_of(options, request.settings)
    prober = request.trains.prober_of(options)
    with locked(request.folder, others="--out"):
        corpus = tokenized_corpus(options, request.settings, starts[0], progress)
        space = search_space(options, request.settings, starts, progress.say)
        asked = _asked(request, options, corpus)
        finished = open_state(request.folder, asked, overwrite=request.overwrite)
        answer, probes = _search(request, asked, space, finished, prober, progress)
        return write_result(request.folder, options, space, request.settings.rule, answer, probes)


def _asked(request: TuneRequest, options: Options, corpus: Mapping[str, Any]) -> dict[str, Any]:
    """What two tunes must have in common, so that probes of one count in the other."""
    begins = replace(options, start_length=request.settings.first_start(options))
    build = {name: value for name, value in build_identity(begins).items() if name != "frac"}
    own = {"trains": request.trains.name, "algorithm": ALGORITHM}
    return {**build, **request.settings.to_json(), **corpus, **own}


def _search(
    request: TuneRequest,
    asked: Mapping[str, Any],
    space: SearchSpace,
    finished: tuple[FinishedProbe, ...],
    prober: Prober,
    progress: Progress,
) -> tuple[Answer, tuple[JudgedProbe, ...]]:
    rule = request.settings.rule
    probes = {one.candidate: _judged(one, judge(one.run.evaluations, rule)) for one in finished}
    progress.say(_announced(space, rule.probe_steps, rule.validate_every, len(probes)))
    while isinstance(move := next_move(space, _verdicts(probes)), Probe):
        candidate, number = move.candidate, len(probes) + 1
        name = f"probe {number} of at most {space.most_probes}, {_named(candidate)}"
        progress.say(f"{name[0].upper()}{name[1:]}: begins.")
        run = prober(candidate, rule.probe_steps, Watch(rule))
        try:
            judgement = judge(run.evaluations, rule)
        except BuildError as error:
            raise BuildError(f"{name}, cannot be judged: {error}") from None
        probes[candidate] = _judged(FinishedProbe(candidate=candidate, run=run), judgement)
        done = [FinishedProbe(candidate=one.candidate, run=one.run) for one in probes.values()]
        forget_result(request.folder)
        save_state(request.folder, asked, done)
        progress.say(f"{name[0].upper()}{name[1:]}: {_in_words(judgement)}.")
    return move, tuple(probes.values())


def _judged(probe: FinishedProbe, judgement: Judgement) -> JudgedProbe:
    return JudgedProbe(candidate=probe.candidate, run=probe.run, judgement=judgement)


def _verdicts(probes: Mapping[Candidate, JudgedProbe]) -> dict[Candidate, Verdict]:
    return {candidate: probe.judgement.verdict for candidate, probe in probes.items()}


def _announced(space: SearchSpace, probe_steps: int, validate_every: int, num_done: int) -> str:
    lengths = ", ".join(str(start.length) for start in space.starts)
    most = max(start.most_length_warmup_steps for start in space.starts)
    went_on = f" Finished in an earlier run: {num_done}." if num_done else ""
    return (
        f"Starts {lengths}; warmups of {space.least_length_warmup_steps:,} to {most:,} steps, every "
        f"{space.resolution_steps:,}: at most {space.most_probes} probes of {probe_steps:,} steps, validated at least "
        f"every {validate_every}.{went_on}"
    )


def _named(candidate: Candidate) -> str:
    return f"start {candidate.start_length}, warmup {candidate.length_warmup_steps:,} steps"


def _in_words(judgement: Judgement) -> str:
    if judgement.step is None:
        return f"{judgement.verdict}, perplexity never above {judgement.ratio:.2f} times its best"
    return f"{judgement.verdict}, perplexity {judgement.ratio:.2f} times its best at step {judgement.step:,}"
