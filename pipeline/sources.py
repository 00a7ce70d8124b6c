"""Named sources of a build and their weights, as they are typed.

In:  `NAME=PATH`, `NAME=WEIGHT` and `NAME=EPOCHS`, from flags or from `[[source]]` tables of a TOML file.
Out: `NamedSource`s in the order in which they were named, and their weights as integers for every phase.
Guarantee: weights are exact decimals, never floats; what names no source, or leaves one without a weight, is refused.

    web=0.7                 the same share in every phase; only proportions count: 0.7 and 0.3 are 7 and 3
    web=8:0.9,512:0.5       0.9 in rows of 8 tokens and more, 0.5 in rows of 512 and more
    web=0.9,0.9,0.2         one for each entry of --phases
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import lcm
from typing import Any

from curriculum.budget import MAX_EPOCHS
from curriculum.errors import ConfigError
from curriculum.mixture import Mixture, reduced
from curriculum.mixture_entry import SOURCE_NAME

CORPUS = "corpus"
"""All CORPUS arguments of a build are one source of this name."""
DECIMAL = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?|\.[0-9]{1,15}")
LENGTH = re.compile(r"[0-9]{1,10}")
MAX_WEIGHT = (1 << 63) - 1
"""Whole numbers of more bits are none in the JSON of most languages."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Weight:
    """A weight as it was said: the same everywhere, by row length, or by phase."""

    values: tuple[Fraction, ...]
    lengths: tuple[int, ...] = ()
    """from these row lengths on, ascending; () if it does not go by length"""

    @property
    def by_phase(self) -> bool:
        """One value for every phase."""
        return len(self.values) > 1 and not self.lengths

    def in_phase(self, phase: int, seq_len: int) -> Fraction:
        """The weight in one phase."""
        if self.lengths:
            return self.values[sum(first <= seq_len for first in self.lengths) - 1]
        return self.values[phase] if self.by_phase else self.values[0]

    def __str__(self) -> str:
        """The one way to write it: equal weights are equal requests."""
        if self.lengths:
            return ",".join(f"{first}:{value}" for first, value in zip(self.lengths, self.values, strict=True))
        return ",".join(map(str, self.values))


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedSource:
    """One source of a build."""

    name: str
    paths: tuple[str, ...]
    weight: Weight | None
    """None: in proportion to its tokens"""
    epochs: int
    """passes over it that a plan may take"""


def named_sources(
    corpus: Sequence[str], source: Sequence[str], weight: Sequence[str], source_epochs: Sequence[str], epochs: int
) -> tuple[NamedSource, ...]:
    """The sources that options name; CORPUS arguments are one of them, called `corpus`.

    Raises:
        ConfigError: the options contradict each other or cannot be read.
    """
    if corpus and source:
        raise ConfigError(
            "corpus and source are both given; give every part of the mixture a name, such as --source "
            f"{CORPUS}={corpus[0]}."
        )
    paths: dict[str, list[str]] = {}
    for name, path in _pairs("source", source, "PATH"):
        paths.setdefault(name, []).append(path)
    weights = {name: _weight(name, text) for name, text in _once("weight", weight, "WEIGHT")}
    caps = {name: _epochs(name, text) for name, text in _once("source_epochs", source_epochs, "EPOCHS")}
    if not source:
        names = list(weights) if weights and not corpus else [CORPUS]
        paths = {name: list(corpus) for name in names}
    for what, given in (("weight", weights), ("source_epochs", caps)):
        unknown = [name for name in given if name not in paths]
        if unknown:
            raise ConfigError(f"{what} names {unknown[0]!r}, which is no source; there are {', '.join(paths)}.")
    without = [name for name in paths if name not in weights]
    if weights and without:
        raise ConfigError(
            f"source {without[0]!r} has no weight, but {next(iter(weights))!r} has; give every source one, or none for "
            f"shares in proportion to their tokens."
        )
    return tuple(
        NamedSource(name=name, paths=tuple(found), weight=weights.get(name), epochs=caps.get(name, epochs))
        for name, found in paths.items()
    )


