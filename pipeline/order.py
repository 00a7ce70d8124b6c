"""Permutations that are the same on every machine, in every version of numpy and for any number of workers.

In:  the seed of the build, a purpose and the indices of what is permuted.
Out: a permutation of range(size), int64 [size].
Guarantee: a pure function of its arguments. `Generator.permutation` may change between numpy versions; the raw words of
the counter-based Philox generator may not, and a stable sort of them is a permutation that needs no state.

    permutation(3, seed=0, purpose="documents", index=(0, 7))     always the same three numbers
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xxhash

IntArray = np.ndarray[Any, np.dtype[np.int64]]


def permutation(size: int, *, seed: int, purpose: str, index: tuple[int, ...]) -> IntArray:
    """Stable argsort of `size` 64-bit Philox words, ties by position.

    Args:
        size: number of things to permute.
        seed: seed of the build.
        purpose: what is permuted ("partitions", "documents", "cut", "deal").
        index: which of them, such as (epoch, partition).
    """
    key = xxhash.xxh3_128_intdigest("/".join([purpose, str(seed), *map(str, index)]).encode())
    words = np.random.Philox(key=np.array([key & (2**64 - 1), key >> 64], dtype=np.uint64)).random_raw(size)
    return np.argsort(words, kind="stable")
