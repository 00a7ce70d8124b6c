"""The files of a corpus, by source: what is to be tokenized, found but not read yet.

In:  options: CORPUS arguments, named sources, or neither.   Out: `Corpus`, its digests and its work units.
Guarantee: an output or a store inside a corpus folder is not read back as corpus. The digest of a corpus is the same
after it was copied; its stamp is not.

    find_corpus(Options(source=("web=a", "books=b")), progress).sources      the files below a, and those below b
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import orjson

from curriculum.errors import ConfigError
from pipeline.endings import endings
from pipeline.files.address import is_below, is_url
from pipeline.folders import HUB, printable
from pipeline.hub.names import PREFIX, parse_hub_corpus
from pipeline.inputs import Inputs, find_inputs
from pipeline.options import Options
from pipeline.progress import Progress
from pipeline.sources import CORPUS, NamedSource
from pipeline.standard_library import find_standard_library
from pipeline.tokenized.formats import Stored
from pipeline.units import Unit, split_units


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusSource:
    """The files of one source."""

    name: str
    inputs: Inputs

    @property
    def digest(self) -> str:
        """Names, sizes and modification times: what a request remembers of a corpus, also after it was copied."""
        files = [
            # An object has no modification time that a copy would keep; its stamp is its ETag, version or commit.
            [os.fsencode(f.relative).hex(), f.size, f.mtime_ns if f.on_disk else f.stamp, f.kind]
            for f in self.inputs.files
        ]
        return hashlib.sha256(orjson.dumps(files)).hexdigest()

    @property
    def stamp(self) -> str:
        """The digest and the files' inodes and change times: nothing else on this machine has the same."""
        stamps = [self.digest, *(file.stamp for file in self.inputs.files)]
        return hashlib.sha256(orjson.dumps(stamps)).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """What is to be tokenized, found but not read yet."""

    sources: tuple[CorpusSource, ...]
    on_bad_record: str
    name: str
    """for people"""

    @property
    def digest(self) -> str:
        """Of all sources, their names and order included; of a single one its own."""
        return self._joined([source.digest for source in self.sources])

    @property
    def stamp(self) -> str:
        """The same, inodes and change times included."""
        return self._joined([source.stamp for source in self.sources])

    def _joined(self, digests: list[str]) -> str:
        names = [source.name for source in self.sources]
        return digests[0] if names == [CORPUS] else hashlib.sha256(orjson.dumps([names, digests])).hexdigest()

    @property
    def commits(self) -> dict[str, str]:
        """Commit of each repository of the Hub that is read by name."""
        files = [file for source in self.sources for file in source.inputs.files if file.kind == HUB]
        names = [parse_hub_corpus(file.path) for file in files]
        return {f"{PREFIX}{name.repository}": name.commit or "" for name in names}

    @property
    def sizes(self) -> tuple[tuple[str, int], ...]:
        """Path and bytes of every single file of a disk; folders written by `datasets` are left out."""
        files = (file for source in self.sources for file in source.inputs.files)
        return tuple((file.path, file.size) for file in files if file.kind != "datasets" and file.on_disk)

    def units(self, unit_bytes: int | None, stored: Stored | None) -> tuple[SourceUnit, ...]:
        """The work units of all sources, one source after the other."""
        return tuple(
            SourceUnit(source=number, unit=unit)
            for number, source in enumerate(self.sources)
            for unit in split_units(source.inputs.files, unit_bytes, stored)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceUnit:
    """A work unit and the source that it belongs to, as an index into the corpus's sources."""

    source: int
    unit: Unit


def find_corpus(options: Options, progress: Progress) -> Corpus:
    """The files of the CORPUS arguments or of the sources, or the Python standard library if there are none.

    Raises:
        ConfigError: a source has weights and no path, or there are no files.
    """
    named = options.sources()
    if options.corpus or options.source:
        sources = tuple(_find_source(source, options, progress) for source in named)
        name = " ".join(map(printable, options.corpus or options.source))
        return Corpus(sources=sources, on_bad_record=options.on_bad_record, name=name)
    if options.weight:
        raise ConfigError(
            f"weight names {named[0].name!r}, but no source of that name is given; add --source {named[0].name}=PATH."
        )
    if options.tokenized is not None:
        raise ConfigError(f"tokenized is {options.tokenized!r}, and no corpus is given: name its files or folders.")
    inputs = find_standard_library()
    progress.say(
        f"No corpus given: taking the Python standard library of this machine "
        f"({len(inputs.files):,} files, {inputs.total_bytes / 1e6:.0f} MB)."
    )
    # A few of its files are test data in no valid encoding; Python itself refuses to read them.
    sources = (CorpusSource(name=CORPUS, inputs=inputs),)
    return Corpus(sources=sources, on_bad_record="skip", name="the Python standard library")


def _find_source(source: NamedSource, options: Options, progress: Progress) -> CorpusSource:
    what = "Source " + repr(source.name) if options.source else "Corpus"
    try:
        found = find_inputs(source.paths, endings(options.tokenized), options=options.storage_option)
        inputs = _without_output(found, options, progress)
    except ConfigError as error:
        if not options.source:
            raise
        raise ConfigError(f"{what}: {error}") from error
    if inputs.num_ignored:
        progress.say(f"{what}: {inputs.num_ignored:,} files with other endings are left out.")
    return CorpusSource(name=source.name, inputs=inputs)


def _without_output(inputs: Inputs, options: Options, progress: Progress) -> Inputs:
    """The files that are not our own: an output inside the corpus folder must not be read back.

    Raises:
        ConfigError: nothing else is there.
    """
    own = (options.out, options.store_address())
    folders = [Path(place).resolve() for place in own if not is_url(place)]
    prefixes = [place for place in own if is_url(place)]

    @cache
    def is_own(folder: str) -> bool:
        if is_url(folder):
            return any(is_below(folder, ours) for ours in prefixes)
        return any(Path(folder).resolve().is_relative_to(ours) for ours in folders)

    files = tuple(
        file
        for file in inputs.files
        if file.kind == HUB or not is_own(os.path.dirname(file.path))  # noqa: PTH120
    )
    if not files:
        raise ConfigError(
            f"All {len(inputs.files):,} files of the corpus lie in the output {own[0]} or the store {own[1]}. "
            f"Give another --out and --store, or another corpus."
        )
    if len(files) < len(inputs.files):
        progress.say(f"Corpus: {len(inputs.files) - len(files):,} files of the output or the store are left out.")
    return replace(inputs, files=files)


def total_bytes(units: Sequence[SourceUnit]) -> int:
    """Of the texts or ids in the units."""
    return sum(one.unit.num_bytes for one in units)
