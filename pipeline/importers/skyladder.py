"""SkyLadder: the schedule that a model-name suffix such as `dm8`, `sin8`, `lin80p` or `dm8inc1024` selects.

In:  the suffix, or a whole model name that ends in it and has the full length too (`tiny_LLaMA_1b_8k_dm8`); the total
     steps for names with a percent.
Out: `Imported`, always explicit phases.

Guarantee: the attention window w of `PackedDatasetIterator` at the first sample of every step, with its floating
point, and at most the full length. Step s counts from 0, D = block_size - 32 = max_length + 1 - 32:

    dmK          w = 32 + s // K                     stN: starts at N instead of 32
    sinK, expK, cosK, logK                           x = s / (D * K): sin(pi/2 x), (block/32)^x, 1 - cos(pi x), ...
    linNp, sinNp, ...                                x = s / int(steps * N / 100)
    ...incR                                          w rounded down to a multiple of R; 0 becomes the start

    step       0    8  100  1000  8000 32000 64000 65288      block 8193
    dm8       32   33   44   157  1032  4032  8032  8193      (8192 here: a row has no token more)
    sin8      32   33   51   228  1593  5712  8189  8193
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from curriculum.errors import ConfigError
from pipeline.importers.translation import MAX_WARMUP_STEPS, Imported, runs_of, translate

START = 32
STARTS = (4, 8, 16, 32, 64, 128, 256, 512)
MAX_LENGTHS = (512, 1024, 2048, 4096, 8192, 16384, 32768)
DEFAULT_MAX_LENGTH = 8192
SAMPLES_PER_STEP = 16
"""The default of SkyLadder; it moves `log` only, whose counter of samples stands in a logarithm."""
NAME = re.compile(r"(?:.*_)?((intradm|dm|sin|exp|log|cos|inv|lin)([0-9]+)(p?)(?:st([0-9]+))?(?:inc([0-9]+))?)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """One schedule: `slow` is K, or None where `warmup_steps` comes from a percentage."""

    shape: str
    slow: int | None
    warmup_steps: int
    start: int
    block_size: int
    round_to: int

    def length(self, step: int) -> int:
        """w of the first sample of a step."""
        length = self._unrounded(step)
        if self.round_to:
            length = length // self.round_to * self.round_to or self.start
        return min(length, self.block_size)

    def _unrounded(self, step: int) -> int:
        if self.shape == "dm":
            return self.start + step // (self.slow or 1)
        if step >= self.warmup_steps:
            return self.block_size
        return SHAPES[self.shape](self, step)

    def lengths(self) -> Iterator[int]:
        """Of every step until the last change."""
        top = self.block_size - 1
        for step in range(self.warmup_steps + 1):
            yield min(self.length(step), top)


def _grown(window: Window, share: float) -> int:
    return window.start + int((window.block_size - window.start) * share)


def _sine(window: Window, step: int) -> int:
    import numpy as np  # SkyLadder's own: math.sin may round otherwise

    return _grown(window, np.sin((np.pi / 2) * (step / window.warmup_steps)))


def _cosine(window: Window, step: int) -> int:
    import numpy as np

    return _grown(window, 1 - np.cos(np.pi * (step / window.warmup_steps)))


def _linear(window: Window, step: int) -> int:
    return _grown(window, step / window.warmup_steps)


def _exponential(window: Window, step: int) -> int:
    return int(window.start * (window.block_size / window.start) ** (step / window.warmup_steps))


def _logarithmic(window: Window, step: int) -> int:
    import numpy as np

    samples, end = step * SAMPLES_PER_STEP, window.warmup_steps * SAMPLES_PER_STEP
    return int(window.start * (window.block_size / window.start) ** (np.log(1 + samples) / np.log(1 + end)))


SHAPES: dict[str, Callable[[Window, int], int]] = {
    "sin": _sine,
    "cos": _cosine,
    "lin": _linear,
    "exp": _exponential,
    "log": _logarithmic,
}


def import_skyladder(name: str, *, max_length: int | None = None, steps: int | None = None) -> Imported:
    """The schedule of a suffix; `steps` is the run's total, needed for names such as lin80p.

    Raises:
        ConfigError: SkyLadder has no such schedule, or reads the name as another one.
    """
    if max_length is None:  # a model's name has it: tiny_LLaMA_1b_8k_dm8
        thousands = re.search(r"(?:^|_)([0-9]{1,2})k_", name)
        max_length = int(thousands[1]) * 1024 if thousands else DEFAULT_MAX_LENGTH
    if max_length not in MAX_LENGTHS:
        raise ConfigError(f"SkyLadder {name}: max_length is {max_length}; it has {', '.join(map(str, MAX_LENGTHS))}.")
    window = _window(name, max_length, steps)
    translation = translate(runs_of(window.lengths()))
    differs = (
        f"Equal at every step as {max(1, translation.num_phases):,} explicit phases, but SkyLadder masks attention to "
        f"windows inside blocks of {max_length} tokens, where rows here are cut to the window: batch_tokens keeps its "
        f"constant tokens per step, without it steps have 16 rows."
    )
    options = {"mode": "segment", "rows_multiple_of": 1, **translation.options}
    return Imported(options=options, differs=differs, source=f"SkyLadder {name}", completed_by=("max_length",))


def _window(name: str, max_length: int, steps: int | None) -> Window:
    found = NAME.fullmatch(name)
    if not found:
        raise ConfigError(
            f"SkyLadder {name[:60]!r} is no schedule; give a suffix such as dm8, dm8st64, sin8, exp8, cos8, log8, "
            f"lin80p or dm8inc1024."
        )
    suffix, shape, number, percent, start, round_to = found.groups()
    _refuse_shape(name, shape, is_percent=bool(percent), starts_at=start)
    slow = None if percent else _slowness(name, suffix, int(number[:9]))
    block_size = max_length + 1
    begin = START if start is None else int(start)
    rounding = 0 if round_to is None else int(round_to[:9])
    if round_to is not None and not 1 <= rounding <= max_length:
        raise ConfigError(f"SkyLadder {name}: inc{round_to} rounds to {rounding}; choose from 1 to {max_length}.")
    if slow is None:
        warmup_steps = _share_of_steps(name, int(number[:9]), steps)
    elif shape == "dm":  # grows by one token every `slow` steps, on past the top until a multiple of R is there
        multiple = rounding or 1
        warmup_steps = (-(-max_length // multiple) * multiple - begin) * slow
    else:
        warmup_steps = (block_size - START) * slow
    return Window(
        shape=shape, slow=slow, warmup_steps=warmup_steps, start=begin, block_size=block_size, round_to=rounding
    )


def _refuse_shape(name: str, shape: str, *, is_percent: bool, starts_at: str | None) -> None:
    if shape == "inv":
        raise ConfigError(
            f"SkyLadder {name}: inv goes from long to short and then jumps back to the full length; write the lengths "
            f"that you want as phases."
        )
    if shape == "intradm":
        raise ConfigError(
            f"SkyLadder {name}: intradm cuts at documents too, and its first window is one token too long (2049 for "
            f"2048, lit_gpt/packed_dataset.py); import {name.replace('intradm', 'dm')} instead."
        )
    if shape == "dm" and is_percent:
        raise ConfigError(f"SkyLadder {name}: it ignores the percent of a dm schedule; use lin, such as lin80p.")
    if shape == "lin" and not is_percent:
        raise ConfigError(f"SkyLadder {name}: lin takes a percent of the steps, such as lin80p.")
    if starts_at is not None and (shape != "dm" or int(starts_at[:9]) not in STARTS):
        raise ConfigError(
            f"SkyLadder {name}: st sets the start of dm schedules only, to {', '.join(map(str, STARTS))}; use one of "
            f"these."
        )


def _slowness(name: str, suffix: str, number: int) -> int:
    """Steps per token of growth. SkyLadder takes the first rate whose name is part of the suffix."""
    names = ((f"{shape}{rate}", rate) for rate in range(1, 33) for shape in ("sin", "exp", "dm", "log", "cos", "inv"))
    read = next((rate for part, rate in names if part in suffix), None)
    if read != number:
        found = "no rate" if read is None else f"rate {read}"
        raise ConfigError(
            f"SkyLadder {name}: its look-up by substring finds {found} in it and not {number} "
            f"(lit_gpt/packed_dataset.py, get_iters_per_increase); use a rate from 1 to 9."
        )
    return number


def _share_of_steps(name: str, percent: int, steps: int | None) -> int:
    if steps is None:
        raise ConfigError(f"SkyLadder {name}: a percentage of the run needs its total; give steps.")
    if not 1 <= percent <= 100:
        raise ConfigError(f"SkyLadder {name}: {percent} percent of the steps; choose from 1 to 100.")
    warmup_steps = int(steps * percent / 100)
    if warmup_steps > MAX_WARMUP_STEPS:
        raise ConfigError(f"SkyLadder {name}: {warmup_steps} warmup steps; at most {MAX_WARMUP_STEPS} can be imported.")
    return warmup_steps
