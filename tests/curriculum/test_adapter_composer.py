"""Composer's dataset protocol, against a model of the calls that Composer makes.

Composer wants torch below 2.7.1 and cannot be installed here. `Composer` below repeats, from facts, what its source
(0.33.0.dev0, commit 6405188) does with a train dataset; the comments name its functions. Nothing of it is copied.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset

import curriculum
from curriculum.adapters.composer import ComposerDataset, cursor_of_samples, num_samples_in_batch, num_tokens_in_batch
from curriculum.budget import Batch, Budget
from curriculum.errors import ConfigError, CursorError
from curriculum.plan import Plan, compile_plan
from curriculum.schedule import parse_phases


class Composer:
    """All ranks of one Trainer, in lockstep. `seen` holds the rows of each step, in the order of the global batch."""

    def __init__(self, specs: list[dict[str, Any]], microbatch_size: int = 1000, checkpoint: str | None = None) -> None:
        """`Trainer.__init__`: the loaders are set (`ensure_data_spec` takes a dict of arguments), then a checkpoint is
        loaded. The clock and the dataset's state are among what a checkpoint holds."""
        self.specs = specs
        self.microbatch_size = microbatch_size
        self.epoch = self.batch_in_epoch = self.sample_in_epoch = self.sample = self.token = 0
        self.resumes: set[int] = set()
        self.seen: list[np.ndarray[Any, Any]] = []
        self.tokens_with_loss = 0
        if checkpoint is not None:
            self._load(json.loads(checkpoint))

    @staticmethod
    def dataset_of(loader: object) -> Any:
        """`State._dataset_of`: only a torch DataLoader has a dataset."""
        return loader.dataset if isinstance(loader, DataLoader) else None

    def save(self) -> str:
        """`State._dataset_state_dict` on rank 0: samples of the epoch, summed over ranks, from its beginning."""
        dataset = self.dataset_of(self.specs[0]["dataloader"])
        train = dataset.state_dict(int(self.sample_in_epoch), True) if hasattr(dataset, "state_dict") else None
        names = ("epoch", "batch_in_epoch", "sample_in_epoch", "sample", "token")
        return json.dumps({"train": train, "clock": {name: getattr(self, name) for name in names}})

    def _load(self, state: dict[str, Any]) -> None:
        """`State._load_dataset_state`: every rank loads rank 0's, and that it could is remembered."""
        vars(self).update(state["clock"])
        for rank, spec in enumerate(self.specs):
            dataset = self.dataset_of(spec["dataloader"])
            if hasattr(dataset, "load_state_dict"):
                dataset.load_state_dict(state["train"])
                self.resumes.add(rank)

    def fit(self, epochs: int = 1, stop_at_batch: int | None = None) -> None:
        """`Trainer._train_loop`. Without a dataset that resumes, `_spin_dataloaders_to_cur_epoch` takes a batch for
        each past epoch, and the loop drops `batch_in_epoch` batches."""
        spins = len(self.resumes) < len(self.specs)
        for _ in range(self.epoch if spins else 0):
            for spec in self.specs:
                next(iter(spec["dataloader"]), None)
        while self.epoch < epochs:
            # `_iter_dataloader`: as many batches as the loader's length says, and no more when one rank has none left.
            loaders = [itertools.islice(spec["dataloader"], len(spec["dataloader"])) for spec in self.specs]
            for batch_idx, batches in enumerate(zip(*loaders, strict=True)):
                if spins and batch_idx < self.batch_in_epoch:
                    continue
                self._train_batch(list(batches))
                if self.batch_in_epoch == stop_at_batch:
                    return
            self.epoch, self.batch_in_epoch, self.sample_in_epoch = self.epoch + 1, 0, 0

    def _train_batch(self, batches: list[dict[str, torch.Tensor]]) -> None:
        """`_train_batch`, `_train_microbatches`, `_accumulate_time_across_ranks`: one optimizer step."""
        rows = []
        for spec, batch in zip(self.specs, batches, strict=True):
            micro_batches = spec["split_batch"](batch, self.microbatch_size)
            assert sum(map(spec["get_num_samples_in_batch"], micro_batches)) == spec["get_num_samples_in_batch"](batch)
            rows += [part["input_ids"].numpy().copy() for part in micro_batches]
            tokens = [spec["get_num_tokens_in_batch"](part) for part in micro_batches]
            self.token += sum(count["total"] for count in tokens)
            self.tokens_with_loss += sum(count["loss_generating"] for count in tokens)
            samples = spec["get_num_samples_in_batch"](batch)
            self.sample_in_epoch, self.sample = self.sample_in_epoch + samples, self.sample + samples
        self.batch_in_epoch += 1
        self.seen.append(np.concatenate(rows))


