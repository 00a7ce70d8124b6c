"""What the build log tells of how the dataset came to be.

In:  the object of build-log.json, which may be damaged or hostile.   Out: `BuildFacts`: numbers and short texts.
Guarantee: what has the wrong type is left out. No host, no path: a page is shown to others.

    {"seconds": {"tokenize": 18.7, "cut": 0.7}, "mb_per_second": 1.6, "workers": 2}     two stages; 1.6 MB/s; 2 workers
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from pipeline.page.visible_text import visible

STAGES = ("tokenize", "merge", "plan", "cut")
"""In the order in which they run; a log is sorted by name."""
MOST_STAGES = 16
STAGE_NAME = re.compile(r"[a-z][a-z _-]{0,23}")
MOST_CHARACTERS = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildFacts:
    """Some of it."""

    stages: tuple[tuple[str, float], ...]
    """(name, seconds), those that took any time"""
    lines: tuple[tuple[str, str], ...]
    """(what, for people)"""


def build_facts(log: Mapping[str, Any] | None) -> BuildFacts | None:
    """The facts; None without a log, or without times in it."""
    if log is None:
        return None
    seconds = log.get("seconds")
    times = (
        {name: value for name, value in seconds.items() if STAGE_NAME.fullmatch(str(name))}
        if isinstance(seconds, dict)
        else {}
    )
    order = sorted(times, key=lambda name: STAGES.index(name) if name in STAGES else len(STAGES))
    stages = tuple((name, float(value)) for name in order if _is_number(value := times[name]) and value > 0)[
        :MOST_STAGES
    ]
    if not stages:
        return None
    lines = []
    for key, what, unit in (
        ("text_bytes", "text", ""),
        ("mb_per_second", "text, all stages together", " MB/s"),
        ("tokens_per_second", "tokens, all stages together", " tokens/s"),
        ("workers", "workers", ""),
    ):
        number: Any = log.get(key)
        if _is_number(number):
            lines.append((what, f"{number / 1e6:,.1f} MB" if key == "text_bytes" else f"{number:,}{unit}"))
    for key, what in (("backend", "encoder"), ("finished", "finished"), ("python", "Python")):
        if isinstance(text := log.get(key), str):
            lines.append((what, _text(text)))
    if isinstance(versions := log.get("versions"), dict):
        known = [f"{_text(name)} {_text(value)}" for name, value in versions.items() if isinstance(value, str)]
        lines.append(("versions", ", ".join(known[:MOST_STAGES])))
    return BuildFacts(stages=stages, lines=tuple(lines))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e18 and isfinite(value)


def _text(value: object) -> str:
    return visible(str(value)[:MOST_CHARACTERS])