def check_weights(sources: Sequence[NamedSource], lengths: Sequence[int], num_phases: int | None) -> None:
    """Refuse weights that do not fit the schedule.

    Args:
        sources: with their weights.
        lengths: row lengths of the schedule, ascending.
        num_phases: entries of explicit phases; None for another schedule.
    """
    for source in sources:
        weight = source.weight
        if weight is None:
            return
        where = f"weight of {source.name!r}"
        if weight.lengths and weight.lengths[0] > lengths[0]:
            raise ConfigError(
                f"{where} begins at length {weight.lengths[0]}, but there are rows of {lengths[0]}; begin with "
                f"{lengths[0]}:WEIGHT or less."
            )
        if weight.lengths and weight.lengths[-1] > lengths[-1]:
            raise ConfigError(
                f"{where} has an entry from length {weight.lengths[-1]} on, but no row is longer than {lengths[-1]}; "
                f"leave it out, or use a larger max_length."
            )
        if weight.by_phase and len(weight.values) != num_phases:
            raise ConfigError(
                f"{where} lists {len(weight.values)} weights, one for each entry of phases, "
                f"{'which are not given' if num_phases is None else f'of which there are {num_phases}'}; use "
                f"LENGTH:WEIGHT to go by row length."
            )
    weights = [source.weight for source in sources if source.weight is not None]
    for phase in range(num_phases or 1) if any(weight.by_phase for weight in weights) else (0,):
        for seq_len in lengths if any(weight.lengths for weight in weights) else lengths[:1]:
            _whole([weight.in_phase(phase, seq_len) for weight in weights])


def mixture_of(sources: Sequence[NamedSource], seq_lens: Sequence[int], num_tokens: Sequence[int] | None) -> Mixture:
    """Integer weights for every phase.

    Args:
        sources: several, all with weights or none.
        seq_lens: row length of each phase.
        num_tokens: training tokens of each source, which are the weights if none were given; None if unknown.

    Raises:
        ConfigError: in some phase no source has a weight above 0.
    """
    if sources[0].weight is None:
        assert num_tokens is not None
        return Mixture(weights=(reduced(num_tokens),) * len(seq_lens))
    rows = []
    for phase, seq_len in enumerate(seq_lens):
        shares = [source.weight.in_phase(phase, seq_len) for source in sources if source.weight is not None]
        if not any(shares):
            raise ConfigError(
                f"All weights are 0 in phase {phase}, of rows of {seq_len}: somebody has to fill them; give one source "
                f"a weight above 0."
            )
        rows.append(_whole(shares))
    return Mixture(weights=tuple(rows))


def _whole(shares: Sequence[Fraction]) -> tuple[int, ...]:
    """The weights of a phase as the smallest integers in the same proportion.

    Raises:
        ConfigError: a manifest cannot hold them.
    """
    scale = lcm(*(share.denominator for share in shares))
    weights = [int(share * scale) for share in shares]
    weights = list(reduced(weights)) if any(weights) else weights
    if max(weights) > MAX_WEIGHT:
        raise ConfigError(
            f"weights from {float(min(share for share in shares if share)):g} to {float(max(shares)):g} are "
            f"{max(weights):,} and less as whole numbers in the same proportion, and at most {MAX_WEIGHT:,} can be "
            f"kept: give them fewer digits."
        )
    return tuple(weights)


