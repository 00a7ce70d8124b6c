"""How far a dataset can be extended, and what its numbers are then.

In:  the manifest, and how far to go.   Out: the longer plan, fill and mixture, and the accounting after its windows.
Guarantee: arithmetic alone. What the steps that are there use up is what they used up when they were cut; the new ones
take what follows in every stream, up to the end of its last epoch.

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
    """passes over the corpus, those that the dataset has begun included; None allows no new one"""

    def to_json(self) -> dict[str, Any]:
        """For the request."""
        return {"steps": self.steps, "tokens": self.tokens, "epochs": self.epochs}


def longer_plan(manifest: Manifest, extent: Extent) -> Plan:
    """As many steps more as are asked for, if there are tokens for them."""
    plan = manifest.plan
    extend_plan(plan, 1)  # refuses what cannot be extended, before numbers are looked at
    rooms = [_room(manifest, number, extent) for number in range(len(manifest.sources))]

    def fits(num_steps: int) -> bool:
        used = _consumed(manifest, extend_plan(plan, num_steps)) if num_steps else _consumed(manifest, plan)
        return all(tokens < room for tokens, room in zip(used, rooms, strict=True))

    per_step = plan.max_seq_len * rows_at_end(plan)
    most = _largest(fits, sum(rooms) // per_step)
    by_tokens = most if extent.tokens is None else extent.tokens // per_step
    wanted = by_tokens if extent.steps is None else extent.steps
    if not 1 <= wanted <= most:
        more = "allow more --epochs" if len(rooms) == 1 else "build anew with more --epochs"
        raise PlanError(
            f"{wanted:,} more steps of {per_step:,} tokens are asked for, the unused tokens of the corpus last for "
            f"{most:,}. Ask for 1 or more up to that, or {more}."
        )
    return extend_plan(plan, wanted)


def longer_fill(manifest: Manifest) -> tuple[int, ...]:
    """Best-fit mode: the new steps are as full as the last ones of that length; () in other modes."""
    fill = manifest.build.fill
    return fill and (*fill, _last_at_end(manifest.plan, fill))


def longer_mixture(manifest: Manifest) -> Mixture | None:
    """The new steps have the weights of the last ones of that length."""
    mixture = manifest.build.mixture
    if mixture is None:
        return None
    return Mixture(weights=(*mixture.weights, _last_at_end(manifest.plan, mixture.weights)))


def account_longer(manifest: Manifest, plan: Plan, counts: WindowCounts) -> Accounting:
    """The accounting before, and what the new windows have used."""
    before, packed = manifest.accounting, manifest.packed
    padding = (before.padding_tokens or 0) + counts.padding_tokens
    trained = plan.total_tokens - padding
    truncated = before.truncated_tokens + counts.dropped_tokens if packed else plan.dropped_tokens
    if len(manifest.sources) == 1:
        taken = [(training_tokens(manifest, 0), trained + truncated)]
    else:
        sizes = [training_tokens(manifest, number) for number in range(len(manifest.sources))]
        taken = list(zip(sizes, _consumed(manifest, plan), strict=True))
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


def _room(manifest: Manifest, number: int, extent: Extent) -> int:
    """Tokens of a source's stream that may be used up, and the one after them.

    The stream of another source begins where the last epoch of this one ends: only a single source may begin a new one.
    """
    begun = epochs_begun(_consumed(manifest, manifest.plan)[number], training_tokens(manifest, number))
    if len(manifest.sources) > 1:
        if extent.epochs is not None:
            raise ConfigError(
                "epochs is given, and the dataset has several sources, which lie end to end: leave it out."
            )
        return begun * training_tokens(manifest, number)
    return max(begun, extent.epochs or 1) * training_tokens(manifest, number)


def _consumed(manifest: Manifest, plan: Plan) -> tuple[int, ...]:
    """Tokens of every source's stream that a plan uses up: that of the manifest, or a longer one."""
    build, is_longer = manifest.build, len(plan.phases) > len(manifest.plan.phases)
    if build.mixture is None:
        fill = longer_fill(manifest) if is_longer else build.fill
        return (consumed_tokens(plan, fill),)
    mixture = longer_mixture(manifest) if is_longer else build.mixture
    assert mixture is not None
    rows = rows_by_source(
        plan,
        mixture,
        window_tokens=build.window_tokens,
        shard_bytes=build.shard_bytes,
        itemsize=manifest.itemsize,
    )
    return consumed_by_source(plan, rows)


def _last_at_end(plan: Plan, of_phase: tuple[T, ...]) -> T:
    """What belongs to the last phase of the maximum length."""
    return next(of_phase[i] for i, _ in reversed(plan.order) if plan.phases[i].seq_len == plan.max_seq_len)
