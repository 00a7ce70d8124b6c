"""What `torch.compile` does with the shapes of a curriculum: graphs, shapes that run uncompiled, seconds.

In:  a model, the shapes of a run in their order, and how torch is told of them.   Out: `Compiles`.
Guarantee: every case begins with nothing compiled and empty caches of inductor. Each shape runs twice, forward and
backward, through all shapes and then once more: the second round is what the shapes cost when everything is compiled.

    128 lengths, dynamic=False     8 graphs, and 120 lengths run uncompiled: `recompile_limit` is 8
    128 lengths, dynamic=None      2 graphs: one for the first length, one for all others
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from length_data import Setting
from timed_training import cpu_seconds, loss_of, small_gpt2
from torch._dynamo import config
from torch._dynamo.backends.registry import lookup_backend

Shape = tuple[int, int]
Mark = Callable[[dict[str, torch.Tensor]], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """How torch is told."""

    name: str
    dynamic: bool | None
    limit: int
    """how many graphs of a function are kept; torch's own limit is 8"""
    mark: Mark | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Compiles:
    """What came of it."""

    shapes: int
    graphs: int
    uncompiled_shapes: int
    first_seconds: float
    first_cpu_seconds: float
    """of the round in which everything is compiled"""
    again_seconds: float
    again_cpu_seconds: float
    """of the round after it"""


def compiles(setting: Setting, vocab_size: int, shapes: Sequence[Shape], told: Told, backend: str) -> Compiles:
    """One case."""
    model = small_gpt2(setting, vocab_size)
    seen = _Seen()
    torch._dynamo.reset()
    with empty_caches(backend), config.patch(recompile_limit=told.limit):
        compiled = torch.compile(model, backend=seen.backend(backend), dynamic=told.dynamic)
        first = _round(compiled, model, vocab_size, shapes, told.mark, seen)
        uncompiled = sum(not calls for calls in seen.calls_of_shapes)
        again = _round(compiled, model, vocab_size, shapes, told.mark, seen)
    torch._dynamo.reset()
    return Compiles(
        shapes=len(shapes),
        graphs=seen.graphs,
        uncompiled_shapes=uncompiled,
        first_seconds=first[0],
        first_cpu_seconds=first[1],
        again_seconds=again[0],
        again_cpu_seconds=again[1],
    )


def empty_caches(backend: str) -> AbstractContextManager[Any]:
    """What inductor keeps on the disk counts for nothing, and nothing of it is left."""
    if backend != "inductor":
        return nullcontext()
    from torch._inductor.utils import fresh_cache  # takes seconds to import

    return fresh_cache()


class _Seen:
    """Counts what a backend is asked to compile, and the calls of what it compiled."""

    def __init__(self) -> None:
        self.graphs = 0
        self.calls = 0
        self.calls_of_shapes: list[int] = []

    def backend(self, name: str) -> Callable[[Any, Any], Any]:
        """The backend of that name, counted."""
        compile_graph = lookup_backend(name)

        def counted(graph: Any, examples: Any) -> Any:
            self.graphs += 1
            run = compile_graph(graph, examples)

            def call(*args: Any) -> Any:
                self.calls += 1
                return run(*args)

            return call

        return counted


def _round(
    compiled: Any, model: Any, vocab_size: int, shapes: Sequence[Shape], mark: Mark | None, seen: _Seen
) -> tuple[float, float]:
    """Wall and CPU seconds of one forward and backward of each shape."""
    draw = torch.Generator().manual_seed(0)
    began, cpu_began = time.perf_counter(), cpu_seconds()
    for rows, seq_len in shapes:
        tokens = torch.randint(vocab_size, (rows, seq_len + 1), generator=draw)
        example = {"input_ids": tokens[:, :-1].contiguous(), "labels": tokens[:, 1:].contiguous()}
        if mark is not None:
            mark(example)
        before = seen.calls
        loss_of(compiled, example["input_ids"], example["labels"]).backward()
        model.zero_grad()
        seen.calls_of_shapes.append(seen.calls - before)
    return time.perf_counter() - began, cpu_seconds() - cpu_began
