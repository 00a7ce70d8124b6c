"""Accounting: where every token of the corpus went.

In:  the `accounting` object of a manifest and the plan beside it.   Out: `Accounting`, whose numbers add up.
Guarantee: nothing is dropped silently. Where rows are packed the plan counts slots, one per input of a row; slots
without a target (padding, and the last token of each piece) are `padding_tokens`, so trained + padding = slots.

    corpus = trained + truncated + validation + unused - repeated       1000 = 640 + 0 + 100 + 260 - 0
    packed: 2 rows of 8 inputs, 11 of them with a target                16 slots = 11 trained + 5 padding
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from curriculum.errors import DataError
from curriculum.json_object import JsonObject
from curriculum.plan import Plan

NO_SHARE = ("corpus_tokens", "padding_tokens")
"""Counts of tokens that are no part of the corpus: the whole of it, and slots without text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Accounting:
    """Where every token of the corpus went.

    corpus = trained + truncated + validation + unused - repeated
    """

    corpus_tokens: int
    trained_tokens: int
    truncated_tokens: int
    """cut off every row in truncate mode; where rows are packed, what could not be packed"""
    validation_tokens: int
    unused_tokens: int
    repeated_tokens: int
    context_tokens: int
    """the part of unused that is stored as an input only; where rows are packed, the document beginnings that are
    stored, those of every epoch: they may be more than is unused"""
    padding_tokens: int | None = None
    """slots of the plan without a target; None, and no key in the manifest, where rows are not packed"""
    documents: int
    empty_documents: int
    skipped_records: int

    def to_json(self) -> dict[str, int]:
        """The object of the manifest: `padding_tokens` only where rows are packed."""
        return {name: number for name, number in asdict(self).items() if number is not None}


def left_over(taken: Sequence[tuple[int, int]]) -> tuple[int, int, int]:
    """(unused, repeated, context tokens) of streams that rows tile.

    Args:
        taken: (training tokens, tokens used up) of every source.
    """
    unused = sum(max(0, tokens - used) for tokens, used in taken)
    repeated = sum(max(0, used - tokens) for tokens, used in taken)
    # Where rows continue each other, the first token of a stream is the only one that is never a target.
    context = sum(1 for tokens, used in taken if 0 < used < tokens)
    return unused, repeated, context


def read_accounting(o: JsonObject, *, packed: bool) -> Accounting:
    """Types and keys of the object; whether its numbers add up is for `require_adds_up`."""
    names = [item.name for item in fields(Accounting) if packed or item.name != "padding_tokens"]
    entry = Accounting(**{name: o.integer(name) for name in names})
    o.no_others()
    return entry


def require_adds_up(a: Accounting, plan: Plan, *, source_tokens: int, packed: bool, where: str) -> None:
    """Refuse numbers that contradict each other, the plan or the sources.

    Raises:
        DataError: names the first contradiction.
    """
    accounted = a.trained_tokens + a.truncated_tokens + a.validation_tokens + a.unused_tokens - a.repeated_tokens
    if a.corpus_tokens != accounted:
        raise DataError(f"{where}: accounting has {a.corpus_tokens} corpus tokens but its parts sum to {accounted}.")
    if packed != (a.padding_tokens is not None):
        raise DataError(f"{where}: accounting has padding_tokens {a.padding_tokens}; packed rows have it, others not.")
    if packed:
        # In best-fit mode, truncated_tokens is what no row had room for: the plan cannot know it.
        if a.trained_tokens + (a.padding_tokens or 0) != plan.total_tokens:
            raise DataError(
                f"{where}: accounting has {a.trained_tokens} trained and {a.padding_tokens} padding tokens, "
                f"the plan {plan.total_tokens} slots."
            )
    elif (a.trained_tokens, a.truncated_tokens) != (plan.total_tokens, plan.dropped_tokens):
        raise DataError(
            f"{where}: accounting has {a.trained_tokens} trained and {a.truncated_tokens} truncated tokens, "
            f"the plan {plan.total_tokens} and {plan.dropped_tokens}."
        )
    if a.corpus_tokens != source_tokens:
        raise DataError(f"{where}: accounting has {a.corpus_tokens} corpus tokens, the sources do not sum to that.")