def specs(dataset: Path, world_size: int, **options: Any) -> list[dict[str, Any]]:
    return [
        ComposerDataset(dataset, rank=rank, world_size=world_size, **options).data_spec() for rank in range(world_size)
    ]


@pytest.fixture(scope="module")
def dataset(build_small: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Constant tokens: steps of 16, 8 and 4 rows, so that samples and steps are different counts."""
    out = tmp_path_factory.mktemp("composer") / "dataset"
    options = {"batch_rows": None, "batch_tokens": 256, "rows_multiple_of": 4, "multiple_of": 8}
    build_small(out, steps=14, mode="best-fit", max_shapes=4, **options)
    return out


@pytest.fixture(scope="module")
def whole(dataset: Path) -> list[np.ndarray[Any, Any]]:
    reader = curriculum.open(dataset)
    return [reader[step].inputs for step in range(len(reader))]


def assert_equal(seen: list[np.ndarray[Any, Any]], wanted: list[np.ndarray[Any, Any]]) -> None:
    assert len(seen) == len(wanted)
    for one, other in zip(seen, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_every_optimizer_step_is_a_step_of_the_plan(
    dataset: Path, whole: list[np.ndarray[Any, Any]], world_size: int
) -> None:
    trainer = Composer(specs(dataset, world_size), microbatch_size=3)
    trainer.fit()
    reader = curriculum.open(dataset)
    assert_equal(trainer.seen, whole)
    assert trainer.sample == sum(map(len, whole)) == trainer.specs[0]["num_samples"]
    assert trainer.token == reader.plan.total_tokens == trainer.specs[0]["num_tokens"]
    assert trainer.tokens_with_loss == reader.manifest.accounting.trained_tokens


def test_a_run_stopped_at_any_step_goes_on_with_another_world_size_and_micro_batch(
    dataset: Path, whole: list[np.ndarray[Any, Any]]
) -> None:
    """And is stopped a second time, one step later."""
    for step in range(1, len(whole)):
        first = Composer(specs(dataset, 4))
        first.fit(stop_at_batch=step)
        second = Composer(specs(dataset, 1, micro_tokens=64), checkpoint=first.save())
        second.fit(stop_at_batch=step + 1)
        third = Composer(specs(dataset, 2), microbatch_size=2, checkpoint=second.save())
        third.fit()
        assert_equal(first.seen + second.seen + third.seen, whole)
        assert third.sample == sum(map(len, whole))


def test_the_second_epoch_begins_at_step_0_also_after_a_restart(
    dataset: Path, whole: list[np.ndarray[Any, Any]]
) -> None:
    """Composer's count of samples starts anew with every epoch."""
    straight = Composer(specs(dataset, 2))
    straight.fit(epochs=2)
    assert_equal(straight.seen, whole * 2)

    between = Composer(specs(dataset, 2))
    between.fit()
    resumed = Composer(specs(dataset, 2), checkpoint=between.save())
    resumed.fit(epochs=2)
    assert_equal(resumed.seen, whole)

    inside = Composer(specs(dataset, 2), checkpoint=between.save())
    inside.fit(epochs=2, stop_at_batch=3)
    resumed = Composer(specs(dataset, 1), checkpoint=inside.save())
    resumed.fit(epochs=2)
    assert_equal(resumed.seen, whole[3:])


def test_the_last_checkpoint_of_an_epoch_leaves_nothing_of_it(dataset: Path) -> None:
    """Saved after the last batch, before the epoch ends: the restart must not train the epoch again."""
    first = Composer(specs(dataset, 2))
    first.fit(stop_at_batch=14)
    second = Composer(specs(dataset, 2), checkpoint=first.save())
    second.fit()
    assert second.seen == []
    assert second.epoch == 1


def test_composer_finds_the_protocol_and_does_not_spin(dataset: Path) -> None:
    """Without it Composer reads every past batch again."""
    trainer = Composer(specs(dataset, 1), checkpoint=Composer(specs(dataset, 1)).save())
    assert trainer.resumes == {0}
    loader = trainer.specs[0]["dataloader"]
    assert isinstance(loader.dataset, IterableDataset)  # anything else needs a DistributedSampler on two ranks
    assert loader._iterator is None  # `DataSpec` refuses a loader that is being iterated over
    assert len(loader) == 14


def test_samples_are_mapped_to_steps_at_every_border_and_refused_between(dataset: Path) -> None:
    """Slow, one step after the other, against the sums over runs."""
    plan = curriculum.open(dataset).plan
    borders = {0: 0}
    for step in range(plan.total_steps):
        phase = plan.phases[plan.locate(step)[0]]
        borders[max(borders) + phase.rows_per_step] = step + 1
    for num_samples in range(max(borders) + 1):
        if num_samples in borders:
            assert cursor_of_samples(plan, num_samples, "id", "here").step == borders[num_samples]
        else:
            with pytest.raises(CursorError, match="Composer trains whole steps"):
                cursor_of_samples(plan, num_samples, "id", "here")
    with pytest.raises(CursorError, match=r"has \d+\. Give Composer what"):
        cursor_of_samples(plan, max(borders) + 1, "id", "here")


def test_phases_that_come_again_are_counted_by_their_order() -> None:
    plan = literal_plan("8:2,16:1,8:2", rows=16)
    assert [cursor_of_samples(plan, samples, "id", "here").step for samples in range(0, 81, 16)] == [0, 1, 2, 3, 4, 5]
    with pytest.raises(CursorError, match="stands inside step 3: steps end after 48 and 64"):
        cursor_of_samples(plan, 50, "id", "here")


def literal_plan(phases: str, rows: int) -> Plan:
    return compile_plan(pacing=parse_phases(phases), warmup=None, batch=Batch(rows=rows), budget=Budget())


def test_samples_since_the_restart_are_counted_from_there(dataset: Path, whole: list[np.ndarray[Any, Any]]) -> None:
    """`from_beginning=False`, as MosaicML's own streaming datasets understand it."""
    reading = ComposerDataset(dataset, rank=0, world_size=1)
    reading.load_state_dict({"dataset_id": reading.reader.id, "step": 2, "row": 0})
    iterator = iter(reading)
    next(iterator)
    assert reading.state_dict(len(whole[2]), False)["step"] == 3
    assert reading.state_dict()["step"] == 3


def test_micro_batches_are_bounded_by_rows_and_by_tokens(dataset: Path) -> None:
    """Many short rows, few long ones; a row longer than the bound goes alone."""
    short, long = torch.zeros((32, 8), dtype=torch.int64), torch.zeros((4, 64), dtype=torch.int64)
    sizes = {
        (rows, micro_tokens): [
            [len(part["labels"]) for part in split({"input_ids": ids, "labels": ids}, rows)] for ids in (short, long)
        ]
        for rows, micro_tokens in ((1000, None), (12, None), (1000, 128), (12, 128), (1000, 10))
        for split in [ComposerDataset(dataset, rank=0, world_size=1, micro_tokens=micro_tokens).split_batch]
    }
    assert sizes == {
        (1000, None): [[32], [4]],
        (12, None): [[12, 12, 8], [4]],
        (1000, 128): [[16, 16], [2, 2]],
        (12, 128): [[12, 12, 8], [2, 2]],
        (1000, 10): [[1] * 32, [1] * 4],
    }


def test_the_rank_comes_from_the_launchers_variables(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgotten ranks would all train on the same rows."""
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    first = next(iter(ComposerDataset(dataset)))["input_ids"]
    np.testing.assert_array_equal(first.numpy(), curriculum.open(dataset)[0].inputs[12:16])


def test_losses_weighed_by_tokens_give_plain_cross_entropy_of_the_first_step(dataset: Path) -> None:
    """Labels are shifted already, and Composer's weights (`accumulate_train_batch_on_tokens`) make a mean of them."""
    reader = curriculum.open(dataset)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Embedding(reader.manifest.tokenizer.vocab_size, 16), torch.nn.Linear(16, 300))
    plain = F.cross_entropy(
        model(torch.from_numpy(reader[0].inputs.astype(np.int64))).flatten(0, 1),
        torch.from_numpy(reader[0].labels).flatten(),
    )
    spec = ComposerDataset(dataset, rank=0, world_size=1).data_spec()
    batch = next(iter(spec["dataloader"]))
    parts = spec["split_batch"](batch, 5)
    weights = [num_tokens_in_batch(part)["loss_generating"] for part in parts]
    losses = [F.cross_entropy(model(part["input_ids"]).flatten(0, 1), part["labels"].flatten()) for part in parts]
    total = sum(loss * weight for loss, weight in zip(losses, weights, strict=True)) / sum(weights)
    assert total.item() == pytest.approx(plain.item(), rel=1e-5)
    assert num_samples_in_batch(batch) == 16


def test_a_checkpoint_without_a_cursor_or_of_another_dataset_is_refused(dataset: Path, small_dataset: Path) -> None:
    """Composer hands over None when the run that saved had another kind of dataset."""
    reading = ComposerDataset(dataset, rank=0, world_size=1)
    with pytest.raises(CursorError, match="not a cursor: None"):
        reading.load_state_dict(None)  # type: ignore[arg-type]
    other = ComposerDataset(small_dataset, rank=0, world_size=1)
    with pytest.raises(CursorError) as refused:
        reading.load_state_dict(other.state_dict(0, True))
    assert reading.reader.id in str(refused.value)
    assert other.reader.id in str(refused.value)


def test_micro_tokens_start_at_1(dataset: Path) -> None:
    with pytest.raises(ConfigError, match="micro_tokens is 0; it starts at 1"):
        ComposerDataset(dataset, rank=0, world_size=1, micro_tokens=0)
