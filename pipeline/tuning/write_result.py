"""The files that a finished tune leaves beside its state: a TOML file and a picture.

In:  a result, the options of all probes.   Out: the result with `tuned.toml` and `tune.svg`.
Guarantee: a folder holds the TOML of an answer only while its state has that answer. Without matplotlib there is no
picture, and a note says so.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pipeline.options import Options
from pipeline.publish import remove
from pipeline.tuning.result import TuneResult
from pipeline.tuning.state import write_text
from pipeline.tuning.tuned_config import tuned_config

CONFIG_NAME, PLOT_NAME = "tuned.toml", "tune.svg"
NO_PICTURE = "There is no picture without matplotlib: pip install 'seqlen-curriculum[report]'."


def forget_result(folder: Path) -> None:
    """Remove the files of an earlier answer: the state is about to have another, or none."""
    for name in (CONFIG_NAME, PLOT_NAME):
        remove(folder / name)


def write_result(result: TuneResult, options: Options) -> TuneResult:
    """The result, with its files in place of those of an earlier answer.

    Raises:
        BuildError: they cannot be written.
    """
    folder = result.folder
    forget_result(folder)
    if result.found is not None:
        write_text(folder, CONFIG_NAME, tuned_config(options, result.found, _comments(result)))
        result = replace(result, config=folder / CONFIG_NAME)
    if importlib.util.find_spec("matplotlib") is None:
        return replace(result, notes=(NO_PICTURE,))
    from pipeline.tuning.draw_tune import draw_tune  # half a second

    write_text(folder, PLOT_NAME, draw_tune(result))
    return replace(result, plot=folder / PLOT_NAME)


def _comments(result: TuneResult) -> Iterator[str]:
    yield "Found by `curriculum tune`."
    yield from result.sentence().replace(": ", ":\n", 1).split("\n")
    yield result.steady_with()
