"""The wiring of a tune: plans from the store, the search, the prober, the state, the files at the end.

In:  the options of a build, settings, something to train with, a folder.   Out: `TuneResult`, its files in the folder.
Guarantee: the number of probes is told before the first. After each the state is on the disk, so the same command goes
on where a tune was killed, and a finished one is shown again without training. With other bounds it goes on, too, and
the search goes by the probes that are there.

    FOLDER/tune.json      the finished probes          FOLDER/tuned.toml     for `curriculum build --config`
    FOLDER/probes/        what each printed, its log   FOLDER/tune.svg       the picture
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curriculum.errors import BuildError, ConfigError
from curriculum.manifest import FILE_NAME
from pipeline.build_identity import build_identity
from pipeline.counted import counted
from pipeline.files.address import is_url
from pipeline.interruption import continued_by
from pipeline.lock import locked
from pipeline.options import Options
from pipeline.progress import Progress
from pipeline.store import ALGORITHM
from pipeline.tuning.bounds import search_space, starts_of
from pipeline.tuning.candidate import Candidate, Prober, require_run
from pipeline.tuning.fluctuation import Judgement, Rule, Verdict, Watch, judge
from pipeline.tuning.probe_dataset import full_plan, tunable
from pipeline.tuning.result import JudgedProbe, TuneResult
from pipeline.tuning.search import Answer, Probe, SearchSpace, gone_by, most_more, next_move
from pipeline.tuning.settings import TuneSettings, refuse_searched
from pipeline.tuning.state import STATE_NAME, FinishedProbe, damaged, open_state, save_state
from pipeline.tuning.train_with import TrainWith
from pipeline.tuning.tuned_config import tuned_config
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
        DataError: the state is damaged.
    """
    refuse_searched(request.options)
    options = tunable(request.options, progress.say)
    starts = starts_of(options, request.settings)
    tuned_config(options, Candidate(start_length=starts[0], length_warmup_steps=1), ())  # can it be written?
    _require_free(request.folder, options.store_address())
    prober = request.trains.prober_of(options)
    rule = request.settings.rule
    with locked(request.folder, others="--out"):
        space, corpus = search_space(options, request.settings, starts, progress)
        asked = _asked(request, options, corpus)
        finished = open_state(request.folder, asked, overwrite=request.overwrite, say=progress.say)
        probes = {one.candidate: _judged_again(one, rule, request.folder / STATE_NAME) for one in finished}
        try:
            answer = _search(request, asked, space, probes, prober, progress)
        except BaseException:
            if request.overwrite and probes:
                progress.say(
                    f"{request.folder}: has {counted(len(probes), 'finished probe')} of this tune, which --overwrite "
                    f"would drop: leave it out to go on."
                )
            raise
        used = gone_by(space, _verdicts(probes))
        result = TuneResult(
            folder=request.folder,
            answer=answer,
            probes=tuple(probe for candidate, probe in probes.items() if candidate in used),
            other_probes=tuple(probe for candidate, probe in probes.items() if candidate not in used),
            lr_warmup_steps=request.settings.lr_warmup_steps,
            rule=rule,
            space=space,
            full_plan=full_plan(options, answer.candidate, progress).plan,
        )
        return write_result(result, options)


def _require_free(folder: Path, store: str) -> None:
    """Refuse a folder of something else, before it is waited for until it is free: the store is, for an hour.

    Raises:
        ConfigError: it is the token store, lies in it, or holds a dataset.
    """
    if not is_url(store) and folder.resolve().is_relative_to(Path(store).resolve()):
        raise ConfigError(f"out is {folder} and store is {store}: a tune has a folder of its own; give another --out.")
    if (folder / FILE_NAME).exists():
        raise ConfigError(f"{folder}: holds a dataset; give another folder to the tune with --out.")


def _asked(request: TuneRequest, options: Options, corpus: Mapping[str, Any]) -> dict[str, Any]:
    """What two tunes must have in common, so that probes of one count in the other: all but where they search."""
    begins = replace(options, start_length=options.alignment)  # any, the same for all
    build = {name: value for name, value in build_identity(begins).items() if name not in SEARCHED_FOR}
    own = {"trains": request.trains.name, "algorithm": ALGORITHM}
    return {**build, **request.settings.to_json(), **corpus, **own}


SEARCHED_FOR = ("frac", "start_length")


def _search(
    request: TuneRequest,
    asked: Mapping[str, Any],
    space: SearchSpace,
    probes: dict[Candidate, JudgedProbe],
    prober: Prober,
    progress: Progress,
) -> Answer:
    """Train what the search asks for; the probes grow by it."""
    rule = request.settings.rule
    num_done, most = len(gone_by(space, _verdicts(probes))), most_more(space, _verdicts(probes))
    progress.say(_announced(space, rule, num_done, most))
    while isinstance(move := next_move(space, _verdicts(probes)), Probe):
        candidate, number = move.candidate, len(gone_by(space, _verdicts(probes))) + 1
        name = f"probe {number} of at most {num_done + most}, {_named(candidate)}"
        progress.say(f"{name[0].upper()}{name[1:]}: begins.")
        run = prober(candidate, rule.probe_steps, Watch(rule))
        try:
            judgement = judge(require_run(run).evaluations, rule)
        except BuildError as error:
            raise BuildError(f"{name}, cannot be judged: {error}") from None
        probes[candidate] = JudgedProbe(candidate=candidate, run=run, judgement=judgement)
        done = [FinishedProbe(candidate=one.candidate, run=one.run) for one in probes.values()]
        forget_result(request.folder)
        save_state(request.folder, asked, done)
        if request.overwrite:
            continued_by("Run the same command again without --overwrite to continue.")
        progress.say(f"{name[0].upper()}{name[1:]}: {_in_words(judgement)}.")
    return move


def _judged_again(probe: FinishedProbe, rule: Rule, state: Path) -> JudgedProbe:
    """Probes in the state were judged before they were saved; who changes them may find that they no longer can be."""
    try:
        judgement = judge(probe.run.evaluations, rule)
    except BuildError as error:
        raise damaged(f"{state}: the probe of {_named(probe.candidate)} cannot be judged: {error}") from None
    return JudgedProbe(candidate=probe.candidate, run=probe.run, judgement=judgement)


def _verdicts(probes: Mapping[Candidate, JudgedProbe]) -> dict[Candidate, Verdict]:
    return {candidate: probe.judgement.verdict for candidate, probe in probes.items()}


def _announced(space: SearchSpace, rule: Rule, num_done: int, most_probes: int) -> str:
    lengths = ", ".join(str(start.length) for start in space.starts)
    most = max(start.most_length_warmup_steps for start in space.starts)
    went_on = f" Finished in an earlier run: {num_done} more." if num_done else ""
    return (
        f"Starts {lengths}; warmups of {space.least_length_warmup_steps:,} to {most:,} steps, every "
        f"{space.resolution_steps:,}: at most {most_probes} probes of {rule.probe_steps:,} steps, validated at "
        f"least every {rule.validate_every}.{went_on}"
    )


def _named(candidate: Candidate) -> str:
    return f"start {candidate.start_length}, warmup {candidate.length_warmup_steps:,} steps"


def _in_words(judgement: Judgement) -> str:
    if judgement.step is None:
        return f"{judgement.verdict}, perplexity never above {judgement.ratio:.2f} times its best"
    return f"{judgement.verdict}, perplexity {judgement.ratio:.2f} times its best at step {judgement.step:,}"
