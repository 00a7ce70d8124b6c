"""From what `runtime_curricula.py` measured to tables that can be pasted into docs/benchmarks.md.

In:  the object that it prints with --json.   Out: one text.
Guarantee: the ratios first; nothing is computed here but ratios, sums and units: ids take two bytes where their int64
take eight. Seconds are wall (CPU), of the round in the middle where there were several.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def tables(found: dict[str, Any]) -> str:
    """All parts that were measured."""
    parts = {"tokens": _tokens, "train": _train, "compiled": _seconds, "shapes": _shapes, "resume": _resume}
    before, after = found["load"]
    texts = [
        f"Lengths of DeepSpeed by {found['deepspeed_lengths']}; 1-minute load {before:.1f} before, {after:.1f} after"
    ]
    texts += [show(found[name]) for name, show in parts.items() if name in found]
    return "\n\n".join(texts)


def _tokens(found: dict[str, Any]) -> str:
    rows = [
        [name, f"{_ratio(each):.3f}", f"{each['loaded_tokens']:,}", f"{each['trained_tokens']:,}", f"{each['steps']:,}"]
        for name, each in found.items()
    ]
    return _table(["published run", "loaded / trained", "tokens loaded", "tokens trained", "steps"], rows)


def _train(found: dict[str, Any]) -> str:
    rows = [
        [
            name,
            f"{_ratio(each):.3f}",
            f"{each['loaded_tokens']:,}",
            f"{each['trained_tokens']:,}",
            f"{each['steps']:,}",
            f"{each['int64_bytes_loaded'] / 4e6:.2f}",
            f"{each['shard_bytes_read'] / 1e6:.2f}",
            f"{each['int64_bytes_loaded'] / 1e6:.2f}",
            f"{each['int64_bytes_given'] / 1e6:.2f}",
            f"{each['shapes']}",
        ]
        for name, each in found.items()
    ]
    names = ["way", "loaded / trained", "tokens loaded", "tokens trained", "steps", "MB of ids, uint16"]
    names += ["MB of shards", "MB made int64", "MB given to the model", "shapes"]
    return _table(names, rows) + "\n\n" + _seconds(found)


def _seconds(found: dict[str, Any]) -> str:
    parts = list(next(iter(found.values()))["seconds"])
    rows = []
    for name, each in found.items():
        sums = [f"{sum(each['seconds'].values()):.1f} ({sum(each['cpu_seconds'].values()):.1f})"]
        seconds = [f"{each['seconds'][part]:.2f} ({each['cpu_seconds'][part]:.2f})" for part in parts]
        of_rounds = each["cpu_seconds_of_rounds"]
        spread = f"{min(of_rounds):.2f} to {max(of_rounds):.2f}"
        micros = [f"{1e6 * each['cpu_seconds'][part] / each['steps']:.0f}" for part in ("loading", "cutting")]
        rows.append([name, *sums, *seconds, *micros, spread])
    names = ["way", "all, s", *(f"{part}, s" for part in parts), "loading, CPU us a step", "cutting"]
    names.append("all, CPU s, least to most")
    return _table(names, rows)


def _shapes(found: dict[str, Any]) -> str:
    rows = []
    for name, each in found.items():
        compiling = each["first_seconds"] - each["again_seconds"]
        of_cpu = each["first_cpu_seconds"] - each["again_cpu_seconds"]
        again = f"{each['again_seconds']:.2f} ({each['again_cpu_seconds']:.2f})"
        graphs = [f"{each['graphs']}", f"{max(0, each['graphs'] - 1)}", f"{each['uncompiled_shapes']}"]
        rows.append([name, *graphs, f"{compiling:.1f} ({of_cpu:.1f})", again])
    return _table(["shapes", "graphs", "recompiles", "shapes run uncompiled", "compiling, s", "all once more, s"], rows)


def _resume(found: dict[str, Any]) -> str:
    rows = [
        [
            name,
            f"{each['same']} of {each['batches']}",
            f"{each['same_rows']}",
            f"{each['rows_read_again']:,}",
            f"{1e3 * each['seconds_to_first_batch']:.1f}",
        ]
        for name, each in found.items()
        if name != "stopped_after"
    ]
    names = [f"stopped after step {found['stopped_after']}", "batches the same", "of the same rows"]
    return _table([*names, "rows read again", "first batch, ms"], rows)


def _ratio(each: dict[str, Any]) -> float:
    return float(each["loaded_tokens"] / each["trained_tokens"])


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [names, ["---"] + ["--:"] * (len(names) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
