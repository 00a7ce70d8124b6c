"""From the samples of `readers.py` to one table per shape.

In:  what each process answered, round by round.   Out: an object of medians and spreads; a table of it.
Guarantee: a rate is compared with the window of the bare slice right before it, and the ratio is the median of those of
the rounds; least, median and most are over rounds, p50 and p99 over the steps of all rounds.
"""

from __future__ import annotations

import os
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np


def environment(root: Path) -> dict[str, str]:
    """Of every reader's process: this checkout importable, one thread, no accounts, no network, no progress bars."""
    quiet = {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "DISABLE_OPTIMIZER_HINT": "1",
        "PYTHONPATH": f"{root}{os.pathsep}{root / 'benchmarks'}",
    }
    return {**os.environ, **quiet}


def summarize(samples: dict[str, dict[str, Any]], tokens_per_step: int, bare: str) -> dict[str, Any]:
    """One object per reader; {"error": ...} for one that did not work."""
    least_memory = median(each["memory"]["own_mb"] for each in samples[bare]["rounds"])
    return {name: _summarize(sample, tokens_per_step, least_memory) for name, sample in samples.items()}


def _summarize(sample: dict[str, Any], tokens_per_step: int, least_memory: float) -> dict[str, Any]:
    rounds = sample["rounds"]
    answers = [sample["first"], sample["check"], *(each for one in rounds for each in one.values())]
    errors = [each["error"] for each in answers if "error" in each]
    if errors:
        return {"error": errors[0]}
    rates = [_rate(each["window"], tokens_per_step) for each in rounds]
    ratios = [rate / _rate(each["bare"], tokens_per_step) for rate, each in zip(rates, rounds, strict=True)]
    micros = np.concatenate([each["window"]["micros"] for each in rounds])
    return {
        "million_tokens_per_second": _spread(rates),
        "of_bare_slice": _spread(ratios),
        "of_bare_slice_by_p50": median(_p50(each["bare"]) / _p50(each["window"]) for each in rounds),
        "step_microseconds": {"p50": float(np.median(micros)), "p99": float(np.quantile(micros, 0.99))},
        "steps_timed": len(micros),
        "first_batch_milliseconds": sample["first"]["ms"],
        "start_milliseconds": _spread([each["start"]["ms"] for each in rounds]),
        "resume_milliseconds": _spread([each["resume"]["ms"] for each in rounds]),
        "resume_is_right": all(each["resume"]["digest"] == sample["check"]["digest"] for each in rounds),
        "training_order": sample["check"]["training_order"],
        "peak_resident_mb": max(each["memory"]["peak_mb"] for each in rounds),
        "own_memory_mb_above_slice": max(each["memory"]["own_mb"] for each in rounds) - least_memory,
    }


def _rate(window: dict[str, Any], tokens_per_step: int) -> float:
    """Million tokens per second."""
    return len(window["micros"]) * tokens_per_step / sum(window["micros"])


def _p50(window: dict[str, Any]) -> float:
    """Of a busy machine this says more than the rate: a step that was interrupted counts as one step."""
    return float(np.median(window["micros"]))


def _spread(values: list[float]) -> list[float]:
    """[least, median, most]"""
    return [min(values), median(values), max(values)]


def show(found: dict[str, Any]) -> None:
    """The tables, in Markdown."""
    for shape, readers in found["shapes"].items():
        print(f"\n[{shape.replace('x', ', ')}], {found['rounds']} rounds over {found['steps']} steps\n")
        head = [
            "reader",
            "M tokens/s (least to most)",
            "of the slice",
            "by p50",
            "step p50, us",
            "p99",
            "first batch, ms",
        ]
        head += ["start", "resume at 50 %", "peak MB", "own MB above the slice"]
        print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
        for name, each in readers.items():
            print(f"| {name} | {each['error']} |" if "error" in each else _line(name, each))
    print("\ncurriculum.open, milliseconds (least, median, most)")
    for name, values in found["opening_milliseconds"].items():
        print(f"  {name:42}" + "".join(f"{value:8.1f}" for value in values))


def _line(name: str, each: dict[str, Any]) -> str:
    least, middle, most = each["million_tokens_per_second"]
    steps = each["step_microseconds"]
    resume = f"{each['resume_milliseconds'][1]:.1f}" if each["resume_is_right"] else "does not"
    cells = [
        name,
        f"{_short(middle)} ({_short(least)} to {_short(most)})",
        _percent(each["of_bare_slice"][1]),
        _percent(each["of_bare_slice_by_p50"]),
        f"{steps['p50']:,.0f}",
        f"{steps['p99']:,.0f}",
        f"{each['first_batch_milliseconds']:.1f}",
        f"{each['start_milliseconds'][1]:.1f}",
        resume,
        f"{each['peak_resident_mb']:.0f}",
        f"{each['own_memory_mb_above_slice']:+.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def _short(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 20 else f"{rate:.2g}"


def _percent(share: float) -> str:
    return f"{share:.2%}" if share < 0.1 else f"{share:.0%}"
