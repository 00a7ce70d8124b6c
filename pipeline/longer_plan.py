"""How far a dataset can be extended, and what its numbers are then.

In:  the manifest, how far to go, and from which source.   Out: the longer plan, fill and mixture, and the accounting
after its windows.
Guarantee: arithmetic alone. What the steps that are there use up is what they used up when they were cut; the new ones
take what follows in the streams that they are cut from, up to the end of the last epoch.

    one source of 1,000 tokens, 900 used up, steps of 40      2 more steps: 980 and the token after them
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from curriculum.accounting import Accounting, left_over
from curriculum.errors import ConfigError, PlanError
from curriculum.extension import extend_plan, rows_at_end
from curriculum.manifest import Manifest
from curriculum.mixture import Mixture
from curriculum.plan import Plan
from pipeline.built_streams import training_tokens
from pipeline.mixed_windows import consumed_by_source, epochs_begun, rows_by_source
from pipeline.window_counts import WindowCounts
from pipeline.windows import consumed_tokens

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """So many steps, or as many as train at most so many tokens; all that there are tokens for if neither is given."""

    steps: int | None = None
    tokens: int | None = None
    epochs: int | None = None
    """passes over the source, those that the dataset has begun included; None allows no new one"""

    def to_json(self) -> dict[str, Any]:
        """For the request."""
        return {"steps": self.steps, "tokens": self.tokens, "epochs": self.epochs}


@dataclass(frozen=True, kw_only=True, slots=True)
class Longer:
    """What the steps of an extension are added to, and what they are cut from."""

    manifest: Manifest
    """of the dataset before; a source that is new is among its sources, without a row"""
    source: int | None
    """the source that the new steps are cut from alone; None for those that the dataset was built from, mixed"""
    alike: tuple[int, ...]
    """phases that are cut from the same, the last visited first; () if the source is new"""
    new_fill: int = 0
    """best-fit mode: how full rows of a new source get, in parts per million"""

    @property
    def fill(self) -> tuple[int, ...]:
        """Best-fit mode: the new steps are as full as the last ones of that length; () in other modes."""
        fill = self.manifest.build.fill
        return fill and (*fill, self._last(fill, self.new_fill))

    @property
    def mixture(self) -> Mixture | None:
        """The new steps have the weights of the last ones of that length, or their source alone."""
        mixture = self.manifest.build.mixture
        if mixture is None:
            return None
        alone = tuple(int(number == self.source) for number in range(mixture.num_sources))
        return Mixture(weights=(*mixture.weights, self._last(mixture.weights, alone)))

    def consumed(self, plan: Plan) -> tuple[int, ...]:
        """Tokens of every source's stream that a plan uses up: that of the manifest, or one with new steps."""
        build, is_longer = self.manifest.build, len(plan.phases) > len(self.manifest.plan.phases)
        fill, mixture = (self.fill, self.mixture) if is_longer else (build.fill, build.mixture)
        if mixture is None:
            return (consumed_tokens(plan, fill),)
        rows = rows_by_source(
            plan,
            mixture,
            window_tokens=build.window_tokens,
            shard_bytes=build.shard_bytes,
            itemsize=self.manifest.itemsize,
        )
        return consumed_by_source(plan, rows, fill)

    def _last(self, of_phase: tuple[T, ...], otherwise: T) -> T:
        """What belongs to the last phase of the maximum length that is cut from the same."""
        plan = self.manifest.plan
        ends = (phase for phase in self.alike if plan.phases[phase].seq_len == plan.max_seq_len)
        return next((of_phase[phase] for phase in ends), otherwise)


def longer_plan(longer: Longer, extent: Extent) -> Plan:
    """As many steps more as are asked for, if there are tokens for them.

    Raises:
        PlanError: there are none, or the dataset cannot be extended.
    """
    plan = longer.manifest.plan
    extend_plan(plan, 1)  # refuses what cannot be extended, before numbers are looked at
    before = longer.consumed(plan)
    rooms = [_room(longer, number, extent) for number in range(len(before))]

    def fits(num_steps: int) -> bool:
        used = longer.consumed(extend_plan(plan, num_steps))
        return all(new == old or new < room for new, old, room in zip(used, before, rooms, strict=True))

    per_step = plan.max_seq_len * rows_at_end(plan)
    of_one = sum(longer.consumed(extend_plan(plan, 1))) - sum(before)  # in best-fit mode fewer than slots
    most = _largest(fits, sum(rooms) // of_one)
    by_tokens = most if extent.tokens is None else extent.tokens // per_step
    wanted = by_tokens if extent.steps is None else extent.steps
    if not 1 <= wanted <= most:
        raise PlanError(_too_many(longer, wanted, per_step, most))
    return extend_plan(plan, wanted)


def account_longer(longer: Longer, plan: Plan, counts: WindowCounts) -> Accounting:
    """The accounting before, and what the new windows have used."""
    manifest = longer.manifest
    before, packed = manifest.accounting, manifest.packed
    padding = (before.padding_tokens or 0) + counts.padding_tokens
    trained = plan.total_tokens - padding
    truncated = before.truncated_tokens + counts.dropped_tokens if packed else plan.dropped_tokens
    sizes = [training_tokens(manifest, number) for number in range(len(manifest.sources))]
    if packed or len(sizes) == 1:  # what of a source its rows leave out, only all of them together tell
        taken = [(sum(sizes), trained + truncated)]
    else:
        taken = list(zip(sizes, longer.consumed(plan), strict=True))
    unused, repeated, context = left_over(taken)
    if packed:
        context = min(before.context_tokens + counts.context_tokens, unused)
    return replace(
        before,
        trained_tokens=trained,
        truncated_tokens=truncated,
        unused_tokens=unused,
        repeated_tokens=repeated,
        context_tokens=context,
        padding_tokens=padding if packed else None,
    )


def _largest(fits: Callable[[int], bool], limit: int) -> int:
    """The largest number up to `limit` that fits, where all smaller ones do; 0 if none does."""
    low, high = 0, limit + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _room(longer: Longer, number: int, extent: Extent) -> int:
    """Tokens of a source's stream that may be used up, and the one after them.

    The stream of another source begins where the last epoch of this one ends: only the last source may begin a new one.
    """
    manifest = longer.manifest
    size = training_tokens(manifest, number)
    begun = epochs_begun(longer.consumed(manifest.plan)[number], size)
    if number == longer.source == len(manifest.sources) - 1:
        return max(begun, extent.epochs or 1) * size
    if extent.epochs is not None and longer.source in (None, number):
        raise ConfigError(
            "epochs is given, and the dataset has several sources, which lie end to end: only the last one can begin "
            "another epoch. Leave it out."
        )
    return begun * size


def _too_many(longer: Longer, wanted: int, per_step: int, most: int) -> str:
    """What was asked for, what there is, and what to do."""
    sources, number = longer.manifest.sources, longer.source
    of = "the corpus" if number is None or len(sources) == 1 else f"source {sources[number].name!r}"
    more = "allow more --epochs" if number == len(sources) - 1 else "extend by new text with --source NAME=PATH"
    if most == 0 and number is not None and not longer.alike:
        return (
            f"The {of} has {training_tokens(longer.manifest, number):,} tokens to train on, too few for one step of "
            f"{per_step:,} and the token after it. Give more text, or {more}."
        )
    return (
        f"{wanted:,} more steps of {per_step:,} tokens are asked for, the unused tokens of {of} last for {most:,}. "
        f"Ask for 1 or more up to that, or {more}."
    )
