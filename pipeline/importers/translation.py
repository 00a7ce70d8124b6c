"""From the lengths of another tool's steps to options of ours; and typed reading of its configuration.

In:  runs ((length, steps), ...) whose last length holds for all further steps, and our schedule that comes nearest.
Out: options: that schedule where it is equal at every step, else explicit phases with an open end.
Guarantee: the lengths of the options are those of the runs, at every step. A wrong type or a missing key is a
`ConfigError` that names the file and the place.

    translate([(8, 2), (16, 1)])                    phases "8:2,16:*", multiple_of 8
    translate([(8, 1), (16, 1)], nearest, 2)        schedule linear 8 -> 16 over 2 steps, when `nearest` is that
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from curriculum.errors import ConfigError, PlanError
from curriculum.limits import MAX_SEQ_LEN, MAX_TOTAL
from curriculum.schedule import Pacing, parse_phases

MAX_WARMUP_STEPS = 10_000_000
"""Floating point is followed step by step, about 15 seconds for this many; published warmups take up to 110,000."""

MAX_CONFIG_BYTES = 16 << 20
MAX_INTEGER_BITS = 128

Runs = Sequence[tuple[int, int]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """`options` by name, as in a TOML file; `differs` is one line for people; `source` says where it was found."""

    options: dict[str, Any]
    differs: str
    source: str
    completed_by: tuple[str, ...] = ()
    """options that were used up: they complete the name of a SkyLadder schedule"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Translation:
    """`differing_steps` counts the steps at which the nearest schedule of ours has another length; None: there is none.

    `num_phases` is 0 where the options name a schedule.
    """

    options: dict[str, Any]
    num_phases: int
    differing_steps: int | None


def runs_of(lengths: Iterable[int]) -> list[tuple[int, int]]:
    """[8, 8, 16] -> [(8, 2), (16, 1)]"""
    return [(length, sum(1 for _ in group)) for length, group in groupby(lengths)]


def pacing_or_none(**fields: Any) -> Pacing | None:
    """The schedule of ours with these ends and this alignment; None where there is none."""
    try:
        return Pacing(**fields)
    except PlanError:
        return None


def until(runs: Runs, total_steps: int) -> list[tuple[int, int]]:
    """The runs of the first steps only: [(8, 2), (16, 2)], 3 -> [(8, 2), (16, 1)]"""
    kept = []
    for length, steps in runs:
        kept.append((length, min(steps, total_steps)))
        total_steps -= steps
        if total_steps <= 0:
            break
    return kept


def translate(runs: Runs, nearest: Pacing | None = None, warmup_steps: int = 1) -> Translation:
    """Options with these lengths; the last run is open-ended."""
    differing = None if nearest is None else _differing_steps(runs, nearest, warmup_steps)
    if len(runs) == 1:
        length = runs[0][0]
        constant = {"schedule": "constant", "max_length": length, "multiple_of": math.gcd(8, length)}
        return Translation(options=constant, num_phases=0, differing_steps=0)
    if nearest is not None and differing == 0:
        options: dict[str, Any] = {
            "schedule": nearest.name,
            "start_length": nearest.start_length,
            "max_length": nearest.max_length,
            "multiple_of": nearest.multiple_of,
            "length_warmup_steps": warmup_steps,
        }
        if nearest.name == "root":
            options["degree"] = nearest.degree
        return Translation(options=options, num_phases=0, differing_steps=0)
    closed = [f"{length}:{steps}" for length, steps in runs[:-1]]
    phases = ",".join([*closed, f"{runs[-1][0]}:*"])
    options = {"phases": phases, "multiple_of": math.gcd(*(length for length, _ in runs))}
    return Translation(options=options, num_phases=len(runs), differing_steps=differing)


def ending_early(imported: Imported, steps: int) -> Imported:
    """The same for a run of only so many steps: one that ends inside the curriculum is its beginning."""
    options = dict(imported.options)
    if "phases" in options:
        runs = list(parse_phases(options["phases"], options["multiple_of"]).runs)
    elif "length_warmup_steps" in options:
        warmup_steps = options["length_warmup_steps"]
        names = ("start_length", "max_length", "multiple_of", "degree")
        pacing = Pacing(name=options["schedule"], **{name: options[name] for name in names if name in options})
        runs = list(pacing.runs(warmup_steps, warmup_steps))
    else:
        return imported
    if sum(num_steps for _, num_steps in runs) < steps + ("phases" not in options):
        return imported
    for name in ("schedule", "start_length", "max_length", "degree", "length_warmup_steps", "phases"):
        options.pop(name, None)
    options |= translate(until(runs, steps)).options
    differs = f"{imported.differs} The run of {steps:,} steps ends before the curriculum does, which is cut there."
    return replace(imported, options=options, differs=differs)


