"""One training loop for every way, with a clock for each part of it.

In:  ways, a model's size, and how many tokens to train.   Out: what each loaded, trained and took, by wall and CPU.
Guarantee: model and optimizer are those of `curriculum train`, with the same weights at the beginning. The ways take
turns, each trains a tenth further, so that whatever else the machine does slows all of them; this is done several
times, so that the spread is known. One thread, so that CPU time is that of the work.

    loading     next batch of the loader, widened to int64
    cutting     the length of the step, slices, copies
    compiling   only where the model is compiled: what a step took more than the same shape takes the next time
    computing   forward, loss, backward, AdamW
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from length_data import Setting
from length_ways import Way
from torch.nn import functional

from curriculum.tokenizer_entry import TokenizerEntry
from curriculum.training.gpt2 import adamw, gpt2
from curriculum.training.settings import Settings

PARTS = ("loading", "cutting", "compiling", "computing")


def trainer_settings(setting: Setting) -> Settings:
    """What the reference trainer makes model and optimizer of."""
    return Settings(dataset="", out="", layers=setting.layers, width=setting.width, heads=setting.heads)


def small_gpt2(setting: Setting, vocab_size: int) -> torch.nn.Module:
    """The model of the reference trainer, always with the same weights."""
    tokenizer = TokenizerEntry(vocab_size=vocab_size, bos_id=None, eos_id=0, sha256="")  # only the size matters here
    return gpt2(trainer_settings(setting), tokenizer, max_seq_len=setting.max_length)


def loss_of(model: Any, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean over the targets; a row of Composer has one target fewer than inputs."""
    logits = model(inputs).logits[:, : targets.shape[1]]
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def cpu_seconds() -> float:
    """Of this process and of the compilers that it ran."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


@dataclass(kw_only=True)
class Clock:
    """Seconds of parts, by the wall and of the CPU."""

    wall: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    cpu: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    _last: tuple[float, float] = (0.0, 0.0)

    def start(self) -> None:
        """From here on."""
        self._last = (time.perf_counter(), cpu_seconds())

    def stop(self, part: str) -> tuple[float, float]:
        """Until here it was `part`."""
        now = (time.perf_counter(), cpu_seconds())
        spent = (now[0] - self._last[0], now[1] - self._last[1])
        self.wall[part] += spent[0]
        self.cpu[part] += spent[1]
        self._last = now
        return spent


@dataclass(kw_only=True)
class Counts:
    """What a run loaded and trained."""

    steps: int = 0
    loaded_tokens: int = 0
    trained_tokens: int = 0
    int64_bytes_loaded: int = 0
    """of the tensors that the loader makes"""
    int64_bytes_given: int = 0
    """of inputs and targets as the model gets them"""
    shapes: set[tuple[int, ...]] = field(default_factory=set)


class Run:
    """A way being trained, a little further with every call."""

    def __init__(self, way: Way, setting: Setting, vocab_size: int, compile_options: dict[str, Any] | None) -> None:
        self.way = way
        self.counts, self.clock = Counts(), Clock()
        self._plain = small_gpt2(setting, vocab_size)
        self._model: Any = self._plain
        self._is_compiled = compile_options is not None
        if compile_options is not None:
            self._model = torch.compile(self._plain, **compile_options)
        self._optimizer = adamw(self._plain, trainer_settings(setting))
        self._batches: Iterator[Any] | None = None

    def train_until(self, tokens: int) -> None:
        """Train whole steps until so many targets were trained in all."""
        clock, counts = self.clock, self.counts
        while counts.trained_tokens < tokens:
            clock.start()
            if self._batches is None:
                self._batches = self.way.loaded()
            loaded = next(self._batches)
            clock.stop("loading")
            inputs, targets = self.way.cut(loaded, counts.steps)
            clock.stop("cutting")
            is_new = tuple(inputs.shape) not in counts.shapes
            loss_of(self._model, inputs, targets).backward()
            spent = clock.stop("computing")
            self._optimizer.step()
            self._optimizer.zero_grad()
            clock.stop("computing")
            self._count(loaded, inputs, targets)
            if is_new and self._is_compiled:
                self._split_compiling(spent, inputs, targets)

    def _split_compiling(self, spent: tuple[float, float], inputs: torch.Tensor, targets: torch.Tensor) -> None:
        """A new shape forward and backward again: what it takes now was computing, the rest of the first compiling."""
        aside = Clock()
        aside.start()
        loss_of(self._model, inputs, targets).backward()
        again = aside.stop("computing")
        self._optimizer.zero_grad()
        for ledger, first, second in zip((self.clock.wall, self.clock.cpu), spent, again, strict=True):
            compiling = max(0.0, first - second)
            ledger["compiling"] += compiling
            ledger["computing"] -= compiling

    def _count(self, loaded: Any, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        counts = self.counts
        counts.steps += 1
        counts.loaded_tokens += self.way.loaded_tokens(loaded)
        counts.trained_tokens += targets.numel()
        counts.int64_bytes_loaded += _memory(loaded.values() if isinstance(loaded, dict) else [loaded])
        counts.int64_bytes_given += 8 * (inputs.numel() + targets.numel())
        counts.shapes.add(tuple(inputs.shape))


def _memory(tensors: Any) -> int:
    """Bytes below some tensors; what two views share counts once."""
    num_bytes = end = 0
    storages = [tensor.untyped_storage() for tensor in tensors]
    for start, stop in sorted((each.data_ptr(), each.data_ptr() + each.nbytes()) for each in storages):
        num_bytes += max(0, stop - max(start, end))
        end = max(end, stop)
    return num_bytes


def train_in_turns(runs: list[Run], tokens: int, turns: int) -> None:
    """All runs to the same number of trained tokens, in turns."""
    for turn in range(1, turns + 1):
        for run in runs:
            run.train_until(tokens * turn // turns)
