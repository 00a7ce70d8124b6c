"""Rows of a mixture add up, shard by shard, and no source is ever a row away from its share."""

from __future__ import annotations

from fractions import Fraction
from itertools import accumulate, pairwise, product
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

import curriculum.mixture
from curriculum.mixture import LOOK_AHEAD_SHARDS, Mixture, _leaves_shares_possible, apportion, reduced


def shares(weights: tuple[int, ...], shard_rows: tuple[int, ...]) -> list[tuple[int, ...]]:
    """What `apportion` gives, after holding it against the exact shares at the end of every shard."""
    found = list(apportion(weights, shard_rows))
    had, rows = [0] * len(weights), 0
    for counts, of_shard in zip(found, shard_rows, strict=True):
        assert sum(counts) == of_shard
        assert min(counts) >= 0
        had = [before + more for before, more in zip(had, counts, strict=True)]
        rows += of_shard
        for weight, count in zip(weights, had, strict=True):
            exact = Fraction(weight * rows, sum(weights))
            assert abs(count - exact) < 1, "a row or more away from the share"
            assert count == exact or exact.denominator > 1
    return found


def test_the_largest_remainders_get_the_rows_that_are_left() -> None:
    """Checked by hand: 10 rows by 47, 16, 15, 12, 8, 2 are 4.7 1.6 1.5 1.2 0.8 0.2, of which 3 rows are left."""
    assert shares((47, 16, 15, 12, 8, 2), (10,)) == [(5, 2, 1, 1, 1, 0)]
    assert shares((7, 3), (5, 5)) == [(4, 1), (3, 2)]
    assert shares((1, 1, 1), (4, 4, 4)) == [(2, 1, 1), (1, 2, 1), (1, 1, 2)], "ties go to the first that is owed"
    assert shares((1, 0), (3, 2)) == [(3, 0), (2, 0)]


def test_a_small_share_is_owed_until_it_is_a_row() -> None:
    """Rounded shard by shard, 2 % of shards of 16 rows would never get one."""
    found = shares((98, 2), (16,) * 50)
    assert [sum(counts) for counts in zip(*found, strict=True)] == [784, 16]
    gaps = [after - before for before, after in pairwise(i for i, (_, small) in enumerate(found) if small)]
    assert set(gaps) == {3, 4}, "evenly spread: one in 50 rows is one in three or four shards"


@pytest.mark.parametrize("num_sources", [1, 2, 3, 4])
def test_all_small_mixtures_of_all_small_shards(num_sources: int) -> None:
    """Every weight from 0 to 4 (of four sources, to 3), shards of 1 to 3 rows in every order of two sizes."""
    for weights in product(range(4 if num_sources == 4 else 5), repeat=num_sources):
        if any(weights):
            for sizes in product((1, 2, 3), repeat=2):
                shares(weights, sizes * (3 if num_sources == 4 else 3 * sum(weights)))


@given(
    st.lists(st.one_of(st.integers(0, 3), st.integers(0, 2**40)), min_size=1, max_size=14).filter(any),
    st.lists(st.one_of(st.integers(1, 3), st.integers(1, 10**6)), min_size=1, max_size=60),
)
def test_any_mixture_of_any_shards(weights: list[int], shard_rows: list[int]) -> None:
    """However many sources and however small the shards."""
    shares(tuple(weights), tuple(shard_rows))


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 40)), min_size=1, max_size=14).filter(lambda of: any(of[0])),
    st.lists(st.integers(1, 9), min_size=1, max_size=80),
)
def test_looking_ahead_is_what_the_format_says(sources: list[tuple[int, int]], shard_rows: list[int]) -> None:
    """By docs/format.md, over all sources at each end; ours looks only at those that are ahead."""
    weights, had = [weight for weight, _ in sources], [rows for _, rows in sources]
    total, ends = sum(weights), list(accumulate(shard_rows))[: LOOK_AHEAD_SHARDS + 1]
    if total == 0:
        return

    def by_the_book() -> bool:
        for end in ends[1:]:
            shares = [Fraction(end * weight, total) for weight in weights]
            if sum(max(floor(share), rows) for share, rows in zip(shares, had, strict=True)) > end:
                return False
            if sum(max(Fraction(0), rows - share) for share, rows in zip(shares, had, strict=True)) <= 1:
                return True
        return len(ends) <= LOOK_AHEAD_SHARDS

    known = [(end, sum(weight * end // total for weight in weights)) for end in ends]
    assert _leaves_shares_possible(weights, had, known) == by_the_book()


class Counted(int):
    """A weight that counts how often it is multiplied."""

    times = 0

    def __mul__(self, other: int) -> int:
        Counted.times += 1
        return int(self) * other


def test_shards_to_come_are_not_looked_at_for_every_source() -> None:
    """500 sources in 2,000 shards took 20 s: here each was multiplied 24 times a shard, and 5 times now."""
    Counted.times = 0
    rows = [1 + 37 * n % 199 for n in range(100)]
    counts = list(apportion([Counted(1 + n**3 % 999_983) for n in range(300)], rows))
    assert [sum(of_shard) for of_shard in counts] == rows
    assert Counted.times / (300 * 100) < 8


TWELVE = (50, 50, 50, 10, 1, 50, 1, 1, 1, 10, 10, 1)


def test_many_tiny_shares_cannot_get_too_far_ahead_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Largest remainders alone would leave a source of this mixture 1.36 rows behind after 138 shards of one row."""
    shares(TWELVE, (1,) * 470)
    monkeypatch.setattr(curriculum.mixture, "_leaves_shares_possible", lambda *_: True)
    with pytest.raises(AssertionError):
        shares(TWELVE, (1,) * 470)
    monkeypatch.undo()
    for look_ahead in (0, 1, 3):
        monkeypatch.setattr(curriculum.mixture, "LOOK_AHEAD_SHARDS", look_ahead)
        shares(TWELVE, (1,) * 470)


def test_only_proportions_count() -> None:
    """0.7 and 0.3, 70 and 30 are one mixture, and one manifest."""
    assert reduced((70, 30)) == (7, 3)
    assert reduced((0, 12, 8)) == (0, 3, 2)
    weights = Mixture(weights=((7, 3), (7, 3)))
    assert not weights.varies
    assert weights.share(1, 0) == 0.7
    assert Mixture(weights=((7, 3), (1, 1))).varies
