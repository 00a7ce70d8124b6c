"""A 64-bit digest for every row of an integer array, all rows at once.

In:  integers [rows, length].   Out: uint64 [rows].
Guarantee: depends on the values, their order and the length, not on the dtype, machine or numpy version: integer
arithmetic modulo 2**64 only. Each value is mixed with its place (splitmix64's finalizer), then the row is summed: every
value of a row counts, and no loop runs over tokens or rows. It tells rows apart; it is no protection against intent.

    row_digests([[5, 6], [6, 5], [5, 6]])      three numbers, of which the first and the third are equal
"""

from __future__ import annotations

from typing import Any

import numpy as np

Digests = np.ndarray[Any, np.dtype[np.uint64]]

_CHUNK_TOKENS = 1 << 20
"""Tokens mixed at once: 8 MiB, which a processor's cache holds."""


def row_digests(rows: np.ndarray[Any, Any]) -> Digests:
    """Digest of each row, uint64 [rows], of integers [rows, length]."""
    num_rows, length = rows.shape
    places = _mixed(np.arange(1, length + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    out = np.empty(num_rows, np.uint64)
    at_once = max(1, _CHUNK_TOKENS // max(1, length))
    for start in range(0, num_rows, at_once):
        values = rows[start : start + at_once].astype(np.int64).view(np.uint64)
        values += places
        out[start : start + at_once] = _mixed(values).sum(axis=1, dtype=np.uint64)
    return _mixed(out + np.uint64(length))


def _mixed(values: Digests) -> Digests:
    """splitmix64's finalizer, in place: a bijection under which equal differences do not stay equal."""
    values ^= values >> np.uint64(30)
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def to_hex(digests: Digests) -> str:
    """16 hexadecimal digits for each digest, one after the other."""
    return digests.astype(">u8").tobytes().hex()


def from_hex(text: str) -> Digests:
    """The inverse of `to_hex`.

    Raises:
        ValueError: not a multiple of 16 hexadecimal digits.
    """
    return np.frombuffer(bytes.fromhex(text), ">u8").astype(np.uint64)
