"""DeepSpeed's floating-point pacing against the exact one: where it falls one alignment short, and nowhere else.

The formula is `CurriculumScheduler.__fixed_root_get_difficulty` of DeepSpeed 0.19.6, written anew for arrays; linear
is degree 1. Start and maximum are aligned here, so its repair of unaligned starts (#8334) changes nothing.
"""

import math

import numpy as np
import numpy.typing as npt
import pytest

from curriculum.schedule import Pacing

START = MULTIPLE = 8
MAX_LENGTHS = range(16, 2049, 8)
WARMUPS = range(50, 1001)

Lengths = npt.NDArray[np.int64]


def deepspeed_length(t: int, warmup_steps: int, max_length: int, degree: int) -> int:
    """One step, with Python floats as DeepSpeed computes it; t counts from 1."""
    difficulty = math.floor((float(t) / warmup_steps) ** (1.0 / degree) * (max_length - START) + START)
    return min(difficulty - difficulty % MULTIPLE, max_length)


def deepspeed_linear(warmup_steps: int) -> Lengths:
    """[all maxima, t = 1..T] at once: the same IEEE operations, and x ** 1.0 is x."""
    t = np.arange(1, warmup_steps + 1, dtype=np.float64)
    top = np.array(MAX_LENGTHS, dtype=np.float64)[:, None]
    difficulty = np.floor((t / warmup_steps) * (top - START) + START).astype(np.int64)
    return np.minimum(difficulty - difficulty % MULTIPLE, top.astype(np.int64))


def exact_linear(warmup_steps: int) -> Lengths:
    """design.md section 4 in 64-bit integers, [all maxima, t = 1..T]; the test below ties it to `Pacing`."""
    t = np.arange(1, warmup_steps + 1, dtype=np.int64)
    top = np.array(MAX_LENGTHS, dtype=np.int64)[:, None]
    return (START + t * (top - START) // warmup_steps) // MULTIPLE * MULTIPLE


def pacing_lengths(max_length: int, warmup_steps: int, degree: int = 1) -> Lengths:
    pacing = Pacing(name="root" if degree > 1 else "linear", start_length=START, max_length=max_length, degree=degree)
    runs = pacing.runs(warmup_steps, warmup_steps)
    return np.repeat([seq_len for seq_len, _ in runs], [num_steps for _, num_steps in runs])


@pytest.mark.parametrize("warmup_steps", [50, 99, 100, 333, 1000])
def test_the_array_forms_are_the_two_schedules(warmup_steps: int) -> None:
    """Ties the whole-grid test below to `Pacing` and to DeepSpeed's scalar arithmetic."""
    exact, floats = exact_linear(warmup_steps), deepspeed_linear(warmup_steps)
    for row, max_length in enumerate(MAX_LENGTHS):
        assert (exact[row] == pacing_lengths(max_length, warmup_steps)).all()
    for row in range(0, len(MAX_LENGTHS), 16):
        steps = range(1, warmup_steps + 1)
        assert floats[row].tolist() == [deepspeed_length(t, warmup_steps, MAX_LENGTHS[row], 1) for t in steps]


def test_linear_falls_short_by_one_alignment_only_on_exact_landings_on_the_whole_grid() -> None:
    """All 255 maxima, all 951 warmups, 127,315,125 steps: 11,744 are short by 8, all others are equal.

    Why only there: the exact value of a step lands on a multiple of 8, or lies 8 / T or more away from it, far
    beyond the rounding error of three operations.
    """
    num_steps = num_short = 0
    for warmup_steps in WARMUPS:
        gap = exact_linear(warmup_steps) - deepspeed_linear(warmup_steps)
        rows, columns = np.nonzero(gap)
        assert (gap[rows, columns] == MULTIPLE).all(), warmup_steps
        grown = (columns + 1) * (np.array(MAX_LENGTHS)[rows] - START)  # T times the exact, unrounded growth
        assert (grown % (warmup_steps * MULTIPLE) == 0).all(), warmup_steps
        num_steps += gap.size
        num_short += len(rows)
    assert (num_steps, num_short) == (127_315_125, 11_744)


# The steps (t, from 1) of the grid where DeepSpeed is one alignment short: {T: {max_length: [t, ...]}}.
SHORT = {
    50: {408: [29], 728: [35], 808: [29], 1208: [41], 1368: [35], 1448: [35], 1608: [29]},
    54: {},
    100: {408: [58], 728: [70], 808: [29, 57, 58], 1208: [82], 1368: [70], 1448: [35, 70], 1608: [29, 57, 58]},
    1000: {
        408: [580],
        728: [700],
        808: [290, 570, 580],
        1208: [820],
        1368: [700],
        1448: [350, 700],
        1608: [145, 285, 290, 565, 570, 575, 580],
    },
}


@pytest.mark.parametrize("warmup_steps", SHORT)
def test_the_steps_where_deepspeed_is_one_alignment_short_are_listed(warmup_steps: int) -> None:
    """An importer that promises DeepSpeed's own lengths has to shorten exactly these steps."""
    gap = exact_linear(warmup_steps) - deepspeed_linear(warmup_steps)
    listed: dict[int, list[int]] = {}
    for row, column in zip(*np.nonzero(gap), strict=True):
        listed.setdefault(MAX_LENGTHS[row], []).append(int(column) + 1)
    assert listed == SHORT[warmup_steps]


def test_the_published_example_is_240_and_not_232() -> None:
    assert pacing_lengths(808, 100)[28] == 240
    assert deepspeed_length(29, 100, 808, 1) == 232


@pytest.mark.parametrize("degree", [2, 3])
def test_root_differs_only_by_one_alignment_and_only_on_exact_landings(degree: int) -> None:
    """A sample of the grid, 990,675 steps. How many are short is up to the machine's pow(), where is not."""
    for warmup_steps in range(50, 1001, 19):
        for max_length in range(16, 2049, 56):
            exact = pacing_lengths(max_length, warmup_steps, degree).tolist()
            for t, length in enumerate(exact, 1):
                found = deepspeed_length(t, warmup_steps, max_length, degree)
                if found != length:
                    assert found == length - MULTIPLE
                    assert warmup_steps * (length - START) ** degree == t * (max_length - START) ** degree
