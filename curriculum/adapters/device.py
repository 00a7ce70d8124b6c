"""Batches on a device: what travels is the stored uint16 or uint32, one step ahead of use; int64 is made there.

In:  batches of numpy views, and a device.   Out: examples as `widened` gives them, on the device; and their cursors.
Guarantee, for CUDA: one copy per batch, out of pinned memory, on a stream of its own, begun before the batch before it
is handed out. The stream that is current when a batch is handed out waits for that batch and for no other. Memory of a
batch is not given to another one before the work queued on it is done (`record_stream`), and pinned memory is not
written again before its copy is done. The host never waits for the device, but for a copy two batches old.

    bytes of a copy     tokens [rows, seq_len + 1]     packed rows: int32 [n]      attention: cu_seqlens int32
                        2 or 4 bytes each              inputs without a target     [pieces + 1]
    4 rows of 8, uint16: 72 bytes, where int64 inputs and labels would be 512

torch has few kernels for uint16: the bytes are viewed as int16 and masked, which every version can.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
import torch

from curriculum.adapters.widened import Example, Wanted
from curriculum.batch import IGNORED, Batch, TokenArray
from curriculum.cursor import Cursor

_ALIGNMENT = 16
"""Each part begins at a multiple of so many bytes: a view as int32 must begin at a multiple of 4."""
_SIGNED: dict[int, tuple[torch.dtype, int]] = {2: (torch.int16, 0xFFFF), 4: (torch.int32, 0xFFFF_FFFF)}
"""By bytes of a stored token: the dtype that torch can convert, and the bits that are the token."""


class Parts(NamedTuple):
    """What travels of a batch."""

    tokens: TokenArray
    """uint16 or uint32 [rows, seq_len + 1]"""
    without_target: TokenArray
    """int32 [n]: flat index, row * seq_len + j, of inputs without a target; none where rows are not packed"""
    cu_seqlens: TokenArray
    """int32 [pieces + 1]; empty if attention was not asked for"""
    max_seqlen: int

    @property
    def arrays(self) -> tuple[TokenArray, TokenArray, TokenArray]:
        """In the order in which they lie."""
        return self.tokens, self.without_target, self.cu_seqlens

    @property
    def offsets(self) -> tuple[int, int, int, int]:
        """Byte at which each begins, and the end of all."""
        offsets = [0]
        for array in self.arrays:
            offsets.append(-(-(offsets[-1] + array.nbytes) // _ALIGNMENT) * _ALIGNMENT)
        return offsets[0], offsets[1], offsets[2], offsets[3]

    def write(self, memory: TokenArray) -> None:
        """Lay them into uint8 memory of `offsets[-1]` bytes or more."""
        for offset, array in zip(self.offsets[:3], self.arrays, strict=True):
            np.copyto(memory[offset : offset + array.nbytes].view(array.dtype).reshape(array.shape), array)


def parts_of(batch: Batch, wanted: Wanted) -> Parts:
    """What must travel of a batch so that an example can be made of it."""
    none = np.empty(0, np.int32)
    without_target = none if batch.num_tokens is None else np.flatnonzero(~batch.has_target).astype(np.int32)
    pieces = None if wanted.attention is None else batch.varlen
    return Parts(
        tokens=batch.tokens,
        without_target=without_target,
        cu_seqlens=none if pieces is None else pieces.cu_seqlens,
        max_seqlen=0 if pieces is None else pieces.max_seqlen,
    )


def example_of(block: torch.Tensor, parts: Parts, wanted: Wanted) -> Example:
    """Widen a block where it is.

    Args:
        block: uint8 [offsets[-1] or more]: the bytes that `parts.write` wrote, on any device.
        parts: says where they lie; its arrays are not read.
        wanted: keys of the example.

    Returns:
        contiguous tensors in memory of their own, on the block's device.
    """
    dtype, bits = _SIGNED[parts.tokens.itemsize]
    tokens = _view(block, parts, 0, dtype)
    input_ids, labels = (
        part.to(torch.int64, memory_format=torch.contiguous_format).bitwise_and_(bits)
        for part in (tokens[:, :-1], tokens[:, 1:])
    )
    if parts.without_target.size:
        labels.view(-1).index_fill_(0, _view(block, parts, 1, torch.int32).to(torch.int64), IGNORED)
    example: Example = {"input_ids": input_ids, "labels": labels}
    if wanted.shift_labels:
        example["shift_labels"] = labels
    if wanted.attention is not None:
        edges = _view(block, parts, 2, torch.int32).clone()
        num_inputs = input_ids.numel()
        first = torch.repeat_interleave(edges[:-1], edges.diff(), output_size=num_inputs)  # size given: no waiting
        positions = torch.arange(num_inputs, device=block.device) - first
        example["position_ids"] = positions.view(input_ids.shape)
        if wanted.attention == "varlen":
            example["cu_seqlens"], example["max_seqlen"] = edges, parts.max_seqlen
    return example


def _view(block: torch.Tensor, parts: Parts, index: int, dtype: torch.dtype) -> torch.Tensor:
    offset, array = parts.offsets[index], parts.arrays[index]
    return block[offset : offset + array.nbytes].view(dtype).view(array.shape)


def moved(batch: Batch, device: torch.device, wanted: Wanted) -> Example:
    """One batch on a device, by a copy that waits."""
    parts = parts_of(batch, wanted)
    memory = np.empty(parts.offsets[-1], np.uint8)
    parts.write(memory)
    return example_of(torch.from_numpy(memory).to(device), parts, wanted)


def on_device(
    batches: Iterable[Batch], device: torch.device, wanted: Wanted, *, cuda: Any = torch.cuda
) -> Iterator[tuple[Cursor, Example]]:
    """Batches on a device, each with the cursor after it; on CUDA one ahead of the one that is handed out.

    Args:
        batches: of a reader.
        device: a CUDA device, or any other, to which batches are then moved one by one.
        wanted: keys of the examples.
        cuda: the module that has streams and events.
    """
    if device.type == "cuda":
        return _Ahead(device, wanted, cuda).examples(batches)
    return ((batch.cursor, moved(batch, device, wanted)) for batch in batches)


class _Pinned:
    """Page-locked memory of one batch under way."""

    __slots__ = ("copied", "memory")

    def __init__(self) -> None:
        self.memory: torch.Tensor | None = None
        self.copied: Any = None
        """event after the last copy out of it"""

    def written(self, parts: Parts) -> torch.Tensor:
        """The parts in it; grows by doubling, because page-locking takes milliseconds."""
        if self.copied is not None:
            self.copied.synchronize()
        num_bytes = parts.offsets[-1]
        if self.memory is None or len(self.memory) < num_bytes:
            self.memory = torch.empty(1 << (num_bytes - 1).bit_length(), dtype=torch.uint8, pin_memory=True)
        parts.write(self.memory.numpy())
        return self.memory[:num_bytes]


class _OnItsWay(NamedTuple):
    """A batch whose copy was begun."""

    cursor: Cursor
    example: Example
    ready: Any
    """event after its last kernel"""


class _Ahead:
    """Copies one batch ahead; see the module."""

    def __init__(self, device: torch.device, wanted: Wanted, cuda: Any) -> None:
        self._device = device
        self._wanted = wanted
        self._cuda = cuda
        self._side = cuda.Stream(device)

    def examples(self, batches: Iterable[Batch]) -> Iterator[tuple[Cursor, Example]]:
        """In order. Two pinned memories take turns: while one is written, the copy out of the other is under way."""
        ahead: _OnItsWay | None = None
        for batch, pinned in zip(batches, cycle((_Pinned(), _Pinned())), strict=False):
            begun = self._begin(batch, pinned)
            if ahead is not None:
                yield self._hand_out(ahead)
            ahead = begun
        if ahead is not None:
            yield self._hand_out(ahead)

    def _begin(self, batch: Batch, pinned: _Pinned) -> _OnItsWay:
        parts = parts_of(batch, self._wanted)
        source = pinned.written(parts)
        with self._cuda.stream(self._side):
            block = torch.empty(len(source), dtype=torch.uint8, device=self._device)
            block.copy_(source, non_blocking=True)
            pinned.copied = self._cuda.Event()
            pinned.copied.record(self._side)
            example = example_of(block, parts, self._wanted)
            ready = self._cuda.Event()
            ready.record(self._side)
        return _OnItsWay(batch.cursor, example, ready)

    def _hand_out(self, begun: _OnItsWay) -> tuple[Cursor, Example]:
        """An event, not the stream: the side stream is at work on the next batch already."""
        current = self._cuda.current_stream(self._device)
        current.wait_event(begun.ready)
        for value in begun.example.values():
            if isinstance(value, torch.Tensor):
                value.record_stream(current)
        return begun.cursor, begun.example
