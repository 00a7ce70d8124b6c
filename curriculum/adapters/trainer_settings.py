"""Settings of a Hugging Face `Trainer` under which it would train on other batches than the dataset's, and not say so.

In:  the `TrainingArguments`, the `MicroBatches` and the model of a run, and the loader that Trainer made.
Out: nothing, or a ConfigError that names the setting and what to set instead.
Guarantee: what passes trains on every row of every step once, in order, with the loss of whole steps.

    TrainingArguments(out)                                    train_sampling_strategy='random': steps in another order
    TrainingArguments(out, **trainer_arguments(reader))       passes

Nothing here changes a setting: `curriculum.adapters.trainer_data.trainer_arguments` has the right ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch

from curriculum.adapters.attention import attends_across_documents
from curriculum.adapters.micro_batches import MicroBatches
from curriculum.errors import ConfigError

REQUIRED: dict[str, Any] = {
    "train_sampling_strategy": "sequential",
    "per_device_train_batch_size": 1,
    "remove_unused_columns": False,
    "dataloader_num_workers": 0,
    "ignore_data_skip": False,
    "auto_find_batch_size": False,
    "label_smoothing_factor": 0.0,
}
"""The only values under which Trainer neither reorders, drops nor repeats micro-batches, nor shifts labels twice."""

_WHY = {
    "train_sampling_strategy": "rows would be trained on in another order than the dataset's",
    "per_device_train_batch_size": "an item of the dataset is a whole micro-batch already",
    "remove_unused_columns": "Trainer would take shift_labels and position_ids away, and the model would shift the "
    "labels, which are shifted already, a second time",
    "dataloader_num_workers": "sending batches of a mapped file between processes takes 25 to 35 times as long as "
    "reading them",
    "ignore_data_skip": "a resumed run would begin with the rows of step 0 again",
    "auto_find_batch_size": "a run out of memory would start over with other batches; set micro-batches with "
    "gradient_accumulation_steps",
    "label_smoothing_factor": "Trainer would compute the loss itself and shift the labels, which are shifted already",
}
_SPLITS = ("tp_size", "cp_size", "sp_size")
"""Axes of accelerate's ParallelismConfig along which processes share a row or a model, not the rows."""


def require_settings(args: Any, data: MicroBatches, model: torch.nn.Module | None, step: int) -> None:
    """Refuse settings that go wrong without an error.

    Args:
        args: the `TrainingArguments`.
        data: the `MicroBatches` that is Trainer's `train_dataset`.
        model: what is trained, as Trainer passes it to callbacks.
        step: where training starts; an item of it is read, to see what items hold.

    Raises:
        ConfigError: names every such setting, each in one sentence.
    """
    found = [*_required(args), *_of_loader(args), *_of_processes(args, data), *_of_loss(args, data, model, step)]
    if found:
        raise ConfigError("Trainer would not train on this dataset as it was built:\n- " + "\n- ".join(found))


def require_order(args: Any, data: MicroBatches, loader: Any) -> None:
    """Refuse a loader that is not the dataset's micro-batches in their order, whoever made it.

    Args:
        args: the `TrainingArguments`.
        data: the `MicroBatches` that it should read.
        loader: Trainer's `DataLoader` for this process.

    Raises:
        ConfigError: another dataset, another number of batches, or another order of the first eight.
    """
    if getattr(loader, "dataset", None) is not data:
        raise ConfigError(
            f"Trainer's train_dataset is {getattr(loader, 'dataset', None)!r}, and the callback watches {data!r}; pass "
            f"the same object to both, as trainer_inputs(reader, args) does."
        )
    rank, world_size, total = args.process_index, args.world_size, len(data)
    expected = [[index] for index in range(rank, total, world_size)[:8]]
    batches = getattr(loader, "batch_sampler", None)
    found = [list(batch) for batch in islice(batches, 8)] if batches is not None else None
    if found != expected or len(loader) != total // world_size:
        raise ConfigError(
            f"Trainer's loader has {len(loader)} batches on rank {rank} that begin with items {found}; it should have "
            f"{total // world_size} and begin with {expected}. Leave get_train_dataloader and _get_train_sampler as "
            f"Trainer has them, and set the arguments of trainer_arguments(reader)."
        )