def source_options(tables: Any, where: str) -> dict[str, tuple[str, ...]]:
    """The `[[source]]` tables of a TOML file as flags would say them.

    Raises:
        ConfigError: a table has another key, or a value of another type.
    """
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigError(f"{where}: source is {str(tables)[:80]!r}, expected tables [[source]] with name and path.")
    said: dict[str, list[str]] = {"source": [], "weight": [], "source_epochs": []}
    for table in tables:
        name, paths = table.get("name"), table.get("path")
        unknown = sorted(set(table) - {"name", "path", "weight", "epochs"})
        if unknown:
            raise ConfigError(f"{where}: [[source]] has the key {unknown[0]!r}; it knows name, path, weight, epochs.")
        paths = [paths] if isinstance(paths, str) else paths
        if not isinstance(name, str) or not isinstance(paths, list) or not all(isinstance(p, str) for p in paths):
            raise ConfigError(f"{where}: [[source]] needs a name and a path (a string, or a list of them).")
        said["source"] += [f"{name}={path}" for path in paths]
        if "weight" in table:
            said["weight"].append(f"{name}={_typed_weight(table['weight'], f'{where}: source {name!r}')}")
        if "epochs" in table:
            said["source_epochs"].append(f"{name}={table['epochs']}")
    return {key: tuple(values) for key, values in said.items() if values}


def by_name(below: Sequence[str], above: Sequence[str]) -> tuple[str, ...]:
    """What a file says by name, and flags on top: a name that flags give replaces all that the file says of it."""
    replaced = {entry.partition("=")[0] for entry in above}
    return (*(entry for entry in below if entry.partition("=")[0] not in replaced), *above)


def _typed_weight(value: Any, where: str) -> str:
    """A number, a table of length = weight, or a list with one for every phase."""
    if isinstance(value, dict):
        return ",".join(f"{length}:{_number(weight, where)}" for length, weight in value.items())
    if isinstance(value, list):
        return ",".join(_number(weight, where) for weight in value)
    return _number(value, where)


def _number(value: Any, where: str) -> str:
    is_number = isinstance(value, int | Decimal) and not isinstance(value, bool) and Decimal(value).is_finite()
    if not is_number or not -(10**15) < value < 10**15:
        raise ConfigError(f"{where}: weight is {str(value)[:40]!r}, expected a number such as 0.3.")
    return f"{Decimal(value):f}"


def _pairs(option: str, entries: Sequence[str], what: str) -> Iterator[tuple[str, str]]:
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not equals or not value or not SOURCE_NAME.fullmatch(name):
            raise ConfigError(
                f"{option} is {entry[:80]!r}; write NAME={what} with a name of letters, digits, '.', '_' and '-'."
            )
        yield name, value


def _once(option: str, entries: Sequence[str], what: str) -> Iterator[tuple[str, str]]:
    seen: Mapping[str, str] = {}
    for name, value in _pairs(option, entries, what):
        if name in seen:
            raise ConfigError(f"{option} of {name!r} is given twice, {seen[name]!r} and {value!r}; give one.")
        seen = {**seen, name: value}
        yield name, value


def _weight(name: str, text: str) -> Weight:
    parts = [part.strip() for part in text.split(",")]
    pairs = [part.rpartition(":") for part in parts]
    lengths = [first.strip() for first, colon, _ in pairs if colon]
    values = [value.strip() for _, _, value in pairs]
    fits = len(lengths) in (0, len(parts)) and all(LENGTH.fullmatch(first) for first in lengths)
    if not fits or not all(DECIMAL.fullmatch(value) for value in values):
        raise ConfigError(
            f"weight of {name!r} is {text[:80]!r}; write a decimal such as 0.3, or LENGTH:WEIGHT,LENGTH:WEIGHT,... "
            f"such as 8:0.9,512:0.5, or one for each of --phases."
        )
    firsts = [int(first) for first in lengths]
    if sorted(set(firsts)) != firsts:
        raise ConfigError(f"weight of {name!r} is {text[:80]!r}; its lengths have to grow.")
    return Weight(values=tuple(Fraction(value) for value in values), lengths=tuple(firsts))


def _epochs(name: str, text: str) -> int:
    if not LENGTH.fullmatch(text) or not 1 <= int(text) <= MAX_EPOCHS:
        raise ConfigError(f"source_epochs of {name!r} is {text[:40]!r}; give a whole number from 1 to {MAX_EPOCHS}.")
    return int(text)
