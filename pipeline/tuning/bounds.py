"""Where a tune searches: the starts, and for each the longest warmup that the full training has room for.

In:  the options of all probes, settings.   Out: a `SearchSpace`, and what the corpus is known by.
Guarantee: the bounds are those of real plans: from a longer start the same tokens are fewer steps, of which the warmup
may take fewer. With the shortest and with the longest warmup the corpus has the text for each start, and no probe is
longer than the training, so that none is refused after others were trained. The corpus is tokenized here, where the
store does not hold it yet; each further plan takes 0.2 s.

    8 -> 64, 400 steps, LR warmup 10      starts 8, 16, 32, durations 30 to 320 (0.8 of the steps), every 10
"""

from __future__ import annotations

from bisect import bisect_left
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from curriculum.errors import ConfigError, PlanError
from curriculum.plan import Plan
from pipeline.option_fields import DEFAULT_MAX_LENGTH
from pipeline.options import Options
from pipeline.progress import Progress
from pipeline.requested_plan import compile_requested
from pipeline.tokenized_corpus import TokenizedCorpus
from pipeline.tuning.candidate import Candidate
from pipeline.tuning.probe_dataset import full_plan, plan_and_corpus, require_steps
from pipeline.tuning.search import SearchSpace, Start, doubled_starts
from pipeline.tuning.settings import MOST_FRAC, TuneSettings

ALIKE = 0.99
"""Trainings land on whole steps, and with --batch-tokens on whole rows."""


def starts_of(options: Options, settings: TuneSettings) -> tuple[int, ...]:
    """The starts to try, before anything is read.

    Raises:
        ConfigError: there is none.
    """
    full_length = DEFAULT_MAX_LENGTH if options.max_length is None else options.max_length
    return doubled_starts(settings.first_start(options), full_length)


def search_space(
    options: Options, settings: TuneSettings, starts: tuple[int, ...], progress: Progress
) -> tuple[SearchSpace, dict[str, Any]]:
    """The starts that can be trained from, and what the corpus is known by.

    Raises:
        PlanError, ConfigError: the first one cannot.
        BuildError: as `pipeline.build.prepare_plan`.
    """
    first = _planned(options, settings, starts[0], progress)
    _require_room(settings, first)
    if (warning := _unequal_tokens(options, first)) is not None:
        progress.say(warning)
    found = [first.start]
    for length in starts[1:]:
        try:
            found.append(_planned(options, settings, length, progress).start)
        except (PlanError, ConfigError) as error:
            progress.say(f"Starts from {length} on are left out: {error}")
            break
    corpus = {source.name: source.fingerprint for source in first.tokenized.sources}
    return _space(settings, *found), {"corpus": corpus, "tokenizer_sha256": first.tokenized.tokenizer.sha256}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Planned:
    """A start that can be trained from, and its full trainings at both ends of the search."""

    start: Start
    shortest: Plan
    """with the shortest warmup, with which starts are tried"""
    longest: Plan
    tokenized: TokenizedCorpus


def _planned(options: Options, settings: TuneSettings, length: int, progress: Progress) -> _Planned:
    first = Candidate(start_length=length, length_warmup_steps=settings.least)
    options = replace(options, start_length=length)
    try:
        longest, tokenized = _with_longest(options, settings, progress)
    except PlanError as error:
        # refused, too, where it is not for the length of the warmup
        shortest = full_plan(options, first, progress).plan
        raise _too_long(options, settings, shortest, error, progress) from None
    start = Start(length=length, most_length_warmup_steps=int(longest.schedule["length_warmup_steps"]))
    _space(settings, start)  # refuses a start without a warmup
    shortest = full_plan(options, first, progress).plan
    require_steps(shortest, settings.rule.probe_steps)
    return _Planned(start=start, shortest=shortest, longest=longest, tokenized=tokenized)


def _with_longest(options: Options, settings: TuneSettings, progress: Progress) -> tuple[Plan, TokenizedCorpus]:
    """With the longest warmup that is allowed; where the training has no room for it, with the longest by default."""
    steps, by_default = settings.most_length_warmup_steps, replace(options, frac=MOST_FRAC)
    if steps is None:
        return plan_and_corpus(by_default, progress)
    try:
        return plan_and_corpus(replace(options, length_warmup_steps=steps), progress)
    except PlanError:
        with suppress(PlanError):
            return plan_and_corpus(by_default, progress)
        raise


def _too_long(
    options: Options, settings: TuneSettings, shortest: Plan, error: PlanError, progress: Progress
) -> PlanError:
    """Says which can be planned: nobody has asked for this one, and truncation reads the more text the longer it is."""
    steps, longest = settings.most_length_warmup_steps, f"{MOST_FRAC} of all steps"
    with suppress(PlanError):
        steps = steps or int(compile_requested(replace(options, frac=MOST_FRAC), None).schedule["length_warmup_steps"])
    if steps is not None:
        longest = f"{steps:,} steps" + f", {MOST_FRAC} of all" * (settings.most_length_warmup_steps is None)

    def is_refused(length_warmup_steps: int) -> bool:
        try:
            plan_and_corpus(replace(options, length_warmup_steps=length_warmup_steps), progress)
        except PlanError:
            return True
        return False

    longer = range(settings.least + 1, steps or shortest.total_steps)
    fits = settings.least + bisect_left(longer, True, key=is_refused)
    found = str(error).partition("; ")[0]  # what it advises are fewer steps of the training, which is no cure here
    return PlanError(
        f"The longest length warmup that the search may try from a start of {options.start_length} takes {longest}, "
        f"and only shorter ones can be planned; with it, {found}. Give --most-length-warmup-steps {fits}, the largest "
        f"that fits, or more text or --epochs."
    )


def _space(settings: TuneSettings, *starts: Start) -> SearchSpace:
    return SearchSpace(starts=starts, least_length_warmup_steps=settings.least, resolution_steps=settings.resolution)


def _require_room(settings: TuneSettings, first: _Planned) -> None:
    """Refuse a bound that not even the first start has the steps for, which is a mistake; longer starts have fewer."""
    steps, start = settings.most_length_warmup_steps, first.start
    if steps is not None and start.most_length_warmup_steps < steps:
        raise ConfigError(
            f"most_length_warmup_steps is {steps:,}, and from a start of {start.length} the training has no room for "
            f"it: give {start.most_length_warmup_steps:,}, which is {MOST_FRAC} of its steps, or leave it out."
        )


def _unequal_tokens(options: Options, first: _Planned) -> str | None:
    """What is to be said where the full trainings that are compared train unlike numbers of tokens."""
    shortest, longest = first.shortest.total_tokens, first.longest.total_tokens
    if options.steps is None or longest > ALIKE * shortest:
        return None
    least, most = (plan.schedule["length_warmup_steps"] for plan in (first.shortest, first.longest))
    return (
        f"With --steps {options.steps:,} a longer warmup is a shorter training: from a start of {first.start.length}, "
        f"{shortest:,} tokens with a warmup of {least:,} steps and {longest:,} with {most:,}. The authors compare at "
        f"equal tokens: give --tokens instead."
    )
