"""What comes next is guessed from three places at equal distances, by the arithmetic of shares."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from curriculum.reader import Reader
from curriculum.remote.guess import Pattern, continuing, following
from curriculum.share import Share
from curriculum.storage import HELD_OUT, Place


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_the_guess_is_what_a_rank_reads(small_dataset: Path, world_size: int, micro_batches: int) -> None:
    """To the end of the phase, from shard to shard."""
    reader = Reader(small_dataset)
    share = Share(plan=reader.plan, rank=world_size - 1, world_size=world_size, micro_batches=micro_batches)
    places = [reader._place(*of_rows) for of_rows in share.places(0, 0)]
    pattern = Pattern(reader.manifest)
    strides = [pattern.stride(place) for place in places]
    guessed = 0
    for index, (place, stride) in enumerate(zip(places, strides, strict=True)):
        if stride:
            rest = [other[:4] for other in places[index:] if other.phase == place.phase]
            assert [other[:4] for other in islice(continuing(reader.manifest, place, stride), len(rest) + 1)] == rest
            guessed += 1
        else:
            assert index < 2 or places[index - 2].phase != place.phase
    assert guessed > len(places) // 2


def test_steps_at_random_are_no_pattern(small_dataset: Path) -> None:
    manifest = Reader(small_dataset).manifest
    pattern = Pattern(manifest)
    at = [Place(0, 0, start, start + 2) for start in (0, 4, 6, 2, 8, 4)]
    assert [pattern.stride(place) for place in at] == [0] * 6
    assert pattern.stride(Place(HELD_OUT, 0, 0, 2)) == 0
    assert [pattern.stride(Place(0, 0, start, start + 2)) for start in (0, 4, 8, 12)] == [0, 0, 4, 4]
    assert pattern.stride(Place(0, 0, 16, 17)) == 0  # another size
    assert pattern.stride(Place(1, 0, 0, 2)) == 0


def test_after_the_last_row_of_a_phase_comes_nothing(small_dataset: Path) -> None:
    manifest = Reader(small_dataset).manifest
    shards = manifest.phases[0].shards
    last = Place(0, len(shards) - 1, shards[-1].num_rows - 2, shards[-1].num_rows)
    assert following(manifest, last, 2) is None
