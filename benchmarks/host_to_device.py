"""What a step costs the host and the bus: stored integers cut beforehand, against int64 rows cut at run time.

In:  a dataset.   Out: one JSON object: bytes across the bus and microseconds of the host per step; idle time of a GPU.
Guarantee: both sides train the same shapes at the same steps. The other side is what run-time curricula do: a
DataLoader collates rows of the full length as int64, they are moved, then cut. It is given its best case: one tensor
[rows, max + 1], not two; no worker processes, no tokenizing; its rows lie in memory, ours in mapped files.

    python benchmarks/host_to_device.py DATASET
    8 rows of 64 at most, a step of 8:    8 * 9 * 2 = 144 bytes    against    8 * 65 * 8 = 4,160
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

import curriculum
from curriculum.adapters.device import parts_of
from curriculum.adapters.pytorch import CurriculumDataset
from curriculum.adapters.widened import Wanted
from curriculum.reader import Reader

ROUNDS, WIDTH = 5, 1024
Pairs = Iterator[tuple[torch.Tensor, torch.Tensor]]


class FullRows(Dataset[torch.Tensor]):
    """Rows of the full length, uint16 or uint32 in memory, as int64 tensors."""

    def __init__(self, reader: Reader) -> None:
        rows = max(phase.rows_per_step for phase in reader.plan.phases)
        shape = (4 * rows, reader.plan.max_seq_len + 1)
        ids = np.random.default_rng(0).integers(0, reader.manifest.tokenizer.vocab_size, shape)
        self.rows = ids.astype(reader.manifest.dtype)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(self.rows[index].astype(np.int64))


def sizes(reader: Reader) -> Iterator[tuple[int, int]]:
    """(rows, seq_len) of every step."""
    plan = reader.plan
    for phase, num_steps in plan.order:
        yield from [(plan.phases[phase].rows_per_step, plan.phases[phase].seq_len)] * num_steps


def batches_of_indices(reader: Reader) -> Iterator[list[int]]:
    """For the sampler: rows in order, again and again."""
    for step, (rows, _) in enumerate(sizes(reader)):
        yield [(step * rows + i) % (4 * rows) for i in range(rows)]


def cut_at_run_time(reader: Reader, rows: FullRows, device: str) -> Callable[[], Pairs]:
    """Full-length int64 batches, moved, then cut."""
    on_gpu = device == "cuda"
    loader = DataLoader(rows, batch_sampler=list(batches_of_indices(reader)), num_workers=0, pin_memory=on_gpu)

    def one_pass() -> Pairs:
        for batch, (_, seq_len) in zip(loader, sizes(reader), strict=True):
            cut = batch.to(device, non_blocking=True)[:, : seq_len + 1]
            yield cut[:, :-1], cut[:, 1:]

    return one_pass


def cut_beforehand(reader: Reader, device: str) -> Callable[[], Pairs]:
    """The adapter."""
    dataset = CurriculumDataset(reader, device=device, reuse_buffer=True)

    def one_pass() -> Pairs:
        yield from ((example["input_ids"], example["labels"]) for example in dataset)

    return one_pass


def host_microseconds(passes: dict[str, Callable[[], Pairs]], num_steps: int) -> dict[str, list[float]]:
    """(least, median, most) of a step, in turns; nothing is done with the batches."""
    seconds: dict[str, list[float]] = {name: [] for name in passes}
    for round_number in range(ROUNDS + 1):
        for name, one_pass in passes.items():
            began = time.perf_counter()
            for _ in one_pass():
                pass
            if round_number:  # the first round opens shards
                seconds[name].append((time.perf_counter() - began) / num_steps * 1e6)
    return {name: [round(f(each), 1) for f in (min, statistics.median, max)] for name, each in seconds.items()}


def bus_bytes(reader: Reader) -> dict[str, float]:
    """Bytes of a whole run that cross the bus, from the sizes that the two sides move."""
    ours = sum(parts_of(batch, Wanted()).offsets[-1] for batch in reader)
    theirs = sum(rows * (reader.plan.max_seq_len + 1) * 8 for rows, _ in sizes(reader))
    return {"cut beforehand": ours, "cut at run time": theirs, "ratio": round(theirs / ours, 2)}


def gpu_idle(one_pass: Callable[[], Pairs], vocab_size: int) -> dict[str, float]:
    """Wall seconds of a pass with some work per token, and the part of them in which the GPU had none."""
    table = torch.randn(vocab_size, WIDTH, device="cuda", dtype=torch.bfloat16)
    weight = torch.randn(WIDTH, WIDTH, device="cuda", dtype=torch.bfloat16)
    events = []
    torch.cuda.synchronize()
    began = time.perf_counter()
    for inputs, targets in one_pass():
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        x = table[inputs]
        for _ in range(8):
            x = x @ weight
        (x * table[targets]).sum()
        stop.record()
        events.append((start, stop))
    torch.cuda.synchronize()
    wall = time.perf_counter() - began
    busy = sum(start.elapsed_time(stop) for start, stop in events) / 1e3
    return {"wall_s": round(wall, 3), "idle_share": round(max(0.0, 1 - busy / wall), 3)}


def main() -> None:
    torch.set_num_threads(1)
    reader = curriculum.open(sys.argv[1])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    passes = {
        "cut beforehand": cut_beforehand(reader, device),
        "cut at run time": cut_at_run_time(reader, FullRows(reader), device),
    }
    result: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "none: no GPU here, so no idle time of one",
        "steps": len(reader),
        "host_microseconds_per_step": host_microseconds(passes, len(reader)),
        "bytes_across_the_bus": bus_bytes(reader),
    }
    if device == "cuda":
        vocab_size = reader.manifest.tokenizer.vocab_size
        result["gpu"] = {name: gpu_idle(one_pass, vocab_size) for name, one_pass in passes.items()}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
