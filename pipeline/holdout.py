"""Which documents are held out for validation: those whose text hashes below a threshold.

In:  the parts of the store and a share or a number of tokens.   Out: the threshold, and what it holds out.
Guarantee: duplicates of a text never straddle the split, and neither seed nor schedule changes it. Memory does not grow
with the corpus: one pass finds the bin of the threshold among 65,536, a second one the value inside that bin.

    frac 0.01 -> threshold floor(0.01 * 2**64)      tokens 1000 -> the smallest threshold that holds out at least 1000
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from curriculum.errors import PlanError
from pipeline.files.contract import Files
from pipeline.part_index import measure_below, read_index


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOut:
    """Documents with text_hash < below are validation."""

    below: int = 0
    tokens: int = 0


def hold_out(
    store: Files, parts: tuple[str, ...], *, num_tokens: int | None = None, frac: Fraction | None = None
) -> HeldOut:
    """Hold out at least `num_tokens` tokens, a share `frac` of the texts, or nothing if neither is given.

    Raises:
        PlanError: nothing would be left to train on.
    """
    held_out = HeldOut()
    if num_tokens is not None:
        held_out = hold_out_tokens(store, parts, num_tokens)
    elif frac is not None:
        held_out = hold_out_frac(store, parts, frac)
        if held_out.tokens and held_out.tokens == _measure(store, parts, 2**64).tokens:
            raise PlanError(f"validation_frac {float(frac)} holds out every document of the corpus. Hold out less.")
    return held_out


def hold_out_frac(store: Files, parts: tuple[str, ...], frac: Fraction) -> HeldOut:
    """Hold out that share of the distinct texts."""
    return _measure(store, parts, int(frac * 2**64))


def hold_out_tokens(store: Files, parts: tuple[str, ...], num_tokens: int) -> HeldOut:
    """Hold out as few documents as have at least `num_tokens` tokens.

    Raises:
        PlanError: the corpus has fewer.
    """
    histogram = np.zeros(1 << 16, np.int64)
    for name in parts:
        index = read_index(store, name)
        tokens = index.num_tokens.astype(np.int64)
        np.add.at(histogram, (index.text_hash >> np.uint64(48)).astype(np.int64), tokens)
    reached = np.cumsum(histogram)
    if reached[-1] <= num_tokens:
        raise PlanError(
            f"validation_tokens is {num_tokens:,}, the corpus has {reached[-1]:,} tokens in all. "
            f"Hold out less, or add documents."
        )
    bin_ = int(np.searchsorted(reached, num_tokens))
    hashes, tokens = _documents_in_bin(store, parts, bin_)
    before = int(reached[bin_] - histogram[bin_])
    last = int(np.searchsorted(before + np.cumsum(tokens), num_tokens))
    return _measure(store, parts, int(hashes[last]) + 1)


def _documents_in_bin(
    store: Files, parts: tuple[str, ...], bin_: int
) -> tuple[np.ndarray[tuple[int], np.dtype[np.uint64]], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """(text hash, tokens) of the documents of one bin, by hash."""
    hashes, tokens = [], []
    for name in parts:
        index = read_index(store, name)
        inside = np.flatnonzero(index.text_hash >> np.uint64(48) == bin_)
        hashes.append(index.text_hash[inside])
        tokens.append(index.num_tokens[inside].astype(np.int64))
    all_hashes, all_tokens = np.concatenate(hashes), np.concatenate(tokens)
    order = np.argsort(all_hashes, kind="stable")
    return all_hashes[order], all_tokens[order]


def _measure(store: Files, parts: tuple[str, ...], below: int) -> HeldOut:
    return HeldOut(below=below, tokens=measure_below(store, parts, below)[1])