def launched_world_size() -> int | None:
    """Processes that torchrun (or a launcher that sets the same variables) started; None without one."""
    if "LOCAL_RANK" not in os.environ or not os.environ.get("WORLD_SIZE", "").isdecimal():
        return None
    return int(os.environ["WORLD_SIZE"])


def _required(args: Any) -> Iterator[str]:
    for name, right in REQUIRED.items():
        found = getattr(args, name, None)
        if found != right:
            yield f"{name} is {found!r}: {_WHY[name]}. Set it to {right!r}."


def _of_loader(args: Any) -> Iterator[str]:
    config = args.accelerator_config
    for name in ("dispatch_batches", "split_batches"):
        if getattr(config, name, None):
            yield (
                f"accelerator_config has {name}=True: process 0 would read for all and cut micro-batches up, which are "
                f"each process's own already. Set it to False."
            )


def _of_processes(args: Any, data: MicroBatches) -> Iterator[str]:
    launched = launched_world_size()
    if launched not in (None, args.world_size):
        yield (
            f"{launched} processes were launched, and Trainer takes this one for {args.world_size} of its own: each "
            f"would train a model of its own on all rows. Without an accelerator, set use_cpu=True."
        )
    if args.n_gpu > 1:
        yield (
            f"this one process has {args.n_gpu} GPUs, over which Trainer splits each micro-batch in threads "
            f"(DataParallel). Start one process per GPU with torchrun."
        )
    split = getattr(args, "parallelism_config", None)
    sizes = {name: getattr(split, name, None) or 1 for name in _SPLITS}
    if any(size > 1 for size in sizes.values()):
        found = ", ".join(f"{name}={size}" for name, size in sizes.items() if size > 1)
        yield (
            f"parallelism_config has {found}: processes would share rows or a model, and this adapter gives every "
            f"process rows of its own. Use data parallelism (DDP, FSDP, ZeRO), or a loop over reader.steps()."
        )
    share = data.share
    if args.world_size != share.world_size:
        yield (
            f"Trainer runs on {args.world_size} processes, and the dataset was opened with "
            f"world_size={share.world_size}. Give MicroBatches world_size=args.world_size."
        )
    if share.micro_tokens is not None:
        yield (
            f"the dataset was opened with micro_tokens={share.micro_tokens}: the number of micro-batches would change "
            f"with the length, and Trainer counts with a fixed one. Give MicroBatches "
            f"micro_batches=args.gradient_accumulation_steps."
        )
    elif args.gradient_accumulation_steps != (share.micro_batches or 1):
        yield (
            f"gradient_accumulation_steps is {args.gradient_accumulation_steps}, and the dataset was opened with "
            f"micro_batches={share.micro_batches}. Give MicroBatches micro_batches=args.gradient_accumulation_steps."
        )


def _of_loss(args: Any, data: MicroBatches, model: torch.nn.Module | None, step: int) -> Iterator[str]:
    first = data.share.micro_batches_before(min(step, data.share.plan.total_steps)) * data.share.world_size
    names = data[min(first, len(data) - 1)].keys()
    if "shift_labels" not in names:
        yield (
            "items of the dataset have no shift_labels: models of transformers would shift the labels, which are "
            "shifted already, a second time. Give MicroBatches shift_labels=True."
        )
    if "position_ids" in names and getattr(args, "use_cache", False):
        yield (
            "use_cache is True: with a cache models of transformers ignore that position_ids start anew at each "
            "document. Set it to False."
        )
    if "position_ids" in names and model is not None and attends_across_documents(model):
        yield (
            f"{type(model).__name__} sees earlier documents of a row although position_ids start anew: it does not "
            f"build its mask from them. Use another model, or attention=None, which lets tokens see them."
        )
    shares = args.world_size * args.gradient_accumulation_steps
    if not data.reader.manifest.packed or shares == 1:
        return
    if args.world_size > 1 and not getattr(args, "average_tokens_across_devices", False):
        yield (
            "average_tokens_across_devices is False: processes have unequal numbers of labels where rows are packed, "
            "and the mean of their means is not the mean of the step. Set it to True."
        )
    if getattr(model, "accepts_loss_kwargs", True) is False:
        yield (
            f"{type(model).__name__} does not take num_items_in_batch (accepts_loss_kwargs is False): the mean of the "
            f"means of micro-batches is not the mean of the step where rows are packed. Use one micro-batch on one "
            f"process, a dataset of mode segment, or another model."
        )
