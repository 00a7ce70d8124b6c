"""Which parts are merged: arithmetic over their sizes, checked on small thresholds and at the size of a cluster."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pipeline.merge_layout
from pipeline.merge_layout import MergeLayout, StoredPart, lay_out_merge
from pipeline.stored_documents import EVERY_KEY

MB = 1 << 20


def parts_of(sizes: list[int]) -> list[StoredPart]:
    """Parts named by their numbers."""
    return [StoredPart(name=f"{i:032x}", digest=f"d{i}", num_bytes=size) for i, size in enumerate(sizes)]


def tile(ranges: list[tuple[int, int]]) -> bool:
    """Whether ranges of keys lie end to end from the first key to the last."""
    ranges = sorted(ranges)
    return (ranges[0][0], ranges[-1][1]) == EVERY_KEY and all(a[1] == b[0] for a, b in pairwise(ranges))


def originals(layout: MergeLayout, sizes: list[int]) -> dict[str, dict[str, float]]:
    """Of every part that is read in the end: how many bytes of which parts of the corpus went in, by replaying."""
    content = {part.name: {part.name: float(part.num_bytes)} for part in parts_of(sizes)}
    width = dict.fromkeys(content, 1 << 64)
    for tasks in layout.rounds:
        for task in tasks:
            span = task.keys[1] - task.keys[0]
            content[task.name] = {
                name: num_bytes * span / width[source]
                for source in task.sources
                for name, num_bytes in content[source].items()
            }
            width[task.name] = span
    return {name: content[name] for name in layout.merged.names}


@given(
    st.lists(st.integers(0, 5_000), min_size=1, max_size=300),
    st.integers(1, 4_000),
    st.sampled_from([64, 500]),
    st.sampled_from([500, 4_000, 30_000]),
)
def test_every_byte_goes_in_once_and_comes_out_once(
    sizes: list[int], num_partitions: int, slice_bytes: int, output_bytes: int
) -> None:
    """A part left out, or read under two names, would be documents lost or trained on twice."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.merge_layout, "SLICE_BYTES", slice_bytes)
        patch.setattr(pipeline.merge_layout, "OUTPUT_BYTES", output_bytes)
        patch.setattr(pipeline.merge_layout, "FEW_SLICES", 10)
        layout = lay_out_merge(parts_of(sizes), num_partitions)
    if layout is None:
        return
    for number, tasks in enumerate(layout.rounds):
        read: dict[str, list[tuple[int, int]]] = {}
        for task in tasks:
            for source in task.sources:
                read.setdefault(source, []).append(task.keys)
        if number == 0:
            assert set(read) == {part.name for part in parts_of(sizes)}
            assert all(tile(ranges) for ranges in read.values())
        else:  # every result of the round before, over its own keys
            before = {task.name: task.keys for task in layout.rounds[number - 1]}
            assert set(read) == set(before)
            for name, ranges in read.items():
                assert sum(stop - start for start, stop in ranges) == before[name][1] - before[name][0]
    last = {task.name: task.keys for task in layout.rounds[-1]}
    assert dict(zip(layout.merged.names, layout.merged.ranges, strict=True)) == last
    found = originals(layout, sizes)
    for part in parts_of(sizes):
        assert sum(of_part.get(part.name, 0.0) for of_part in found.values()) == pytest.approx(part.num_bytes)
    # What a task holds: its share of a group, that is OUTPUT_BYTES and at most one part's share beyond.
    for of_part in found.values():
        assert sum(of_part.values()) <= output_bytes + 1e-6


@pytest.mark.parametrize(
    ("num_parts", "part_mb", "num_partitions", "rounds", "files_per_partition"),
    [
        pytest.param(1, 64, 2, 0, 1, id="one part"),
        pytest.param(72, 4, 9, 0, 72, id="500 MB of text: small slices, but few of them"),
        pytest.param(1_000, 64, 2_000, 1, 4, id="1 T of text"),
        pytest.param(100_000, 0.1, 313, 1, 40, id="a hundred thousand small files"),
    ],
)
def test_rounds_at_the_size_of_a_cluster(
    num_parts: int, part_mb: float, num_partitions: int, rounds: int, files_per_partition: int
) -> None:
    """The numbers of docs/scale.md: after the rounds a partition lies in few files, of about 256 MiB each."""
    sizes = [int(part_mb * MB)] * num_parts
    layout = lay_out_merge(parts_of(sizes), num_partitions)
    assert (0 if layout is None else len(layout.rounds)) == rounds
    if layout is None:
        return
    lowest = min(layout.merged.ranges)
    assert sum(keys == lowest for keys in layout.merged.ranges) == files_per_partition
    for tasks in layout.rounds:
        assert all(len(task.sources) <= 3_000 for task in tasks)
    of_task = sum(sizes) / len(layout.rounds[-1])
    assert 64 * MB <= of_task <= 256 * MB


def test_the_name_of_a_merged_part_says_what_went_in() -> None:
    """A part that was encoded again with other ids, or another range, must not be taken for the one that is there."""
    sizes = [64 * MB] * 1_000
    first = lay_out_merge(parts_of(sizes), 2_000)
    assert first is not None
    assert first == lay_out_merge(parts_of(sizes), 2_000)
    other = parts_of(sizes)
    other[999] = StoredPart(name=other[999].name, digest="another", num_bytes=64 * MB)
    second = lay_out_merge(other, 2_000)
    assert second is not None
    same = set(first.merged.names) & set(second.merged.names)
    assert len(same) == 3 * 63  # of four groups, the last one changed
    assert len(set(first.merged.names)) == 4 * 63
