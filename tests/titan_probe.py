"""Runs in torchtitan's environment, on a dataset: what the adapter does with torchtitan's own classes, as JSON.

python titan_probe.py DATASET OTHER_DATASET: OTHER_DATASET has steps of different numbers of rows.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

import torch

from curriculum.examples import torchtitan_on_cpu  # noqa: F401 - before torchtitan

# isort: split
from torchtitan.components.dataloader import BaseDataLoader, ParallelAwareDataloader
from torchtitan.config import ParallelismConfig, TrainingConfig
from torchtitan.trainer import Trainer

import curriculum
from curriculum.adapters.torchtitan import CurriculumDataLoader, configure
from curriculum.errors import CurriculumError


def loader(dataset: str, rank: int, world_size: int, micro_batches: int, **options: Any) -> Any:
    """Built as torchtitan's Trainer builds it."""
    config = Trainer.Config()
    configure(config, dataset, world_size=world_size, micro_batches=micro_batches, **options)
    return config.dataloader.build(
        dp_world_size=world_size,
        dp_rank=rank,
        tokenizer=None,
        seq_len=config.training.seq_len,
        local_batch_size=config.training.local_batch_size,
        snapshot_every_n_steps=None,
    )


def digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.numpy().tobytes()).hexdigest()


def refusal(call: Any) -> str:
    try:
        call()
    except CurriculumError as error:
        return str(error)
    return "accepted"


def passes(dataset: str) -> list[dict[str, Any]]:
    """Every micro-batch of every rank, for several worlds."""
    found = []
    for world_size, micro_batches in ((1, 1), (2, 2), (4, 1)):
        for rank in range(world_size):
            batches = list(loader(dataset, rank, world_size, micro_batches))
            found.append(
                {
                    "world": [rank, world_size, micro_batches],
                    "inputs": [digest(inputs["input"]) for inputs, _ in batches],
                    "labels": [digest(labels) for _, labels in batches],
                    "positions": [digest(inputs["positions"]) for inputs, _ in batches],
                    "kinds": sorted({f"{t.dtype} {t.is_contiguous()}" for i, y in batches for t in (*i.values(), y)}),
                }
            )
    return found


def resumed(dataset: str) -> list[list[Any]]:
    """At every step border: the state that 2 ranks saved, and what rank 1 of 4 reads first after loading it."""
    saving, found = loader(dataset, 0, 2, 1), []
    for _ in saving:
        state = saving.state_dict()
        loading = loader(dataset, 1, 4, 1)
        loading.load_state_dict(state)
        twice = loader(dataset, 1, 4, 1)
        twice.load_state_dict(loading.state_dict())
        found.append([state, [digest(first["input"]) for first, _ in map(next, map(iter, (loading, twice)))]])
        if state["step"] == len(saving.reader) - 1:
            break
    return found


def in_a_step(dataset: str) -> str:
    """What a checkpoint says after one of two micro-batches."""
    reading = loader(dataset, 0, 2, 2)
    next(iter(reading))
    return refusal(reading.state_dict)


def refusals(dataset: str, varying: str) -> dict[str, str]:
    config = CurriculumDataLoader.Config(dataset=dataset, micro_batches=2)
    built = {"dp_world_size": 2, "dp_rank": 0, "tokenizer": None, "seq_len": 64}
    other = loader(varying, 0, 1, 1).state_dict()
    parallel = {"pipeline": {"pipeline_parallel_degree": 2}, "sequence": {"tensor_parallel_degree": 16}}
    eager = TrainingConfig(disable_cuda_graphs=True)
    return {
        "local_batch_size": refusal(lambda: config.build(local_batch_size=8, **built)),
        "in_a_step": in_a_step(dataset),
        "other_dataset": refusal(lambda: loader(dataset, 0, 1, 1).load_state_dict(other)),
        "world_size": refusal(lambda: loader(dataset, 0, 3, 1)),
    } | {
        name: refusal(
            lambda degrees=degrees: configure(
                Trainer.Config(training=eager, parallelism=ParallelismConfig(**degrees)), dataset, world_size=32
            )
        )
        for name, degrees in parallel.items()
    }


def settings(dataset: str, micro_batches: int) -> dict[str, Any]:
    config = Trainer.Config()
    configure(config, dataset, world_size=2, micro_batches=micro_batches)
    training = config.training
    return {
        "local_batch_size": training.local_batch_size,
        "global_batch_size": training.global_batch_size,
        "seq_len": training.seq_len,
        "steps": [training.steps, config.lr_scheduler.total_steps],
        "disable_cuda_graphs": training.disable_cuda_graphs,
    }


def main(dataset: str, varying: str) -> None:
    plain = next(iter(loader(dataset, 0, 1, 1, document_positions=False)))[0]["positions"]
    at_end = loader(dataset, 0, 1, 1)
    at_end.load_state_dict({"dataset_id": at_end.reader.id, "step": len(at_end.reader), "row": 0})
    facts = {
        "is_torchtitans": [
            issubclass(CurriculumDataLoader, BaseDataLoader),
            issubclass(CurriculumDataLoader, ParallelAwareDataloader),
        ],
        "passes": passes(dataset),
        "resumed": resumed(dataset),
        "refusals": refusals(dataset, varying),
        "settings": settings(dataset, 2),
        "settings_varying": settings(varying, 2),
        "rows_varying": [len(labels) for _, labels in loader(varying, 0, 2, 2)],
        "plain_positions": plain.tolist(),
        "left_at_the_end": len(list(at_end)),
        "steps": len(curriculum.open(dataset)),
    }
    print(json.dumps(facts))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
