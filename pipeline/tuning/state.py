"""What a tune has found so far: one small file, written anew after each probe.

In:  what the tune is asked for, and its finished probes.   Out: `tune.json` in its folder; probes of an earlier run.
Guarantee: the file appears whole or not at all, so that a tune that was killed has lost the probe it was at, and no
other. Probes that were trained or judged otherwise are never taken for its own. Where to search is no part of the
request: wider bounds go on with the probes that are there.

    {"format": "curriculum-tune", "version": 1, "request": {"lr_warmup_steps": 100, ...}, "probes": [
      {"start_length": 8, "length_warmup_steps": 300, "num_steps": 30, "num_tokens": 1920, "stopped_early": true,
       "seconds": 9.5, "evaluations": [[9, 900.0], [19, 500.0], [29, "NaN"]]}]}
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curriculum.errors import BuildError, CurriculumError, DataError
from curriculum.json_object import JsonObject
from curriculum.printable import shown
from pipeline.counted import counted
from pipeline.publish import Aside, remove
from pipeline.tuning.candidate import Candidate, Evaluation, ProbeRun

STATE_NAME = "tune.json"
ASIDE = ".tune-aside"
FORMAT, VERSION = "curriculum-tune", 1
LARGEST = sys.float_info.max
SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
WRITTEN = {repr(value): name for name, value in SPECIAL.items()}
"""JSON has no such numbers."""
SHOWN_CHARS = 300
"""Of a train command, which may be long; what differs often stands at its end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishedProbe:
    """A candidate and what came of it."""

    candidate: Candidate
    run: ProbeRun


def open_state(
    folder: Path, request: Mapping[str, Any], *, overwrite: bool, say: Callable[[str], None]
) -> tuple[FinishedProbe, ...]:
    """The finished probes of an earlier run of the same tune.

    Args:
        folder: of the tune.
        request: what it is asked for, as plain JSON values.
        overwrite: drop what a tune has left, the same or another.
        say: where it is said how many probes that are.

    Raises:
        BuildError: the folder holds the probes of another tune or of a newer release, or the state cannot be read or
            written there.
        DataError: its state is damaged.
    """
    remove(folder / ASIDE)
    path = folder / STATE_NAME
    if path.exists() and not path.is_file():
        raise BuildError(f"{path}: is no file, and a tune keeps its state there. Remove it, or give another --out.")
    if not path.exists():
        return ()
    if overwrite:
        _say_what_is_dropped(path, say)
        return ()
    before, probes = _read(path)
    now = json.loads(json.dumps(request))
    different = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    if different and probes:
        changes = "; ".join(f"{key} was {_said(before.get(key))}, now {_said(now.get(key))}" for key in different)
        raise BuildError(
            f"{folder}: holds a tune with {len(probes)} finished probes that was asked for something else: {changes}. "
            f"Repeat its options to continue it, give --overwrite to begin anew, or another --out."
        )
    return probes


def _say_what_is_dropped(path: Path, say: Callable[[str], None]) -> None:
    try:
        num_probes = len(_read(path)[1])
    except CurriculumError:
        return  # it cannot be read, which is a reason to begin anew
    if num_probes:
        say(
            f"{path.parent}: --overwrite drops {counted(num_probes, 'finished probe')} as soon as a new one is "
            f"finished. Leave it out to go on with this tune where it is interrupted."
        )


def save_state(folder: Path, request: Mapping[str, Any], probes: Sequence[FinishedProbe]) -> None:
    """Remember the finished probes.

    Raises:
        BuildError: they cannot be written.
    """
    value = {"format": FORMAT, "version": VERSION, "request": request, "probes": [_to_json(probe) for probe in probes]}
    write_text(folder, STATE_NAME, json.dumps(value, indent=1, allow_nan=False) + "\n")


def write_text(folder: Path, name: str, text: str) -> None:
    """A small file of the tune, whole or not at all.

    Raises:
        BuildError: it cannot be written.
    """
    with Aside(folder / ASIDE, folder / name) as file:
        file.write(text.encode())
    remove(folder / ASIDE)


def _to_json(probe: FinishedProbe) -> dict[str, Any]:
    run = probe.run
    return {
        "start_length": probe.candidate.start_length,
        "length_warmup_steps": probe.candidate.length_warmup_steps,
        "num_steps": run.num_steps,
        "num_tokens": run.num_tokens,
        "stopped_early": run.stopped_early,
        "seconds": run.seconds,
        "evaluations": [[one.step, _written(one.perplexity)] for one in run.evaluations],
    }


def _read(path: Path) -> tuple[dict[str, Any], tuple[FinishedProbe, ...]]:
    try:
        top = JsonObject.parse(path.read_bytes(), str(path))
        top.one_of("format", (FORMAT,))
        if top.integer("version", least=VERSION) > VERSION:
            raise BuildError(
                f"{path}: a newer curriculum has written this state. Install it to go on, or give another --out."
            )
        probes = tuple(map(_probe, top.objects("probes")))
        if len({probe.candidate for probe in probes}) < len(probes):
            raise DataError(f"{path}: a candidate stands in it twice.")
        return top.object("request").raw, probes
    except DataError as error:
        raise damaged(str(error).removesuffix(" Copy the file again.")) from None  # there is no other
    except OSError as error:
        raise BuildError(
            f"{path}: cannot be read: {error.strerror or error}. Fix the permissions, or give another --out."
        ) from error


def damaged(found: str) -> DataError:
    """A state that cannot be gone on with.

    Args:
        found: where and what, as a sentence.
    """
    return DataError(
        f"{found} It is no state that a tune has written, or was damaged since: give --overwrite to begin anew, or "
        f"another --out."
    )


def _probe(entry: JsonObject) -> FinishedProbe:
    stopped_early = entry.value("stopped_early")
    if not isinstance(stopped_early, bool):
        raise DataError(f"{entry.where}: stopped_early is {shown(stopped_early)}, expected true or false.")
    return FinishedProbe(
        candidate=Candidate(
            start_length=entry.integer("start_length", least=1),
            length_warmup_steps=entry.integer("length_warmup_steps", least=1),
        ),
        run=ProbeRun(
            evaluations=tuple(_evaluations(entry)),
            num_tokens=entry.integer("num_tokens"),
            num_steps=entry.integer("num_steps"),
            stopped_early=stopped_early,
            seconds=entry.number("seconds"),
        ),
    )


def _evaluations(entry: JsonObject) -> Iterator[Evaluation]:
    for pair in entry.array("evaluations"):
        if not isinstance(pair, list) or len(pair) != 2:
            raise DataError(f"{entry.where}: {shown(pair)} found, expected a step and a perplexity.")
        step = JsonObject({"step": pair[0]}, entry.where).integer("step")
        yield Evaluation(step=step, perplexity=_perplexity(pair[1], entry.where))


def _perplexity(said: Any, where: str) -> float:
    if isinstance(said, str) and said in SPECIAL:
        return SPECIAL[said]
    if not isinstance(said, int | float) or isinstance(said, bool) or abs(said) > LARGEST:
        raise DataError(f"{where}: perplexity is {shown(said)}, expected a number, 'NaN' or 'Infinity'.")
    return float(said)


def _written(perplexity: float) -> float | str:
    return WRITTEN.get(repr(perplexity), perplexity)


def _said(value: Any) -> str:
    return "not given" if value is None else shown(value, SHOWN_CHARS)
