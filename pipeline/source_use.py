"""What a plan takes of every source: rows, tokens and epochs, in all and per phase.

In:  a plan, the weights of its sources, and how many rows each phase takes of each.   Out: `MixtureUse`.
Guarantee: rows are those that a build writes; epochs are tokens used up per token of the source, held-out ones aside.

    rows of 8, 70 of web and 30 of code, of 1,000 and 120 training tokens      560 of web, 0.56 epochs; 240, 2 epochs
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from curriculum.manifest import FILE_NAME, Manifest
from curriculum.mixture import Mixture
from curriculum.plan import Plan
from pipeline.mixed_windows import consumed_by_source, consumed_in_phase, rows_by_source
from pipeline.stated_windows import stated_windows


@dataclass(frozen=True, kw_only=True, slots=True)
class MixtureUse:
    """The sources of a plan, side by side."""

    plan: Plan
    mixture: Mixture
    names: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...]
    """[num_phases][num_sources]"""
    sizes: tuple[int, ...] | None
    """[num_sources] training tokens of one epoch; None without data"""
    fill: tuple[int, ...] = ()
    """[num_phases] of best-fit mode: how full rows are to get, in parts per million; () in other modes"""

    @property
    def consumed(self) -> tuple[int, ...]:
        """[num_sources] tokens of each stream that the plan uses up."""
        return consumed_by_source(self.plan, self.rows, self.fill)

    def trained(self, source: int, phase: int | None = None) -> int:
        """Trained tokens of a source, in one phase or in all; where rows are packed, slots."""
        phases = range(len(self.rows)) if phase is None else (phase,)
        return sum(self.plan.phases[number].seq_len * self.rows[number][source] for number in phases)

    def epochs(self, source: int, phase: int | None = None) -> float | None:
        """Passes over a source, in one phase or in all; None if its size is unknown or nothing."""
        if self.sizes is None or not self.sizes[source]:
            return None
        phases = range(len(self.rows)) if phase is None else (phase,)
        consumed = sum(consumed_in_phase(self.plan, number, self.rows[number][source], self.fill) for number in phases)
        return consumed / self.sizes[source]

    def weight(self, source: int) -> float:
        """Share of all rows that the weights give it."""
        return self.mixture.share_of_all([phase.num_rows for phase in self.plan.phases], source)

    def share(self, source: int) -> float:
        """Share of the trained tokens."""
        return self.trained(source) / self.plan.total_tokens

    def to_json(self) -> list[dict[str, Any]]:
        """For `--json`: an object for each source."""
        return [
            {
                "name": name,
                "training_tokens": None if self.sizes is None else self.sizes[source],
                "trained_tokens": self.trained(source),
                "consumed_tokens": self.consumed[source],
                "share": self.share(source),
                "epochs": self.epochs(source),
                "phases": [
                    {
                        "weight": self.mixture.share(phase, source),
                        "rows": self.rows[phase][source],
                        "trained_tokens": self.trained(source, phase),
                        "epochs": self.epochs(source, phase),
                    }
                    for phase in range(len(self.rows))
                ],
            }
            for source, name in enumerate(self.names)
        ]


def use_of(manifest: Manifest) -> MixtureUse | None:
    """Of a dataset; None if it has one source.

    Raises:
        DataError: its windows are not those that its shards were written by.
    """
    mixture, build = manifest.build.mixture, manifest.build
    if mixture is None:
        return None
    return MixtureUse(
        plan=manifest.plan,
        mixture=mixture,
        names=tuple(source.name for source in manifest.sources),
        rows=_rows(manifest, manifest.plan, mixture),
        sizes=tuple(source.tokens - (source.validation_tokens or 0) for source in manifest.sources),
        fill=build.fill,
    )


def consumed_of_sources(manifest: Manifest, plan: Plan, mixture: Mixture) -> tuple[int, ...]:
    """[num_sources] tokens that the first phases of a dataset take of every source's stream.

    Args:
        manifest: of the dataset.
        plan: its plan, or the beginning of it.
        mixture: of those phases.

    Raises:
        DataError: as `use_of`.
    """
    return consumed_by_source(plan, _rows(manifest, plan, mixture))


def _rows(manifest: Manifest, plan: Plan, mixture: Mixture) -> tuple[tuple[int, ...], ...]:
    build = manifest.build
    stated_windows(manifest, FILE_NAME)  # or what is laid out below might have no end
    return rows_by_source(
        plan,
        mixture,
        window_tokens=build.window_tokens,
        shard_bytes=build.shard_bytes,
        itemsize=manifest.itemsize,
    )
