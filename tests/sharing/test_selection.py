"""A part of a dataset has the shards that its steps need, no more and no fewer."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from curriculum.errors import ConfigError
from curriculum.explicit_phases import parse_phases
from curriculum.manifest import load_manifest
from curriculum.phase_entry import PhaseEntry, ShardEntry
from curriculum.plan import Batch, Budget, Plan, compile_plan
from curriculum.storage import HELD_OUT
from pipeline.sharing.ranges import parse_ranges
from pipeline.sharing.selection import select


def cyclic() -> Any:
    """A manifest, as far as a selection looks at it: lengths come again, shards have 1, 2 or 3 steps."""
    pacing = parse_phases("8:3,16:2,8:4,32:1,16:3,8:1")
    plan = compile_plan(pacing=pacing, warmup=None, batch=Batch(rows=4), budget=Budget())
    entries = []
    for index, phase in enumerate(plan.phases):
        shards, left = [], phase.num_steps
        while left:
            steps = min(left, 1 + len(shards) % 3)
            left -= steps
            path = f"phases/{index}/{len(shards)}.arrow"
            shards.append(ShardEntry(path=path, num_rows=4 * steps, num_bytes=1, data_offset=0, sha256=""))
        entries.append(PhaseEntry(seq_len=phase.seq_len, shards=tuple(shards)))
    return SimpleNamespace(plan=plan, phases=entries, validation=None)


def shard_of(manifest: Any, step: int) -> str:
    """The slow way: count rows."""
    plan: Plan = manifest.plan
    phase, row = plan.locate(step)
    for shard in manifest.phases[phase].shards:
        if row < shard.num_rows:
            return str(shard.path)
        row -= shard.num_rows
    raise AssertionError


def test_every_range_of_steps_has_just_its_shards() -> None:
    """All 105 ranges of a plan that comes back to its lengths, and all pairs of one range and one step."""
    manifest = cyclic()
    total = manifest.plan.total_steps
    home = [shard_of(manifest, step) for step in range(total)]
    assert total == 14
    assert len(set(home)) == 9
    for start in range(total):
        for last in range(start, total):
            found = [each.entry.path for each in select(manifest, steps=f"{start}-{last}")]
            assert len(found) == len(set(found))
            assert set(found) == set(home[start : last + 1])
            for one in range(total):
                found = [each.entry.path for each in select(manifest, steps=f"{start}-{last},{one}")]
                assert set(found) == {*home[start : last + 1], home[one]}


def test_phases_are_whole_and_held_out_rows_always_come(small_dataset: Any) -> None:
    """Whoever trains a part still measures on the same held-out rows."""
    manifest = load_manifest(small_dataset)
    found = select(manifest, phases="1,6-7")
    assert {each.phase for each in found} == {1, 6, 7, HELD_OUT}
    assert [each.entry for each in found if each.phase == 7] == list(manifest.phases[7].shards)
    assert manifest.validation is not None
    assert [each.entry for each in found if each.phase == HELD_OUT] == list(manifest.validation.shards)
    assert [each.phase for each in select(manifest, steps="0")] == [0, *[HELD_OUT] * 3]
    assert len(select(manifest)) == 70


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("0", ((0, 1),)),
        ("0-3", ((0, 4),)),
        ("0,2,5-7", ((0, 1), (2, 3), (5, 8))),
        ("7,0-3, 2-5,6", ((0, 8),)),
        ("8-", ((8, 10),)),
        ("9-9", ((9, 10),)),
        ("0_0-0_9", ((0, 10),)),
    ],
)
def test_both_ends_count(text: str, ranges: Any) -> None:
    """As on a printer; ranges that touch become one."""
    assert parse_ranges(text, 10, "phases") == ranges
    assert all(one[1] < other[0] for one, other in pairwise(ranges))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("10", "--steps 10: the dataset has the steps 0 to 9."),
        ("3-12", "--steps 3-12: the dataset has the steps 0 to 9."),
        ("12-", "--steps 12-: the dataset has the steps 0 to 9."),
        ("3-1", "--steps 3-1: it ends before it begins."),
        ("", "--steps is '': give numbers"),
        ("a", "give numbers"),
        ("-3", "give numbers"),
        ("1--3", "give numbers"),
        ("1,,3", "give numbers"),
        ("_", "give numbers"),
        ("9" * 30, "give numbers"),
        ("٣", "give numbers"),
    ],
)
def test_what_is_no_range_is_refused(text: str, said: str) -> None:
    """Better than a part that nobody asked for."""
    with pytest.raises(ConfigError) as refused:
        parse_ranges(text, 10, "steps")
    assert said in str(refused.value)


def test_phases_and_steps_together_are_refused(small_dataset: Any) -> None:
    """Nobody knows whether both or either is meant."""
    with pytest.raises(ConfigError, match="one of them"):
        select(load_manifest(small_dataset), phases="0", steps="0")
