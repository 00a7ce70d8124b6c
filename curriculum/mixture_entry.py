"""The mixture of a manifest: weights of sources, and where their streams lie in the common numbering.

In:  `build.mixture` and `sources` of a manifest, possibly damaged or hostile.   Out: `Mixture`, checked.
Guarantee: weights for every phase and source, some of each phase above 0; sources told apart by name, their streams one
after the other. That the rows keep to it is for `curriculum verify`.

    "mixture": [[7, 3], [1, 1]]     two phases, two sources: 70 % and 30 % of the rows, then half each
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from math import lcm
from typing import Protocol

from curriculum.errors import DataError
from curriculum.extension import Extension, added_sources, lone_sources
from curriculum.json_object import JsonObject
from curriculum.mixture import Mixture, reduced
from curriculum.printable import shown

REMEDY = "The manifest was edited or damaged: copy it again."
MAX_COMMON_BITS = 1 << 16
SOURCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a source may be called: terminals, tables and tools see it as it is."""


class PlacedSource(Protocol):
    """What is asked of an entry of `sources`."""

    @property
    def name(self) -> str: ...
    @property
    def tokens(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def validation_tokens(self) -> int | None: ...
    @property
    def first_document(self) -> int | None: ...


def read_mixture(build: JsonObject, num_phases: int) -> Mixture:
    """The weights in `build`; that there is one for every source is for `require_mixture_fits`."""
    rows = build.array("mixture")
    lists = [JsonObject({"mixture": row}, f"{build.where}[{i}]").integers("mixture") for i, row in enumerate(rows)]
    weights = tuple(tuple(row) for row in lists)
    if len(weights) != num_phases:
        raise DataError(f"{build.where}: mixture has {len(weights)} entries, the plan {num_phases} phases. {REMEDY}")
    for phase, of_phase in enumerate(weights):
        if not any(of_phase) or reduced(of_phase) != of_phase:
            raise DataError(
                f"{build.where}: mixture of phase {phase} is {shown(of_phase)}, expected whole numbers without a "
                f"common divisor, one of them above 0. {REMEDY}"
            )
    _require_common(weights, build.where)
    return Mixture(weights=weights)


def _require_common(weights: Sequence[Sequence[int]], where: str) -> None:
    """Shares of all rows are sums of fractions, exact: with thousands of unlike denominators they would have no end."""
    common = 1
    for total in {sum(of_phase) for of_phase in weights}:
        common = lcm(common, total)
        if common.bit_length() > MAX_COMMON_BITS:
            raise DataError(
                f"{where}: the weights of mixture have sums without a common multiple below 2**{MAX_COMMON_BITS}. "
                f"{REMEDY}"
            )


def require_mixture_fits(mixture: Mixture | None, sources: Sequence[PlacedSource], where: str) -> None:
    """Refuse sources that contradict the mixture, or each other.

    Raises:
        DataError: names the first contradiction.
    """
    several = len(sources) > 1
    if several != (mixture is not None):
        raise DataError(f"{where}: {len(sources)} sources, but build has {'a' if mixture else 'no'} mixture. {REMEDY}")
    if mixture is not None and any(len(of_phase) != len(sources) for of_phase in mixture.weights):
        raise DataError(f"{where}: mixture does not have one weight for each of {len(sources)} sources. {REMEDY}")
    if len({source.name for source in sources}) != len(sources):
        raise DataError(f"{where}: two sources have the same name. {REMEDY}")
    for source in sources:
        if not SOURCE_NAME.fullmatch(source.name):
            raise DataError(
                f"{where}: a source is named {shown(source.name)}, expected up to 64 letters, digits, '.', '_' and "
                f"'-', the first a letter or digit. {REMEDY}"
            )
        if (source.validation_tokens is not None, source.first_document is not None) != (several, several):
            raise DataError(
                f"{where}: source {source.name!r} has validation_tokens {source.validation_tokens} and first_document "
                f"{source.first_document}; those of a mixture have both, a single one has neither. {REMEDY}"
            )
    _require_order(sources, where)


def require_added_fit(
    mixture: Mixture | None, sources: Sequence[PlacedSource], extensions: Sequence[Extension], where: str
) -> None:
    """Refuse extensions by new sources that contradict the sources, or the weights of the phases.

    Raises:
        DataError: names the first contradiction.
    """
    added, names = added_sources(extensions), [source.name for source in sources]
    if not added:
        return
    if mixture is None or tuple(names[1:][-len(added) :]) != added:
        raise DataError(
            f"{where}: extensions added {shown(list(added))}, expected as the last of sources {shown(names)}. {REMEDY}"
        )
    built = len(names) - len(added)
    lone = lone_sources(extensions, names, len(mixture.weights))
    for phase, (source, weights) in enumerate(zip(lone, mixture.weights, strict=True)):
        alone = tuple(int(number == source) for number in range(len(names)))
        if (weights[built:] != (0,) * len(added)) if source is None else (weights != alone):
            raise DataError(
                f"{where}: mixture of phase {phase} is {shown(weights)}, but its rows are of "
                f"{f'the first {built} sources' if source is None else f'source {names[source]!r} alone'}. {REMEDY}"
            )


def _require_order(sources: Sequence[PlacedSource], where: str) -> None:
    for one, other in pairwise(sources):
        if one.offset > other.offset or (one.first_document or 0) > (other.first_document or 0):
            raise DataError(f"{where}: source {other.name!r} begins before source {one.name!r}. {REMEDY}")
