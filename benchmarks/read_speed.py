"""How fast reading is, next to a slice of one contiguous `numpy.memmap`.

In:  a dataset.   Out: microseconds per step and tokens per second.
Guarantee: what is compared reads the same number of tokens in batches of the same shape, in the same process, in turns:
round after round every variant makes one pass, so that a disturbance of the machine hits all of them.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import curriculum
from curriculum.adapters.pytorch import CurriculumDataset
from curriculum.reader import Reader

ROUNDS = 9
MAX_STEPS = 400


def reader_speed(dataset: Path) -> dict[str, Any]:
    """Microseconds of `reader[step]`: in order and in random order over open shards; and what opening adds."""
    reader = curriculum.open(dataset)
    steps = last_steps(reader)
    shuffled = random.Random(0).sample(steps, len(steps))

    def in_order() -> None:
        for step in steps:
            reader[step]

    def in_random_order() -> None:
        for step in shuffled:
            reader[step]

    def tokens() -> None:
        for step in steps:
            reader[step].tokens  # noqa: B018 - a property that makes the view

    def iterated() -> None:
        for _ in zip(steps, reader.steps(steps[0]), strict=False):
            pass

    timed = take_turns([in_order, in_random_order, tokens, iterated])
    began = time.perf_counter()
    curriculum.open(dataset)
    opened = time.perf_counter()
    reader.check()
    num_shards = sum(len(phase.shards) for phase in reader.manifest.phases)
    return {
        "reader[step]": microseconds(timed[0], len(steps)),
        "reader[step], steps in random order": microseconds(timed[1], len(steps)),
        "reader[step].tokens": microseconds(timed[2], len(steps)),
        "a step of reader.steps()": microseconds(timed[3], len(steps)),
        "curriculum.open()": [round((opened - began) * 1e6)],
        "first touch of a shard": [round((time.perf_counter() - opened) / num_shards * 1e6)],
    }


def open_speed(folder: Path) -> dict[str, list[float]]:
    """(least, median, most) milliseconds of `curriculum.open` on manifests of many shards, and of many phases."""
    from many_shards import write_manifest_of

    sizes = {
        "10,000 shards in 8 phases": ([8 * 2**i for i in range(8)], 10_000),
        "10,000 shards in 125 phases": (list(range(8, 1001, 8)), 10_000),
        "1,000 shards in 1,000 phases": (list(range(8, 8001, 8)), 1_000),
        "100 shards in 8 phases": ([8 * 2**i for i in range(8)], 100),
    }
    roots = [
        write_manifest_of(folder / str(number), seq_lens=seq_lens, num_shards=num_shards)
        for number, (seq_lens, num_shards) in enumerate(sizes.values())
    ]
    timed = take_turns([partial(curriculum.open, root) for root in roots])
    return {name: spread([each * 1e3 for each in seconds]) for name, seconds in zip(sizes, timed, strict=True)}


def tensor_speed(dataset: Path, folder: Path) -> dict[str, Any]:
    """Tokens per second of int64 tensors: the adapter, and a bare map of the same tokens in one file."""
    torch.set_num_threads(1)
    reader = curriculum.open(dataset)
    steps = last_steps(reader)
    flat, rows, row_tokens = flat_copy(reader, steps, folder / "contiguous.bin")
    size = rows * row_tokens
    start = {"dataset_id": reader.id, "step": steps[0], "row": 0}

    def adapter(**options: bool) -> Callable[[], None]:
        source = CurriculumDataset(reader, **options)

        def one_pass() -> None:
            source.load_state_dict(start)
            for _ in zip(steps, source, strict=False):
                pass

        return one_pass

    # Like any training loop, these hold a batch until the next one is there.
    def bare() -> None:
        for i in range(len(steps)):
            batch = torch.from_numpy(flat[i * size : (i + 1) * size].reshape(rows, row_tokens).astype(np.int64))
        del batch

    def bare_inputs_and_targets() -> None:
        for i in range(len(steps)):
            inputs = torch.from_numpy(flat[i * size : (i + 1) * size - 1].astype(np.int64))
            targets = torch.from_numpy(flat[i * size + 1 : (i + 1) * size].astype(np.int64))
        del inputs, targets

    variants = {
        "memmap slice, astype: one tensor": bare,
        "memmap slices, astype: inputs and targets": bare_inputs_and_targets,
        "adapter": adapter(),
        "adapter, contiguous": adapter(contiguous=True),
        "adapter, reuse_buffer": adapter(reuse_buffer=True),
        "adapter, contiguous, reuse_buffer": adapter(contiguous=True, reuse_buffer=True),
    }
    timed = take_turns(list(variants.values()))
    tokens = len(steps) * rows * (row_tokens - 1)
    rates = {
        name: [round(tokens / each / 1e6) for each in seconds] for name, seconds in zip(variants, timed, strict=True)
    }
    bare_seconds = statistics.median(timed[0])
    return {
        "shape": [rows, row_tokens - 1],
        "million_tokens_per_second": {name: spread(each) for name, each in rates.items()},
        "of_one_bare_tensor": {
            name: round(bare_seconds / statistics.median(seconds), 2)
            for name, seconds in zip(variants, timed, strict=True)
        },
    }


def last_steps(reader: Reader) -> list[int]:
    """The last steps of the run: all of one shape, the longest."""
    shapes = [(reader[step].seq_len, len(reader[step])) for step in range(len(reader) - MAX_STEPS, len(reader))]
    return [len(reader) - MAX_STEPS + i for i, shape in enumerate(shapes) if shape == shapes[-1]]


def flat_copy(reader: Reader, steps: list[int], path: Path) -> tuple[Any, int, int]:
    """The tokens of the steps in one file, mapped; rows and tokens per row."""
    rows, row_tokens = reader[steps[0]].tokens.shape
    with path.open("wb") as file:
        for step in steps:
            file.write(reader[step].tokens.tobytes())
    return np.memmap(path, reader.manifest.dtype, "r"), rows, row_tokens


def take_turns(passes: Sequence[Callable[[], object]]) -> list[list[float]]:
    """Seconds of every pass in each of `ROUNDS` rounds; one round before is not counted."""
    seconds: list[list[float]] = [[] for _ in passes]
    for round_number, i in _turns(len(passes)):
        began = time.perf_counter()
        passes[i]()
        if round_number:
            seconds[i].append(time.perf_counter() - began)
    return seconds


def _turns(count: int) -> Iterator[tuple[int, int]]:
    for round_number in range(ROUNDS + 1):
        for i in range(count):
            yield round_number, i


def microseconds(seconds: list[float], steps: int) -> list[float]:
    """(least, median, most) microseconds per step."""
    return spread([round(each / steps * 1e6, 2) for each in seconds])


def spread(values: list[Any]) -> list[Any]:
    """(least, median, most)."""
    return [min(values), round(statistics.median(values), 2), max(values)]