def _differing_steps(runs: Runs, nearest: Pacing, warmup_steps: int) -> int:
    """Over the warmup of both and the first step after it."""
    total = max(sum(steps for _, steps in runs), warmup_steps) + 1
    ours = nearest.runs(total, warmup_steps)
    differing = start = 0
    borders_theirs, borders_ours = _borders(runs, total), _borders(ours, total)
    length_theirs, stop_theirs = next(borders_theirs)
    length_ours, stop_ours = next(borders_ours)
    while start < total:
        stop = min(stop_theirs, stop_ours)
        differing += (stop - start) * (length_theirs != length_ours)
        start = stop
        if start < total and stop == stop_theirs:
            length_theirs, stop_theirs = next(borders_theirs)
        if start < total and stop == stop_ours:
            length_ours, stop_ours = next(borders_ours)
    return differing


def _borders(runs: Runs, total: int) -> Iterator[tuple[int, int]]:
    """(length, the step at which its run stops); the last run stops at `total`."""
    stop = 0
    for length, steps in runs[:-1]:
        stop += steps
        yield length, stop
    yield runs[-1][0], total


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; keys that stand twice are refused, as in DeepSpeed."""
    text = _read(path)
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid JSON ({error}); write it without comments and trailing commas.") from None
    return as_section(value, f"{path}")


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file (JSON included)."""
    import yaml  # type: ignore[import-untyped]

    text = _read(path)
    try:
        # An alias of aliases unfolds without end, and a configuration of a training run needs none.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise ConfigError(f"{path}: has YAML aliases (*name); write the values out.")
        value = yaml.safe_load(text)
    except ConfigError:
        raise
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid YAML ({' '.join(str(error).split())}).") from None
    return as_section(value, f"{path}")


def _read(path: Path) -> str:
    try:
        if path.exists() and (not path.is_file() or path.stat().st_size > MAX_CONFIG_BYTES):
            raise ConfigError(f"{path}: is no file of at most {MAX_CONFIG_BYTES >> 20} MiB, as a configuration is.")
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from None
    except ValueError:
        raise ConfigError(f"{path}: not UTF-8 text; save it as UTF-8.") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands twice")
    return value


def as_section(value: Any, where: str) -> dict[str, Any]:
    """`value` as it is, when it is a mapping; numbers in it that Python will not even print are refused."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple | set):
            waiting += item
        elif isinstance(item, int) and item.bit_length() > MAX_INTEGER_BITS:
            raise ConfigError(f"{where}: holds a number of {item.bit_length()} bits; nothing there is that large.")
    if not isinstance(value, dict):
        raise ConfigError(f"{where} is {shown(value)}, expected a mapping of keys to values.")
    return value


def whole(section: Mapping[str, Any], key: str, where: str, *, least: int = 1, most: int = MAX_SEQ_LEN) -> int:
    """The whole number under a key that must be there; 8.0 counts as 8."""
    if key not in section:
        raise ConfigError(f"{where}: {key} is missing; give a whole number from {least} to {most}.")
    return as_whole(section[key], f"{where}: {key}", least=least, most=most)


def as_whole(value: Any, where: str, *, least: int = 1, most: int = MAX_SEQ_LEN) -> int:
    """`value` as a whole number within [least, most]."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigError(f"{where} is {shown(value)}; give a whole number from {least} to {most}.")
    return value


def flag(section: Mapping[str, Any], key: str, where: str, default: bool) -> bool:
    """True or false; the tool's default where the key is absent."""
    value = section.get(key, default)
    if not isinstance(value, bool):
        raise ConfigError(f"{where}: {key} is {shown(value)}, expected true or false.")
    return value


def batch_size(section: Mapping[str, Any], keys: Sequence[str], where: str) -> int | None:
    """The first of these keys that is there; None where none is, or where a launcher fills it in ("auto")."""
    for key in keys:
        if section.get(key) is not None and section[key] != "auto":
            return whole(section, key, where, most=MAX_TOTAL)
    return None


def shown(value: Any) -> str:
    """A value for a message, cut where it is long."""
    text = repr(value) if not isinstance(value, int) or value.bit_length() <= 128 else "a very large number"
    return text if len(text) <= 60 else f"{text[:57]}..."
