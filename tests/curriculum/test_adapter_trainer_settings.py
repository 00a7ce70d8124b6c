"""Settings under which Trainer would go wrong without a word are refused before the first batch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("transformers", reason="the extra 'trainers' is not installed")

from transformers import Trainer, TrainingArguments

import curriculum
from curriculum.adapters.micro_batches import MicroBatches
from curriculum.adapters.trainer_settings import REQUIRED
from curriculum.adapters.transformers import CurriculumCallback, one_micro_batch, trainer_inputs
from curriculum.errors import ConfigError, CursorError, PlanError
from curriculum.reader import Reader
from packed_dataset import write_packed_dataset
from tiny_trainer import arguments, llama, make, watch

STEPS = 6


@pytest.fixture(scope="module")
def reader(build_small: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """Six steps of 8 rows, from 24 to 64 inputs."""
    out = tmp_path_factory.mktemp("trainer") / "dataset"
    build_small(out, steps=STEPS, start_length=8, frac=0.5, validation_tokens=6_000)
    return curriculum.open(out)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """Eight steps of 4 packed rows of 8 or 16 inputs, with labels of -100."""
    root = tmp_path_factory.mktemp("packed")
    write_packed_dataset(root)
    return curriculum.open(root)


SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"train_sampling_strategy": "random"}, "train_sampling_strategy is 'random': rows would be trained on in another"),
    ({"train_sampling_strategy": "group_by_length"}, "train_sampling_strategy is 'group_by_length'"),
    ({"per_device_train_batch_size": 2}, "per_device_train_batch_size is 2: an item of the dataset is a whole micro"),
    ({"remove_unused_columns": True}, "remove_unused_columns is True: Trainer would take shift_labels"),
    ({"dataloader_num_workers": 1}, "dataloader_num_workers is 1: sending batches"),
    ({"ignore_data_skip": True}, "ignore_data_skip is True: a resumed run would begin with the rows of step 0"),
    ({"auto_find_batch_size": True}, "auto_find_batch_size is True: a run out of memory would start over"),
    ({"label_smoothing_factor": 0.1}, "label_smoothing_factor is 0.1: Trainer would compute the loss itself"),
    ({"accelerator_config": {"dispatch_batches": True}}, "accelerator_config has dispatch_batches=True"),
    ({"accelerator_config": {"split_batches": True}}, "accelerator_config has split_batches=True"),
]


@pytest.mark.parametrize(("options", "message"), SETTINGS)
def test_a_setting_that_goes_wrong_silently_is_refused(
    reader: Reader, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    """Before the first batch, and with the remedy."""
    model = llama()
    seen = watch(model)
    trainer = make(reader, tmp_path, model, **options)
    with pytest.raises(ConfigError, match=message):
        trainer.train()
    assert seen == []


def test_every_required_setting_has_a_case_above() -> None:
    assert REQUIRED.keys() <= {name for options, _ in SETTINGS for name in options}


def test_all_wrong_settings_are_named_at_once(reader: Reader, tmp_path: Path) -> None:
    """A user who starts from Trainer's defaults sees all that is to be changed."""
    args = TrainingArguments(str(tmp_path), use_cpu=True, report_to=[], max_steps=STEPS, dataloader_pin_memory=False)
    data = MicroBatches(reader)
    callback = CurriculumCallback(data)
    trainer = Trainer(llama(), args, train_dataset=data, data_collator=one_micro_batch, callbacks=[callback])
    with pytest.raises(ConfigError) as refused:
        trainer.train()
    lines = str(refused.value).splitlines()[1:]
    assert [line.split()[1] for line in lines] == [
        "train_sampling_strategy",
        "per_device_train_batch_size",
        "remove_unused_columns",
        "items",  # ... have no shift_labels
    ]


def refusal(reader: Reader, folder: Path, data: MicroBatches, model: Any = None, **changes: Any) -> str:
    """What the callback says to arguments that this machine or process cannot really have."""
    args = arguments(reader, folder)
    names = ("train_sampling_strategy", *REQUIRED, "accelerator_config", "gradient_accumulation_steps", "world_size")
    names += ("process_index", "n_gpu", "parallelism_config", "average_tokens_across_devices", "use_cache")
    values = {name: getattr(args, name, None) for name in names} | changes
    state = SimpleNamespace(max_steps=len(reader), global_step=0, stateful_callbacks={})
    with pytest.raises(ConfigError) as refused:
        CurriculumCallback(data).on_train_begin(SimpleNamespace(**values), state, None, model=model)
    (line,) = str(refused.value).splitlines()[1:]
    return line


