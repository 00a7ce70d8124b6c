"""The census of a corpus: how long its documents are, and what follows from that for rows of any length.

In:  the token store's indexes, or lengths and counts.   Out: `Census`: how many training documents of each length.
Guarantee: every result is an exact integer or fraction. Reads lengths of documents, never tokens; one index at a time;
memory grows with the number of distinct lengths, not with the corpus.

    lengths 2, 5 with counts 3, 1: 4 documents, 11 tokens, 7 targets
    rows of 4    5 of 11 tokens are in documents long enough: 5 tokens have 4 targets
    rows of 2    3 causal pairs, 2 of them of a token with itself; the third joins two documents with probability 4/11,
                 the share of tokens that end a document: 4/33 of the attention
    within documents, rows of 1 to 4: 3 of 1, none of 2, 1 of 4; no leftovers
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import accumulate
from typing import Any, Self

import numpy as np

from curriculum.errors import PlanError
from curriculum.limits import MAX_TOTAL
from pipeline.files.contract import Files
from pipeline.order import IntArray
from pipeline.part_index import read_index

PERCENTILES = (5, 25, 50, 75, 95, 99)
"""Shown to people and in `--json`."""
DENSE_LENGTHS = 1 << 20
"""Documents of fewer tokens are counted in an array of 8 MB; longer ones are rare, and one by one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LengthBin:
    """Documents of `low <= num_tokens < 2 * low`."""

    low: int
    documents: int
    tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BucketShares:
    """What the targets of a corpus come to when rows never cross a document."""

    rows: Mapping[int, int]
    """whole rows of each length, shortest first; packed rows of leftovers not counted"""
    leftover_targets: int
    """in pieces shorter than the shortest row: packed several to a row"""

    @property
    def targets(self) -> int:
        """All targets of the corpus."""
        return sum(seq_len * rows for seq_len, rows in self.rows.items()) + self.leftover_targets

    def share(self, seq_len: int) -> Fraction:
        """Share of the targets that is in whole rows of this length."""
        return Fraction(seq_len * self.rows.get(seq_len, 0), max(1, self.targets))

    @property
    def leftover_share(self) -> Fraction:
        """Share of the targets that has to be packed."""
        return Fraction(self.leftover_targets, max(1, self.targets))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Census:
    """How many documents there are of every length; tokens include EOS and BOS."""

    lengths: IntArray
    """int64 [distinct], ascending, in tokens"""
    counts: IntArray
    """int64 [distinct]: documents of that length, 1 or more"""
    # Sums over all shorter documents, [distinct + 1]: a row length is then answered by one binary search.
    _documents: IntArray = field(init=False, repr=False)
    _tokens: IntArray = field(init=False, repr=False)
    _squares: tuple[int, ...] = field(init=False, repr=False)
    _cubes: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        lengths, counts = self.lengths, self.counts
        if not len(lengths) or len(lengths) != len(counts):
            raise PlanError("a census needs at least one document, and one count for each length.")
        if lengths[0] < 1 or counts.min() < 1 or not (lengths[1:] > lengths[:-1]).all():
            raise PlanError("a census needs ascending lengths and counts of 1 or more.")
        if (lengths.astype(np.float64) * counts).sum() > MAX_TOTAL:
            raise PlanError(f"a census has at most {MAX_TOTAL} tokens.")
        object.__setattr__(self, "_documents", np.concatenate(([0], np.cumsum(counts))))
        object.__setattr__(self, "_tokens", np.concatenate(([0], np.cumsum(counts * lengths))))
        # Cubes of long documents do not fit 64 bits; Python integers are exact and need 0.1 s for 100,000 lengths.
        pairs = list(zip(lengths.tolist(), counts.tolist(), strict=True))
        object.__setattr__(self, "_squares", tuple(accumulate((c * n**2 for n, c in pairs), initial=0)))
        object.__setattr__(self, "_cubes", tuple(accumulate((c * n**3 for n, c in pairs), initial=0)))

    @classmethod
    def of(cls, lengths: Iterable[int] | Mapping[int, int]) -> Self:
        """The census of documents given by their lengths, or by how many there are of each."""
        counted = sorted(Counter(lengths).items())
        return cls(
            lengths=np.array([n for n, _ in counted], np.int64), counts=np.array([c for _, c in counted], np.int64)
        )

    @property
    def documents(self) -> int:
        return int(self._documents[-1])

    @property
    def tokens(self) -> int:
        return int(self._tokens[-1])

    @property
    def mean_length(self) -> Fraction:
        return Fraction(self.tokens, self.documents)

    def percentile(self, percent: int, *, by_tokens: bool = False) -> int:
        """The smallest length such that `percent` % of the documents, or of the tokens, are in documents up to it."""
        reached = self._tokens if by_tokens else self._documents
        wanted = -(-percent * int(reached[-1]) // 100)
        return int(self.lengths[int(np.searchsorted(reached, max(1, wanted))) - 1])

    def histogram(self) -> tuple[LengthBin, ...]:
        """Documents and tokens by powers of two, from the shortest document's bin to the longest's."""
        exponents = range(int(self.lengths[0]).bit_length() - 1, int(self.lengths[-1]).bit_length())
        edges = np.searchsorted(self.lengths, [2**k for k in (*exponents, exponents[-1] + 1)])
        documents, tokens = np.diff(self._documents[edges]).tolist(), np.diff(self._tokens[edges]).tolist()
        return tuple(LengthBin(low=2**k, documents=documents[i], tokens=tokens[i]) for i, k in enumerate(exponents))

    def tokens_in_documents_of_at_least(self, seq_len: int) -> int:
        """Tokens of documents that fill a row of `seq_len` on their own: n tokens have n - 1 targets."""
        return self.tokens - int(self._tokens[self._up_to(seq_len)])

    def cross_document_attention(self, seq_len: int) -> Fraction:
        """Share of the causal (query, key) pairs of a row, self pairs included, that join two documents.

        For a row of `seq_len` inputs that begins anywhere in the stream with equal probability, each document being
        followed by another one; the order of the documents plays no part. Two positions d apart are in the same
        document with probability sum c_n max(0, n - d) / sum c_n n, and a row has seq_len - d such pairs, so that a
        document of n tokens adds, with a = min(n, L) and b = max(n, L),

            sum over d < a of (L - d)(n - d) = b a (a + 1) / 2 - (a**3 - a) / 6

        which is summed here for n <= L and n > L separately. That much of the attention crosses documents unless the
        trainer masks it (`doc_starts`).
        """
        length, short = seq_len, self._up_to(seq_len)
        short_tokens, long_documents = int(self._tokens[short]), self.documents - int(self._documents[short])
        same = 3 * length * (self._squares[short] + short_tokens) - self._cubes[short] + short_tokens
        same += 3 * length * (length + 1) * (self.tokens - short_tokens) - (length**3 - length) * long_documents
        return 1 - Fraction(same, 3 * length * (length + 1) * self.tokens)

    def documents_per_row(self, seq_len: int) -> Fraction:
        """Mean number of documents that the inputs of a row hold a part of: one, and one per border inside."""
        return 1 + Fraction((seq_len - 1) * self.documents, self.tokens)

    def documents_cut(self, seq_len: int) -> Fraction:
        """Share of the documents that rows of a stream cut in two or more (segment mode).

        Rows begin every `seq_len` tokens and store one more: a document of n >= 2 tokens is whole in one of them for
        seq_len - n + 2 of the seq_len places it can begin at, so it is cut with probability min(1, (n - 2) / seq_len).
        """
        return Fraction(self._clipped(2, seq_len), seq_len * self.documents)

    def documents_reached(self, seq_len: int, max_seq_len: int) -> Fraction:
        """Share of the documents of which truncated rows (the first `seq_len` of every `max_seq_len`) keep a token.

        A document of n tokens is lost for max(0, max_seq_len - seq_len - n + 1) of the max_seq_len places it can
        begin at.
        """
        kept = (seq_len - 1) * self.documents + self._clipped(0, max_seq_len - seq_len + 1)
        return Fraction(kept, max_seq_len * self.documents)

    def documents_too_long(self, seq_len: int) -> int:
        """Documents that no row of `seq_len` holds whole: it stores `seq_len + 1` tokens (best-fit mode)."""
        return self.documents - int(self._documents[self._up_to(seq_len + 1)])

    def tokens_too_long(self, seq_len: int) -> int:
        """Tokens of documents that no row of `seq_len` holds whole."""
        return self.tokens - int(self._tokens[self._up_to(seq_len + 1)])

    def least_splits(self, seq_len: int) -> int:
        """The fewest cuts that make all documents fit: n - 1 targets need ceil((n - 1) / seq_len) pieces."""
        pieces = np.maximum(-(-(self.lengths - 1) // seq_len), 1)
        return int((self.counts * (pieces - 1)).sum())

    def decompose(self, shortest: int, longest: int) -> BucketShares:
        """Rows that never cross a document, of powers of two from `shortest` to `longest` (document mode).

        The n - 1 targets of a document are (n - 1) // longest rows of `longest`, then the binary digits of the rest,
        down to `shortest` (Dataset BucketShares, arXiv 2405.13226, with targets in place of tokens).

        Raises:
            PlanError: they are not powers of two, or the wrong way round.
        """
        if not 1 <= shortest <= longest or shortest & (shortest - 1) or longest & (longest - 1):
            raise PlanError(
                f"rows within documents go from {shortest} to {longest}; both must be powers of two, the first one not "
                f"above the second."
            )
        rest = (self.lengths - 1) % longest
        rows = {
            2**k: int((self.counts * (rest >> k & 1)).sum())
            for k in range(shortest.bit_length() - 1, longest.bit_length() - 1)
        }
        rows[longest] = int((self.counts * ((self.lengths - 1) // longest)).sum())
        return BucketShares(rows=rows, leftover_targets=int((self.counts * (rest % shortest)).sum()))

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "documents": self.documents,
            "tokens": self.tokens,
            "mean_length": float(self.mean_length),
            "min_length": int(self.lengths[0]),
            "max_length": int(self.lengths[-1]),
            "percentiles": {str(p): self.percentile(p) for p in PERCENTILES},
            "percentiles_by_tokens": {str(p): self.percentile(p, by_tokens=True) for p in PERCENTILES},
            "histogram": [
                {"from": b.low, "below": 2 * b.low, "documents": b.documents, "tokens": b.tokens}
                for b in self.histogram()
            ],
        }

    def _up_to(self, length: int) -> int:
        """How many of the distinct lengths are `length` or less."""
        return int(np.searchsorted(self.lengths, length, side="right"))

    def _clipped(self, shift: int, limit: int) -> int:
        """Sum over the documents of min(max(n - shift, 0), limit)."""
        first, stop = self._up_to(shift), self._up_to(shift + limit)
        inside = int(self._documents[stop] - self._documents[first])
        return (
            int(self._tokens[stop] - self._tokens[first])
            - shift * inside
            + limit * (self.documents - int(self._documents[stop]))
        )


def take_census(store: Files, parts: tuple[str, ...], *, held_out_below: int = 0) -> Census:
    """Count the lengths of the training documents in the parts of a store.

    Args:
        store: the token store.
        parts: the parts that make up the corpus.
        held_out_below: documents whose text hash is below it are validation and are not counted.

    Raises:
        PlanError: no document is left.
        BuildError: an index cannot be read.
    """
    dense, rare = np.zeros(DENSE_LENGTHS, np.int64), Counter[int]()
    for name in parts:
        index = read_index(store, name)
        lengths = index.num_tokens[index.text_hash >= held_out_below].astype(np.int64)
        short = lengths < DENSE_LENGTHS
        dense += np.bincount(lengths[short], minlength=DENSE_LENGTHS)
        rare.update(lengths[~short].tolist())
    if not rare and not dense.any():
        raise PlanError(f"{store.where}: no document is left to train on. Hold out less, or add documents.")
    there = np.flatnonzero(dense)
    longest = sorted(rare)
    return Census(
        lengths=np.concatenate((there, np.array(longest, np.int64))),
        counts=np.concatenate((dense[there], np.array([rare[length] for length in longest], np.int64))),
    )
