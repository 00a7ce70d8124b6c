"""Where a tune searches: the starts, and for each the longest warmup that the full training has room for.

In:  the options of all probes, settings.   Out: a `SearchSpace`, what identifies the corpus, a warning.
Guarantee: the bounds are those of real plans: from a longer start the same tokens are fewer steps, of which the warmup
may take fewer. The corpus is tokenized here, where the store does not hold it yet; each further plan takes 0.2 s.

    8 -> 64, 400 steps, LR warmup 10      starts 8, 16, 32, durations 30 to 320 (0.8 of the steps), every 10
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from curriculum.errors import PlanError
from pipeline.build import prepare_plan
from pipeline.option_fields import DEFAULT_MAX_LENGTH
from pipeline.options import Options
from pipeline.progress import Progress, Silent
from pipeline.tuning.candidate import Candidate
from pipeline.tuning.probe_dataset import full_plan
from pipeline.tuning.search import SearchSpace, Start, doubled_starts
from pipeline.tuning.settings import MOST_FRAC, TuneSettings


def starts_of(options: Options, settings: TuneSettings) -> tuple[int, ...]:
    """The starts to try, before anything is read.

    Raises:
        ConfigError: there is none.
    """
    full_length = DEFAULT_MAX_LENGTH if options.max_length is None else options.max_length
    return doubled_starts(settings.first_start(options), full_length)


def tokenized_corpus(options: Options, settings: TuneSettings, start: int, progress: Progress) -> dict[str, Any]:
    """Tokenize the corpus, if that was not done; what it is known by.

    Raises:
        PlanError, ConfigError, BuildError: as `pipeline.build.prepare_plan`.
    """
    tokenized = prepare_plan(_longest(options, settings, start), progress)[1]
    corpus = {source.name: source.fingerprint for source in tokenized.sources}
    return {"corpus": corpus, "tokenizer_sha256": tokenized.tokenizer.sha256}


def search_space(
    options: Options, settings: TuneSettings, starts: tuple[int, ...], say: Callable[[str], None]
) -> SearchSpace:
    """The starts that the schedule can have, and the longest warmup of each.

    Raises:
        PlanError, ConfigError: the first one has no room for a warmup.
    """
    found: list[Start] = []
    for length in starts:
        try:
            plan = prepare_plan(_longest(options, settings, length), Silent())[0].plan
        except PlanError as error:
            if not found:
                raise
            say(f"Starts from {length} on are left out: {error}")
            break
        most = int(plan.schedule["length_warmup_steps"])
        if found and most < settings.least:
            say(f"Starts from {length} on are left out: their warmup may take {most} steps at most.")
            break
        found.append(Start(length=length, most_length_warmup_steps=most))
    return SearchSpace(
        starts=tuple(found), least_length_warmup_steps=settings.least, resolution_steps=settings.resolution
    )


def unequal_tokens(options: Options, space: SearchSpace) -> str | None:
    """What is to be said where the full trainings that are compared train unlike numbers of tokens; None: they do not.

    Raises:
        PlanError, ConfigError, BuildError: as `pipeline.build.prepare_plan`.
    """
    if options.steps is None:
        return None
    start, least = space.starts[0], space.least_length_warmup_steps
    most = start.most_length_warmup_steps
    shortest, longest = (
        full_plan(options, Candidate(start_length=start.length, length_warmup_steps=steps), Silent()).plan.total_tokens
        for steps in (least, most)
    )
    if longest > ALIKE * shortest:
        return None
    return (
        f"With --steps {options.steps:,} a longer warmup is a shorter training: from a start of {start.length}, "
        f"{shortest:,} tokens with a warmup of {least:,} steps and {longest:,} with {most:,}. The authors compare at "
        f"equal tokens: give --tokens instead."
    )


ALIKE = 0.99
"""Trainings land on whole steps, and with --batch-tokens on whole rows."""


def _longest(options: Options, settings: TuneSettings, start: int) -> Options:
    """The options with the longest warmup from a start."""
    steps = settings.most_length_warmup_steps
    return replace(options, start_length=start, length_warmup_steps=steps, frac=MOST_FRAC if steps is None else None)