def test_processes_and_micro_batches_other_than_the_datasets_are_refused(reader: Reader, tmp_path: Path) -> None:
    """Each would hand ranks the rows of others, or end a step in the middle of another."""
    shared = MicroBatches(reader, world_size=2, micro_batches=2, shift_labels=True)
    right = {"world_size": 2, "gradient_accumulation_steps": 2}
    found = refusal(reader, tmp_path, shared, **{**right, "world_size": 4})
    assert "Trainer runs on 4 processes, and the dataset was opened with world_size=2" in found
    found = refusal(reader, tmp_path, shared, **{**right, "gradient_accumulation_steps": 4})
    assert "gradient_accumulation_steps is 4, and the dataset was opened with micro_batches=2" in found
    assert "has 3 GPUs" in refusal(reader, tmp_path, shared, **right, n_gpu=3)
    split = SimpleNamespace(tp_size=1, cp_size=2, sp_size=1)
    assert "parallelism_config has cp_size=2" in refusal(reader, tmp_path, shared, **right, parallelism_config=split)
    varying = MicroBatches(reader, micro_tokens=64, shift_labels=True)
    assert "opened with micro_tokens=64" in refusal(reader, tmp_path, varying)


def test_processes_that_trainer_does_not_see_are_refused(
    reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchrun without an accelerator and without use_cpu: every process would train a model of its own."""
    trainer = make(reader, tmp_path, llama())
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="2 processes were launched, and Trainer takes this one for 1 of its own"):
        trainer.train()


def test_packed_rows_need_a_loss_that_is_counted_over_the_whole_step(
    packed: Reader, reader: Reader, tmp_path: Path
) -> None:
    """Means of means are refused where labels of -100 make them wrong, and only there."""
    shared: dict[str, Any] = {"world_size": 2, "micro_batches": 2, "shift_labels": True}
    right = {"world_size": 2, "gradient_accumulation_steps": 2}
    data = MicroBatches(packed, **shared)
    found = refusal(packed, tmp_path, data, **right, average_tokens_across_devices=False)
    assert "average_tokens_across_devices is False" in found
    own_mean = SimpleNamespace(accepts_loss_kwargs=False)
    assert "does not take num_items_in_batch" in refusal(packed, tmp_path, data, own_mean, **right)
    positions = MicroBatches(packed, **shared, attention="position_ids")
    assert "use_cache is True" in refusal(packed, tmp_path, positions, **right, use_cache=True)


class OwnOrder(Trainer):
    """Settings say nothing of this."""

    order: list[int]

    def _get_train_sampler(self, *_: Any) -> Any:
        return self.order


def test_a_trainer_with_a_sampler_or_dataset_of_its_own_is_refused(reader: Reader, tmp_path: Path) -> None:
    """What the loader really does is looked at, not only the settings."""
    args = arguments(reader, tmp_path)
    inputs = trainer_inputs(reader, args)
    for order, message in [
        ([5, 4, 3, 2, 1, 0], r"begin with items \[\[5\], \[4\], .*; it should have 6 and begin with \[\[0\]"),
        ([0, 1, 2, 3, 4], r"has 5 batches on rank 0 .*; it should have 6"),
    ]:
        trainer = OwnOrder(llama(), args, **inputs)
        trainer.order = order
        with pytest.raises(ConfigError, match=message):
            trainer.train()
    twin = MicroBatches(reader, shift_labels=True)
    with pytest.raises(ConfigError, match="pass the same object to both"):
        Trainer(llama(), args, **{**inputs, "train_dataset": twin}).train()


def test_more_steps_than_the_dataset_has_are_refused_and_fewer_noted(
    reader: Reader, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """More would begin again with step 0; without max_steps Trainer trains three passes."""
    with pytest.raises(PlanError, match="set to run 7 steps, but the dataset has 6"):
        make(reader, tmp_path, llama(), max_steps=7).train()
    with pytest.raises(PlanError, match="set to run 18 steps, but the dataset has 6"):
        make(reader, tmp_path, llama(), max_steps=-1).train()
    with caplog.at_level(logging.WARNING, "curriculum"):
        make(reader, tmp_path, llama(), max_steps=2).train()
    assert "Trainer runs 2 of the dataset's 6 steps." in caplog.text


def test_processes_that_do_not_divide_the_rows_are_refused_when_inputs_are_made(reader: Reader, tmp_path: Path) -> None:
    with pytest.raises(CursorError, match="= 3 does not divide the 8 rows per step"):
        trainer_inputs(reader, arguments(reader, tmp_path, gradient_accumulation_steps=3))
