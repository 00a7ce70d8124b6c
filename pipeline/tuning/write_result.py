"""The files that a finished tune leaves beside its state: a TOML file and a picture.

In:  the answer, the judged probes, the options of all probes.   Out: `TuneResult`, `tuned.toml`, `tune.svg`.
Guarantee: a folder holds the TOML of an answer only while its state has that answer. Without matplotlib there is no
picture, and a note says so.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pipeline.options import Options
from pipeline.progress import Silent
from pipeline.publish import remove
from pipeline.tuning.candidate import Candidate
from pipeline.tuning.fluctuation import Rule
from pipeline.tuning.probe_dataset import full_plan
from pipeline.tuning.result import JudgedProbe, TuneResult
from pipeline.tuning.search import Answer, Found, NoDuration, SearchSpace
from pipeline.tuning.state import write_text
from pipeline.tuning.tuned_config import tuned_config

CONFIG_NAME, PLOT_NAME = "tuned.toml", "tune.svg"
NO_PICTURE = "There is no picture without matplotlib: pip install 'seqlen-curriculum[report]'."


def forget_result(folder: Path) -> None:
    """Remove the files of an earlier answer: the state is about to have another, or none."""
    for name in (CONFIG_NAME, PLOT_NAME):
        remove(folder / name)


def write_result(
    folder: Path, options: Options, space: SearchSpace, rule: Rule, answer: Answer, probes: tuple[JudgedProbe, ...]
) -> TuneResult:
    """The result, with its files.

    Raises:
        BuildError: they cannot be written.
    """
    result = TuneResult(
        folder=folder,
        answer=answer,
        probes=probes,
        rule=rule,
        space=space,
        full_plan=full_plan(options, _ended_with(answer), Silent()).plan,
    )
    if isinstance(answer, Found):
        write_text(folder, CONFIG_NAME, tuned_config(options, answer.candidate, _comments(result)))
        result = replace(result, config=folder / CONFIG_NAME)
    if importlib.util.find_spec("matplotlib") is None:
        return replace(result, notes=(NO_PICTURE,))
    from pipeline.tuning.draw_tune import draw_tune  # half a second

    write_text(folder, PLOT_NAME, draw_tune(result))
    return replace(result, plot=folder / PLOT_NAME)


def _comments(result: TuneResult) -> Iterator[str]:
    yield "Found by `curriculum tune`."
    yield from result.sentence().split(": ", 1)


def _ended_with(answer: Answer) -> Candidate:
    if isinstance(answer, Found):
        return answer.candidate
    return answer.shortest if isinstance(answer, NoDuration) else answer.last
