"""Map-style micro-batches: what a sampler that deals items to ranks in turn makes of them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from curriculum.adapters.micro_batches import MicroBatches
from curriculum.adapters.pytorch import CurriculumDataset
from curriculum.errors import CursorError
from packed_dataset import write_packed_dataset

Example = dict[str, Any]


def assert_same(found: list[Example], expected: list[Example]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of pieces with boundaries and padding; treat it as read-only."""
    root = tmp_path_factory.mktemp("packed")
    write_packed_dataset(root)
    return root


@pytest.mark.parametrize("size", [{}, {"micro_batches": 2}, {"micro_tokens": 64}], ids=str)
@pytest.mark.parametrize("world_size", [1, 2])
def test_map_style_items_are_dealt_to_the_ranks_in_turn(small_dataset: Path, world_size: int, size: Any) -> None:
    """A sampler that gives rank r the items r, r + W, ... gives it exactly its micro-batches, in order."""
    items = MicroBatches(small_dataset, world_size=world_size, shift_labels=True, **size)
    total = 0
    for rank in range(world_size):
        mine = CurriculumDataset(small_dataset, rank=rank, world_size=world_size, shift_labels=True, **size)
        expected = list(mine)
        assert_same([items[i] for i in range(rank, len(items), world_size)], expected)
        total += len(expected)
    assert total == len(items)
    for index in (-1, len(items)):
        with pytest.raises(IndexError):
            items[index]


def test_map_style_items_are_contiguous_and_their_own(packed: Path) -> None:
    """Trainers flatten with `.view(-1)`, and keep several micro-batches of a step at once."""
    items = MicroBatches(packed, world_size=2, attention="position_ids", shift_labels=True)
    first = items[0]
    assert list(first) == ["input_ids", "labels", "shift_labels", "position_ids"]
    assert all(tensor.is_contiguous() and tensor.dtype == torch.int64 for tensor in first.values())
    first["labels"].fill_(0)
    assert not torch.equal(items[0]["labels"], first["labels"])


def test_map_style_datasets_open_only_what_is_asked_for_and_pickle_small(small_dataset: Path) -> None:
    """A trainer that continues at half of the run skips indices: it must not read what it skips."""
    items = MicroBatches(small_dataset, world_size=4)
    storage = items.reader._storage
    with patch.object(storage, "shard", wraps=storage.shard) as shard:
        expected = items[len(items) // 2 + 1]
    assert shard.call_count == 1
    data = pickle.dumps(items)
    assert len(data) < 2_000
    assert_same([pickle.loads(data)[len(items) // 2 + 1]], [expected])


def test_map_style_datasets_refuse_what_does_not_divide_at_once(small_dataset: Path) -> None:
    """At construction, not at the step where the phase begins."""
    with pytest.raises(CursorError, match=r"world_size 2 x micro_batches 8 = 16 does not divide"):
        MicroBatches(small_dataset, world_size=2, micro_batches=8)
