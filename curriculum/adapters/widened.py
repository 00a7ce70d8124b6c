"""A batch of numpy views as int64 tensors in memory of their own: what every torch adapter hands out on the CPU.

In:  a `Batch`.   Out: a dictionary: input_ids, labels, and what was asked for beside them.
Guarantee: one widening copy (torch cannot embed uint16), by numpy: `torch.from_numpy` warns about a read-only map, and
numpy takes huge pages from 4 MiB on. Nothing that the caller does to the tensors reaches the dataset.

    stored row  5 6 7 0 8   ->   input_ids  5 6 7 0     labels  6 7 0 8         one array, two views of it
    packed row  5 6 0 8 0   ->   input_ids  5 6 0 8     labels  6 0 -100 0      two arrays: pieces 5 6 0 and 8 0
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from curriculum.batch import Batch, TokenArray
from curriculum.errors import ConfigError

Example = dict[str, Any]
"""input_ids and labels, int64 [rows, seq_len]; `Wanted` says what else there can be"""
Attention = Literal["position_ids", "varlen"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What examples hold beside input_ids and labels."""

    attention: Attention | None = None
    """position_ids: int64 [rows, seq_len] that start anew in every document: what most models of transformers need, and
    the only key that they accept; varlen: those, and cu_seqlens int32 [pieces + 1] with max_seqlen int of the rows laid
    end to end, for a loop that calls a varlen kernel itself"""
    shift_labels: bool = False
    """labels once more under this name, for models of transformers, which shift `labels` themselves"""
    contiguous: bool = False
    """each tensor in memory of its own, at the price of a second widening; so are packed rows and shift_labels"""

    def __post_init__(self) -> None:
        """Refuse a kind of attention that does not exist.

        Raises:
            ConfigError: names the two that do.
        """
        if self.attention not in (None, "position_ids", "varlen"):
            raise ConfigError(f"attention is {self.attention!r}; choose None, 'position_ids' or 'varlen'.")


class Widened:
    """The memory of one example, which can be filled again with a batch of the same shape."""

    __slots__ = ("_arrays", "_input_ids", "_labels", "_wanted", "shape")

    def __init__(self, batch: Batch, wanted: Wanted) -> None:
        """Widen a batch into fresh memory."""
        tokens = batch.tokens
        self.shape = tokens.shape
        self._wanted = wanted
        self._arrays: tuple[TokenArray, ...]
        if wanted.contiguous or wanted.shift_labels or batch.num_tokens is not None:
            inputs, labels = batch.inputs.astype(np.int64), batch.labels
            self._arrays = (inputs, labels)
        else:
            whole = tokens.astype(np.int64)
            inputs, labels = whole[:, :-1], whole[:, 1:]
            self._arrays = (whole,)
        self._input_ids = torch.from_numpy(inputs)
        self._labels = torch.from_numpy(labels)

    def refill(self, batch: Batch) -> None:
        """The same memory with another batch of the same shape."""
        if len(self._arrays) == 1:
            np.copyto(self._arrays[0], batch.tokens)
        else:
            np.copyto(self._arrays[0], batch.inputs)
            batch.write_labels(self._arrays[1])

    def example(self, batch: Batch) -> Example:
        """The tensors that hold this batch, which was widened last, and what else is wanted of it, made anew."""
        example: Example = {"input_ids": self._input_ids, "labels": self._labels}
        if self._wanted.shift_labels:
            example["shift_labels"] = self._labels
        if self._wanted.attention is not None:
            pieces = batch.varlen
            example["position_ids"] = torch.from_numpy(pieces.position_ids)
            if self._wanted.attention == "varlen":
                example["cu_seqlens"] = torch.from_numpy(pieces.cu_seqlens)
                example["max_seqlen"] = pieces.max_seqlen
        return example


def widened(batch: Batch, wanted: Wanted) -> Example:
    """A batch in fresh memory."""
    return Widened(batch, wanted).example(batch)
