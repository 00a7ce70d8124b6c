"""How long documents are, from those that begin in sampled rows.

In:  lengths of documents that end in their row, and for others how much of them was seen.
Out: documents and tokens by powers of two.
Guarantee: documents add up to those that were given. A document that goes on behind its row is at least as long as was
seen of it: `survival` (Kaplan and Meier 1958) takes that into account, so that long documents, which seldom end in the
row that they begin in, are not missed.

    lengths 2, 4 seen, 3 or more of a third     two of three are longer than 2, none of those that are left than 4
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from pipeline.census import LengthBin


def estimated_bins(seen: Sequence[int], unseen: Sequence[int], num_tokens: int, most: int) -> tuple[LengthBin, ...]:
    """Documents by length, of so many tokens of a stream.

    Args:
        seen: lengths of documents that begin and end in rows.
        unseen: of those that go on, the tokens seen of each: it is at least so long.
        num_tokens: in the rows; what shorter documents do not have is in those of the last bin.
        most: the longest row.
    """
    alive = survival(seen, unseen)
    documents, last = len(seen) + len(unseen), 1 << most.bit_length() - 1
    before = 1.0
    counts: defaultdict[int, float] = defaultdict(float)
    tokens: defaultdict[int, float] = defaultdict(float)
    for length, share in alive:
        low = min(last, 1 << length.bit_length() - 1)
        counts[low] += documents * (before - share)
        tokens[low] += documents * (before - share) * length
        before = share
    counts[last] += documents * before
    tokens[last] = max(0.0, num_tokens - sum(tokens[low] for low in tokens if low != last))
    return bins_of(counts, tokens)


def survival(seen: Iterable[int], unseen: Iterable[int]) -> list[tuple[int, float]]:
    """(length, share of documents that are longer), for each length that was seen: Kaplan and Meier's estimate."""
    ended, lost = Counter(seen), Counter(unseen)
    at_risk, alive, found = ended.total() + lost.total(), 1.0, []
    for length in sorted(ended.keys() | lost.keys()):
        if ended[length]:
            alive *= 1 - ended[length] / at_risk
            found.append((length, alive))
        at_risk -= ended[length] + lost[length]
    return found


def bins_of(counts: Mapping[int, float], tokens: Mapping[int, float]) -> tuple[LengthBin, ...]:
    """All powers of two from the first to the last that has any."""
    there = sorted(low for low in counts if counts[low] > 0)
    low, bins = there[0], []
    while low <= there[-1]:
        bins.append(LengthBin(low=low, documents=round(counts[low]), tokens=round(tokens[low])))
        low *= 2
    return tuple(bins)
