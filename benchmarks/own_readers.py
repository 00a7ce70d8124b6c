"""Bare memory maps and this project's reader, each as a function that opens and yields int64 tensors.

In:  the folder of one shape and a step.   Out: an iterator over the batches from that step on.
Guarantee: the call and its first batch are all the opening there is, so timing both is "time to first batch".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reader_data import read_shape

import curriculum
from curriculum.adapters.pytorch import CurriculumDataset
from curriculum.cursor import Cursor

Batches = Iterator[Any]


def mapped(folder: Path, name: str = "rows.bin") -> np.ndarray[Any, Any]:
    """uint16 [steps * rows, seq_len + 1]"""
    return np.memmap(folder / name, np.uint16, "r").reshape(-1, read_shape(folder).seq_len + 1)


def memmap_slice(folder: Path, step: int) -> Batches:
    """What everything is compared with: one contiguous slice, widened into new memory."""
    shape, rows = read_shape(folder), mapped(folder)
    for at in range(step * shape.rows, len(rows), shape.rows):
        yield torch.from_numpy(rows[at : at + shape.rows].astype(np.int64))


def memmap_slice_reused(folder: Path, step: int) -> Batches:
    shape, rows = read_shape(folder), mapped(folder)
    memory = np.empty((shape.rows, shape.seq_len + 1), np.int64)
    tensor = torch.from_numpy(memory)
    for at in range(step * shape.rows, len(rows), shape.rows):
        np.copyto(memory, rows[at : at + shape.rows])
        yield tensor


def memmap_gather(folder: Path, step: int) -> Batches:
    """Rows in random order."""
    shape, rows = read_shape(folder), mapped(folder, "ordered.bin")
    order = np.random.default_rng(0).permutation(len(rows))
    for at in range(step * shape.rows, len(rows), shape.rows):
        yield torch.from_numpy(rows[order[at : at + shape.rows]].astype(np.int64))


def nanogpt_get_batch(folder: Path, step: int) -> Batches:
    """Random places of the stream, with replacement, one slice a row, inputs and targets apart."""
    shape = read_shape(folder)
    seq_len = shape.seq_len
    generator = torch.Generator().manual_seed(step)
    for _ in range(step, shape.steps):
        data = np.memmap(folder / "stream.bin", np.uint16, "r")  # anew each time, as nanoGPT does
        places = torch.randint(len(data) - seq_len, (shape.rows,), generator=generator).tolist()
        x = torch.stack([torch.from_numpy(data[i : i + seq_len].astype(np.int64)) for i in places])
        y = torch.stack([torch.from_numpy(data[i + 1 : i + 1 + seq_len].astype(np.int64)) for i in places])
        yield x, y


def ours_views(folder: Path, step: int) -> Batches:
    """uint16 views, nothing widened: what a GPU gets across PCIe."""
    for batch in curriculum.open(folder / "dataset").steps(step):
        yield batch.tokens


def ours_fresh(folder: Path, step: int) -> Batches:
    for batch in curriculum.open(folder / "dataset").steps(step):
        yield torch.from_numpy(batch.tokens.astype(np.int64))


def ours_reused(folder: Path, step: int) -> Batches:
    shape = read_shape(folder)
    memory = np.empty((shape.rows, shape.seq_len + 1), np.int64)
    tensor = torch.from_numpy(memory)
    for batch in curriculum.open(folder / "dataset").steps(step):
        np.copyto(memory, batch.tokens)
        yield tensor


def ours_adapter(folder: Path, step: int, *, reuse_buffer: bool = False) -> Batches:
    """`input_ids` and `labels`: both tensors that a training loop needs."""
    source = CurriculumDataset(folder / "dataset", reuse_buffer=reuse_buffer)
    source.load_state_dict(Cursor(source.reader.id, step).state_dict())
    for batch in source:
        yield batch["input_ids"], batch["labels"]


def ours_adapter_reused(folder: Path, step: int) -> Batches:
    yield from ours_adapter(folder, step, reuse_buffer=True)


READERS = {
    "memmap slice": memmap_slice,
    "memmap slice, reused buffer": memmap_slice_reused,
    "memmap gather of rows": memmap_gather,
    "nanoGPT get_batch": nanogpt_get_batch,
    "curriculum, uint16 views": ours_views,
    "curriculum, int64": ours_fresh,
    "curriculum, int64, reused buffer": ours_reused,
    "curriculum adapter": ours_adapter,
    "curriculum adapter, reuse_buffer": ours_adapter_reused,
}
