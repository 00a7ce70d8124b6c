"""The wiring of a tune: plans from the store, the search, the prober, the state, the files at the end.

In:  the options of a build, settings, something to train with, a folder.   Out: `TuneResult`, its files in the folder.
Guarantee: the number of probes is told before the first. After each the state is on the disk, so the same command goes
on where a tune was killed, and a finished one is shown again without training.

    FOLDER/tune.json      the finished probes          FOLDER/tuned.toml     for `curriculum build --config`
    FOLDER/probes/        what each printed, its log   FOLDER/tune.svg       the picture
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curriculum.errors import BuildError
from pipeline.build import prepare_plan
from pipeline.build_identity import build_identity
from pipeline.lock import locked
from pipeline.options import Options
from pipeline.progress import Progress, Silent
from pipeline.requested_plan import pacing_of
from pipeline.store import ALGORITHM
from pipeline.tuning.candidate import Candidate, Prober
from pipeline.tuning.fluctuation import Judgement, Verdict, Watch, judge
from pipeline.tuning.probe_dataset import full_plan, tunable
from pipeline.tuning.result import JudgedProbe, TuneResult
from pipeline.tuning.search import Answer, Found, NoDuration, Probe, SearchSpace, Start, doubled_starts, next_move
from pipeline.tuning.settings import MOST_FRAC, TuneSettings, refuse_searched
from pipeline.tuning.state import FinishedProbe, open_state, save_state, write_text
from pipeline.tuning.train_with import TrainWith
from pipeline.tuning.tuned_config import tuned_config

CONFIG_NAME, PLOT_NAME = "tuned.toml", "tune.svg"


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
    starts = doubled_starts(request.settings.first_start(options), pacing_of(options).lengths[-1])
    prober = request.trains.prober_of(options)
    with locked(request.folder, others="--out"):
        tokenized = prepare_plan(_longest(options, request.settings, starts[0]), progress)[1]
        corpus = {source.name: source.fingerprint for source in tokenized.sources}
        asked = _asked(request, options, {"corpus": corpus, "tokenizer_sha256": tokenized.tokenizer.sha256})
        space = _space(options, request.settings, starts)
        finished = open_state(request.folder, asked, overwrite=request.overwrite)
        answer, probes = _search(request, asked, space, finished, prober, progress)
        return _result(request, options, space, answer, probes)


def _longest(options: Options, settings: TuneSettings, start: int) -> Options:
    """The options with the longest warmup from a start."""
    steps = settings.most_length_warmup_steps
    return replace(options, start_length=start, length_warmup_steps=steps, frac=MOST_FRAC if steps is None else None)


def _space(options: Options, settings: TuneSettings, starts: tuple[int, ...]) -> SearchSpace:
    """The longest warmup of each start is that of its own plan: the same tokens are fewer steps from a longer one."""
    plans = [prepare_plan(_longest(options, settings, start), Silent())[0].plan for start in starts]
    most = [int(plan.schedule["length_warmup_steps"]) for plan in plans]
    return SearchSpace(
        starts=tuple(Start(length=n, most_length_warmup_steps=steps) for n, steps in zip(starts, most, strict=True)),
        least_length_warmup_steps=settings.least,
        resolution_steps=settings.resolution,
    )


def _asked(request: TuneRequest, options: Options, known: Mapping[str, Any]) -> dict[str, Any]:
    """What two tunes must have in common, so that probes of one count in the other."""
    identity = build_identity(options)
    build = {name: value for name, value in identity.items() if name not in ("frac", "start_length")}
    first = request.settings.first_start(options)
    return {
        **build,
        **request.settings.to_json(),
        **known,
        "start_length": first,
        "trains": request.trains.name,
        "algorithm": ALGORITHM,
    }


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
        save_state(request.folder, asked, done)
        progress.say(f"{name[0].upper()}{name[1:]}: {_in_words(judgement)}.")
    return move, tuple(probes.values())


def _result(
    request: TuneRequest,
    options: Options,
    space: SearchSpace,
    answer: Answer,
    probes: tuple[JudgedProbe, ...],
) -> TuneResult:
    candidate = _of(answer)
    planned = full_plan(options, candidate, Silent())
    result = TuneResult(
        folder=request.folder,
        answer=answer,
        probes=probes,
        rule=request.settings.rule,
        space=space,
        full_plan=planned.plan,
    )
    config: Path | None = None
    plot: Path | None = None
    notes: tuple[str, ...] = ()
    if isinstance(answer, Found):
        config = request.folder / CONFIG_NAME
        comments = (f"Found by `curriculum tune`: {_named(candidate)}.", result.sentence())
        write_text(request.folder, CONFIG_NAME, tuned_config(options, candidate, comments))
    if importlib.util.find_spec("matplotlib") is None:
        notes = ("There is no picture without matplotlib: pip install 'seqlen-curriculum[report]'.",)
    else:
        from pipeline.tuning.draw_tune import draw_tune  # half a second

        plot = request.folder / PLOT_NAME
        write_text(request.folder, PLOT_NAME, draw_tune(result))
    return replace(result, config=config, plot=plot, notes=notes)


def _judged(probe: FinishedProbe, judgement: Judgement) -> JudgedProbe:
    return JudgedProbe(candidate=probe.candidate, run=probe.run, judgement=judgement)


def _verdicts(probes: Mapping[Candidate, JudgedProbe]) -> dict[Candidate, Verdict]:
    return {candidate: probe.judgement.verdict for candidate, probe in probes.items()}


def _of(answer: Answer) -> Candidate:
    """The candidate that the search ended with."""
    if isinstance(answer, Found):
        return answer.candidate
    return answer.shortest if isinstance(answer, NoDuration) else answer.last


def _announced(space: SearchSpace, probe_steps: int, validate_every: int, num_done: int) -> str:
    lengths = ", ".join(str(start.length) for start in space.starts)
    most = max(start.most_length_warmup_steps for start in space.starts)
    went_on = f" {num_done} of them are there from an earlier run." if num_done else ""
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
