"""The order of a document curriculum: which length each step has, from the steps per length alone.

In:  steps of each power-of-two length (bucket), the curriculum's name, cycles and seed.
Out: ((seq_len, num_steps), ...) in training order, neighbours of equal length merged.

Guarantees: every step given appears exactly once, for any number of lengths, cycles and steps; integers and BLAKE2b
only, so every machine computes the same order and a reader can check it; no configuration asserts.

    natural       all steps shuffled: documents of all lengths are mixed as the corpus has them
    grow-linear   each cycle grows from short to long in as many sub-cycles as there are lengths; sub-cycle s takes
                  of bucket b the share odds(b)[s] / sum: 4 3 2 1 | 3 4 2 1 | 2 3 4 1 | 1 2 3 4 for four buckets
    grow-p2       the same with odds 8 4 2 1 | 4 8 2 1 | 2 4 8 1 | 1 2 4 8

After Dataset Decomposition (Pouransari et al. 2024, arXiv 2405.13226) and OLMo-core's `NumpyVSLDataset`, whose odds
these are. Unlike there, the steps of a length are spread over the cycles without a remainder to drop, and a rounding
that gives out more steps than there are is taken back where OLMo-core fails an assertion.

    document_runs({256: 9, 512: 9}, name="grow-linear", cycles=1, seed=0): 6 of 256 and 3 of 512 shuffled,
    then 3 and 6: round(9 * 2 / 3) = 6
"""

from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from itertools import groupby
from struct import pack

from curriculum.errors import PlanError
from curriculum.limits import MAX_SEQ_LEN, require_int
from curriculum.schedule import DOCUMENT_CURRICULA

MAX_SEED = 2**63 - 1
MAX_ORDER_STEPS = 2**22  # hashed and sorted one by one; how many runs they come to is limited by `Plan`

Steps = Mapping[int, int]  # seq_len -> num_steps


def document_runs(
    steps_by_length: Steps, *, name: str, cycles: int | None = None, seed: int = 0
) -> tuple[tuple[int, int], ...]:
    """The lengths of all steps in training order.

    Args:
        steps_by_length: steps of each length; lengths without steps have no part in the odds.
        name: one of `DOCUMENT_CURRICULA`.
        cycles: how often lengths grow from short to long; None for natural, and only there.
        seed: decides the order inside natural and inside each sub-cycle.
    """
    total_steps = _require_order(steps_by_length, name, cycles, seed)
    steps = {seq_len: steps_by_length[seq_len] for seq_len in sorted(steps_by_length) if steps_by_length[seq_len]}
    if cycles is None:
        lengths = _shuffled(steps, seed, 0, 0)
    else:
        if cycles > total_steps:
            raise PlanError(
                f"cycles {cycles} is above the total of {total_steps} steps; use cycles {total_steps} or fewer, "
                f"a smaller batch or a larger corpus."
            )
        lengths = _grown(steps, name, cycles, seed)
    return tuple((seq_len, sum(1 for _ in group)) for seq_len, group in groupby(lengths))


def _require_order(steps_by_length: Steps, name: str, cycles: int | None, seed: int) -> int:
    """The number of steps, of arguments that make sense one by one."""
    require_document_order(name, cycles, seed)
    for seq_len, num_steps in steps_by_length.items():
        require_int("seq_len", seq_len, most=MAX_SEQ_LEN)
        require_int(f"the number of steps of length {seq_len}", num_steps, least=0)
    total_steps = sum(steps_by_length.values())
    if not 1 <= total_steps <= MAX_ORDER_STEPS:
        raise PlanError(
            f"a document curriculum of {total_steps} steps has no order to write down; 1 to {MAX_ORDER_STEPS} steps "
            f"are possible, so use a larger batch or a budget of steps or tokens."
        )
    return total_steps


def require_document_order(name: str, cycles: int | None, seed: int) -> None:
    """What can be refused of an order before the steps are known."""
    if name not in DOCUMENT_CURRICULA:
        raise PlanError(f"document schedule is {name!r}; choose one of {', '.join(DOCUMENT_CURRICULA)}.")
    require_int("seed", seed, least=0, most=MAX_SEED)
    if name == "natural" and cycles is not None:
        raise PlanError(
            f"cycles {cycles} does not apply to schedule 'natural', which has no growth; "
            f"leave cycles out or use schedule 'grow-p2'."
        )
    if name != "natural":
        require_int("cycles", cycles)


def steps_of_cycle(num_steps: int, cycle: int, cycles: int) -> int:
    """Steps of one length in one cycle: 10 over 4 cycles are 2, 3, 2, 3. All of them together are all."""
    return num_steps * (cycle + 1) // cycles - num_steps * cycle // cycles


def growth_odds(name: str, bucket: int, num_buckets: int) -> tuple[int, ...]:
    """Odds of each sub-cycle for one bucket, 0 the shortest: largest in the sub-cycle of its own number."""
    start = num_buckets - bucket
    turns = (start + s for s in range(num_buckets))
    entries = tuple(turn if turn <= num_buckets else start - turn % num_buckets for turn in turns)
    return tuple(1 << (entry - 1) for entry in entries) if name == "grow-p2" else entries


def steps_of_sub_cycles(num_steps: int, odds: tuple[int, ...]) -> tuple[int, ...]:
    """`num_steps` in proportion to `odds`, each rounded half to even, then made to add up.

    As in OLMo-core a shortfall goes to the last sub-cycle. An overshoot (9 by 4 3 2 1 rounds to 4 3 2 1: 10) is taken
    from the last sub-cycles that have any: 4 3 2 0.
    """
    whole = sum(odds)
    counts = [_round_half_even(num_steps * share, whole) for share in odds]
    excess = sum(counts) - num_steps
    counts[-1] += max(0, -excess)
    for s in range(len(counts) - 1, -1, -1):
        if excess <= 0:
            break
        taken = min(counts[s], excess)
        counts[s] -= taken
        excess -= taken
    return tuple(counts)


def _round_half_even(numerator: int, denominator: int) -> int:
    quotient, rest = divmod(2 * numerator + denominator, 2 * denominator)
    return quotient - (rest == 0 and quotient % 2)


def _grown(steps: Steps, name: str, cycles: int, seed: int) -> Iterator[int]:
    odds = [growth_odds(name, bucket, len(steps)) for bucket in range(len(steps))]
    for cycle in range(cycles):
        shares = [
            (seq_len, steps_of_sub_cycles(num_steps, odds[bucket]))
            for bucket, (seq_len, total) in enumerate(steps.items())
            if (num_steps := steps_of_cycle(total, cycle, cycles))
        ]
        for sub_cycle in range(len(steps)):
            here = {seq_len: counts[sub_cycle] for seq_len, counts in shares if counts[sub_cycle]}
            yield from _shuffled(here, seed, cycle, sub_cycle)


def _shuffled(steps: Steps, seed: int, cycle: int, sub_cycle: int) -> Iterable[int]:
    """Lengths of these steps, sorted by a hash of where each step stands: no generator, no state, no version."""
    keyed = [
        (blake2b(head + pack(">Q", number), digest_size=16, key=b"curriculum/document-order/1").digest(), seq_len)
        for seq_len, num_steps in steps.items()
        for head in (pack(">QQQQ", seed, cycle, sub_cycle, seq_len),)
        for number in range(num_steps)
    ]
    keyed.sort()
    return (seq_len for _, seq_len in keyed)
