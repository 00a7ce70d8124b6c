"""Refuse options that cannot be, or that contradict each other, before anything is read.

In:  the values that were said.   Out: nothing, or an error that names the option, what is allowed, what to do.
Guarantee: an option that would have no effect beside another is refused, not ignored.

    shard_bytes 0                   "shard_bytes is 0; give 1 or more, at most 2**62."
    steps and tokens                "steps and tokens are both given; they contradict each other: give one."
    schedule "constant", frac 0.3   "frac is given together with schedule 'constant', which has no use for it: ..."
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from curriculum.errors import ConfigError
from curriculum.manifest import PACKED_MODES
from curriculum.schedule import DOCUMENT_CURRICULA, parse_phases
from pipeline.files.address import check_url, check_writable, is_below, is_url, refuse_secret
from pipeline.option_fields import DEFAULTS, OptionFields
from pipeline.option_rules import (
    CHOICES,
    EXCLUSIVE,
    NOT_WITH_DOCUMENTS,
    NOT_WITH_PHASES,
    NOT_WITH_TOKENIZED,
    ONLY_FOR_SCHEDULE,
    ONLY_FOR_TOKENIZED,
    ONLY_GROWING,
    POSITIVE,
)
from pipeline.requested_plan import pacing_of
from pipeline.sources import check_weights


def check_options(options: OptionFields) -> None:
    """Refuse what is wrong whatever the corpus is.

    Raises:
        ConfigError: a value is not allowed, or two options contradict each other.
        PlanError: there is no such schedule.
    """
    for name, allowed in CHOICES.items():
        if getattr(options, name) not in (None, *allowed):
            raise ConfigError(f"{name} is {getattr(options, name)!r}; allowed are {', '.join(allowed)}.")
    for name in POSITIVE:
        value = getattr(options, name)
        if value is not None and not 1 <= value <= 2**62:
            raise ConfigError(f"{name} is {value}; give 1 or more, at most 2**62.")
    if not 0 <= options.seed < 2**63:
        raise ConfigError(f"seed is {options.seed}; give an integer from 0 to 2**63 - 1.")
    options.about()
    _check_folders(options)
    _refuse_pairs(options)
    _check_tokenized(options)
    _check_sources(options)


def _check_folders(options: OptionFields) -> None:
    if options.store == "" or options.out == "":
        raise ConfigError("out or store is empty; name a folder, `.` for the current one.")
    for what, entries in (("corpus", options.corpus), ("source", options.source), ("tokenizer", (options.tokenizer,))):
        for entry in entries:
            refuse_secret(what, entry)
    for source in options.sources():
        for path in filter(is_url, source.paths):
            check_url("corpus" if options.corpus else f"source {source.name!r}", path)
    for name, folder in (("out", options.out), ("store", options.store or "")):
        if is_url(folder):
            check_writable(name, folder)
            continue
        value = os.path.abspath(folder) if "\0" not in folder else folder  # noqa: PTH100 - only the name counts
        if any("\ud800" <= char <= "\udfff" or char == "\0" for char in value):
            raise ConfigError(f"{name} is {value!r}, which is no UTF-8 name; give a folder with one.")
    _refuse_nested(options)


def _refuse_nested(options: OptionFields) -> None:
    out, store = options.out, options.store_address()
    if is_url(out) != is_url(store):
        return
    if is_url(out):
        nested = is_below(out, store) or is_below(store, out)
    else:
        out, store = (str(Path(folder).resolve()) for folder in (out, store))
        nested = Path(out).is_relative_to(store) or Path(store).is_relative_to(out)
    if nested:
        raise ConfigError(f"out is {out} and store is {store}; neither may lie in the other: give another --store.")


def _refuse_pairs(options: OptionFields) -> None:
    if options.store is not None and not options.keep_store:
        raise ConfigError(
            "no_keep_store and store are both given; a named store may serve other builds: leave one out."
        )
    for one, other in EXCLUSIVE:
        if getattr(options, one) is not None and getattr(options, other) is not None:
            raise ConfigError(f"{one} and {other} are both given; they contradict each other: give one.")
    if options.ray_address is not None and options.engine != "ray":
        raise ConfigError(
            f"ray_address is given and engine is {options.engine!r}; give --engine ray, or leave the address out."
        )
    for what, names in _useless(options):
        for name in names:
            if getattr(options, name) not in (None, False, DEFAULTS[name]):
                raise ConfigError(
                    f"{name} is given together with {what}, which has no use for it: leave one of them out."
                )


def _useless(options: OptionFields) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Options without a meaning beside others, and what makes them so."""
    name = options.schedule_name
    if options.mode == "document":
        yield "mode 'document'", NOT_WITH_DOCUMENTS
    elif name in DOCUMENT_CURRICULA:
        raise ConfigError(
            f"schedule is {name!r} in mode {options.mode!r}; it orders whole documents: use mode document."
        )
    if name == "constant":
        yield "schedule 'constant'", ONLY_GROWING
    if options.phases is not None:
        yield "phases", NOT_WITH_PHASES
        if not parse_phases(options.phases, multiple_of=options.alignment).is_open:
            yield "phases that say how many steps there are (the last may be LEN:*)", ("steps", "tokens")
    for option, schedules in ONLY_FOR_SCHEDULE.items():
        if name not in schedules:
            yield f"schedule {name!r}", (option,)
    for option, formats in ONLY_FOR_TOKENIZED.items():
        if options.tokenized not in formats:
            yield "a corpus of texts" if options.tokenized is None else f"tokenized {options.tokenized!r}", (option,)
    if options.tokenized is not None:
        yield f"tokenized {options.tokenized!r}", NOT_WITH_TOKENIZED


def _check_tokenized(options: OptionFields) -> None:
    """Ids that exist need the tokenizer that made them."""
    if options.tokenized is not None and (options.tokenizer == "bytes" or options.tokenizer.startswith("train:")):
        raise ConfigError(
            f"tokenized is {options.tokenized!r} and tokenizer is {options.tokenizer!r}; the ids were made by a "
            f"tokenizer that exists: give the path of its tokenizer.json."
        )


def _check_sources(options: OptionFields) -> None:
    if not options.is_mixture:
        options.sources()
        for name in ("weight", "source_epochs"):
            if getattr(options, name):
                raise ConfigError(
                    f"{name} is given, and there is one source, {options.source_names[0]!r}; it fills every row, for "
                    f"as many epochs as epochs says: leave {name} out, or name another source."
                )
        return
    if options.mode in PACKED_MODES:
        raise ConfigError(
            f"mode is {options.mode!r} and there are {len(options.source_names)} sources; rows of several sources are "
            f"cut in mode segment or truncate: use one of them, or one source."
        )
    if options.corpus_tokens is not None:
        raise ConfigError(
            "corpus_tokens is given together with several sources, of which it does not say how large each is: "
            "leave it out, and give steps or the sources themselves."
        )
    entries = None if options.phases is None else len(options.phases.split(","))
    check_weights(options.sources(), pacing_of(options).lengths, entries)
