"""How far a dataset can be extended, and what its numbers are then.

In:  the manifest, how far to go, and from which source.   Out: the longer plan, fill and mixture, and the accounting
after its windows.
Guarantee: arithmetic alone. What the steps that are there use up is what they used up when they were cut; the new ones
take what follows in the streams that they are cut from, up to the end of the last epoch.

    one source of 1,000 tokens, 900 used up, steps of 40      2 more steps: 980 and the token after them
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
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
    """How many steps more, or in all, or how many tokens they train at most; all that there is if nothing is said."""

    steps: int | None = None
    total_steps: int | None = None
    """those that the dataset has included"""
    tokens: int | None = None
    epochs: int | None = None
    """passes over the source, those that the dataset has begun included; None allows no new one"""

    def to_json(self) -> dict[str, Any]:
        """For the request."""
        return asdict(self)


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
    wanted, most = wanted_steps(plan, extent), steps_left(longer, extent)
    if most == 0 or (wanted or 0) > most:
        # A mixture ends where the first of its sources does.
        before, rooms = longer.consumed(plan), _rooms(longer, extent)
        of_one, beyond = (longer.consumed(extend_plan(plan, more)) for more in (1, most + 1))
        short = next(k for k, room in enumerate(rooms) if beyond[k] != before[k] and beyond[k] >= room)
        left, takes = rooms[short] - before[short], of_one[short] - before[short]
        per_step = plan.max_seq_len * rows_at_end(plan)
        raise PlanError(_too_few(longer, short, wanted, most=most, per_step=per_step, left=left, takes=takes))
    return extend_plan(plan, wanted or most)


def steps_left(longer: Longer, extent: Extent) -> int:
    """How many steps more there are tokens for."""
    plan = longer.manifest.plan
    before, rooms = longer.consumed(plan), _rooms(longer, extent)

    def fits(num_steps: int) -> bool:
        used = longer.consumed(extend_plan(plan, num_steps))
        return all(new == old or new < room for new, old, room in zip(used, before, rooms, strict=True))

    of_one = longer.consumed(extend_plan(plan, 1))
    return _largest(fits, sum(rooms) // (sum(of_one) - sum(before)))  # in best-fit mode a step takes fewer than slots


def going_on(manifest: Manifest, source: int | None) -> Longer:
    """Steps of what the dataset has: of one source alone, or of those that it was built from, mixed."""
    lone = manifest.lone_sources
    alike = tuple(phase for phase, _ in reversed(manifest.plan.order) if lone[phase] == source)
    return Longer(manifest=manifest, source=source, alike=alike)


def wanted_steps(plan: Plan, extent: Extent) -> int | None:
    """How many steps more are asked for; None for all that there are tokens for. No token need be at hand.

    Raises:
        PlanError: none, or the dataset cannot be extended.
    """
    extend_plan(plan, 1)  # refuses what cannot be extended, before numbers are looked at
    per_step = plan.max_seq_len * rows_at_end(plan)
    if extent.tokens is not None:
        if extent.tokens < per_step:
            raise PlanError(f"tokens is {extent.tokens:,}; a step trains {per_step:,}: ask for that many or more.")
        return extent.tokens // per_step
    if extent.total_steps is not None:
        there = plan.total_steps
        if extent.total_steps <= there:
            raise PlanError(
                f"total_steps is {extent.total_steps:,}, and the dataset has {there:,} without the new text: ask for "
                f"more than that."
            )
        return extent.total_steps - there
    if extent.steps is not None and extent.steps < 1:
        raise PlanError(f"steps is {extent.steps:,}; an extension has 1 or more.")
    return extent.steps


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
        context = before.context_tokens + counts.context_tokens
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


def _rooms(longer: Longer, extent: Extent) -> list[int]:
    """Of every source."""
    return [_room(longer, number, extent) for number in range(len(longer.manifest.sources))]


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


def _too_few(longer: Longer, short: int, wanted: int | None, *, most: int, per_step: int, left: int, takes: int) -> str:
    """Which source has too few tokens for what was asked for, and what helps."""
    sources, helps = longer.manifest.sources, _what_helps(longer, short)
    source = "the corpus" if len(sources) == 1 else f"source {sources[short].name!r}"
    if most == 0:
        is_new = longer.source is not None and not longer.alike
        helps = f"Give more text, or {helps}" if is_new else f"{helps[0].upper()}{helps[1:]}"
        return (
            f"There is no step of {per_step:,} tokens more: {source} has {left:,} tokens left, a step takes {takes:,} "
            f"and the token after them. {helps}."
        )
    return (
        f"{wanted:,} more steps of {per_step:,} tokens are asked for, and {source} has {left:,} tokens left, which "
        f"last for {most:,}. Ask for up to {most:,}, or {helps}."
    )


def _what_helps(longer: Longer, short: int) -> str:
    manifest = longer.manifest
    if longer.source == short == len(manifest.sources) - 1:
        return "allow more passes over it with --epochs"
    helps, built = "extend by new text with --source NAME=PATH", manifest.num_built_sources
    if short >= built:
        return helps  # its stream ends where that of the next one begins
    epochs = 1 + epochs_begun(longer.consumed(manifest.plan)[short], training_tokens(manifest, short))
    option = f"--epochs {epochs}" if built == 1 else f"--source-epochs {manifest.sources[short].name}={epochs}"
    return f"{helps}, or build the dataset anew with more steps and {option}"
