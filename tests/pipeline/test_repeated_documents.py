"""A document that an interval of several epochs holds more than once, clipped in every way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.files.address import store_files
from pipeline.store_names import tokens_name
from pipeline.stored_documents import Places, fill

PART = "ab" * 16


@pytest.mark.parametrize("starts", [(-3, 5), (5, -3), (-2, 4), (9, -4), (-4, 9), (0, 6)])
def test_copies_that_are_clipped_keep_their_tokens(starts: tuple[int, int], tmp_path: Path) -> None:
    """Read from the first copy's beginning to the last one's end, a clipped copy would get other tokens, or too few."""
    store = store_files(str(tmp_path))
    with store.write(tokens_name(PART)) as file:
        file.write(np.arange(100, 106, dtype=np.uint16))
    places = Places(part=np.zeros(2, np.int64), start=np.zeros(2, np.uint64), num_tokens=np.full(2, 6, np.uint64))
    out = np.zeros(12, np.uint16)
    expected = np.zeros(12, np.uint16)
    for start in starts:
        for position in range(max(start, 0), min(start + 6, 12)):
            expected[position] = 100 + position - start
    copied = fill(store, (PART,), places, np.array(starts), out)
    assert copied == np.count_nonzero(expected)
    assert out.tolist() == expected.tolist()
