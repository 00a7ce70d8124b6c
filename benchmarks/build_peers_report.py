"""From the samples of `build_peers.py` to tables.

In:  per tool the samples of its rounds and its ids; the re-cuts; the disk's rates.   Out: one object; Markdown of it.
Guarantee: [least, median, most] over the rounds. `ids` is "equal" only if count and digest are those of the bare loop
with one thread. A tool without a sample keeps its sentence: it is never left out.

    {"name": "litdata.optimize", "seconds": [25.2, 25.4, 25.4], "times_ours": 11.2, "ids": "equal", ...}
"""

from __future__ import annotations

from statistics import median
from typing import Any

REFERENCE = "bare loop, 1 thread"
OURS = "curriculum build, "
CAPTION = """Wall time from start to exit, interpreter and imports included; in the tool: after its imports. Equal CPUs
and workers in one row. All but the bare loop and the builds only tokenize, in the order of the corpus; the builds also
shuffle the whole corpus, cut it to every length, hash every file and flush it to the disk (no other does), twice: the
token store, which later builds use again, and the dataset. Every document is followed by its EOS (id 50256) everywhere;
ids are compared by their number and one sha256 over all of them in the order of the corpus, ours from the token store.
The page cache holds the corpus. Memory is the proportional set size of all processes together."""

TOOL_COLUMNS = "tool|rounds|wall s (least to most)|in the tool, s|CPU s|peak MB|output MB|M tokens/s|MB/s of text"
TOOL_COLUMNS += "|times ours|ids"
RECUT_COLUMNS = "re-cut|rounds|wall s (least to most)|of it cut, s|CPU s|MB of ids|output MB|cut, MB/s per core"
RECUT_COLUMNS += "|whole command, MB/s per core|peak MB"


def summarize(
    tools: dict[str, list[dict[str, Any]]],
    ids: dict[str, dict[str, Any]],
    recuts: dict[str, list[dict[str, Any]]],
    disk: list[dict[str, float]],
    text_bytes: int,
) -> dict[str, Any]:
    """Medians and spreads; ratios to our build with the most workers."""
    reference = ids[REFERENCE]
    ours = median(each["seconds"] for each in tools[max(name for name in tools if name.startswith(OURS))])
    return {
        "reference": {"tokens": reference["tokens"], "sha256": reference["sha256"]},
        "tools": [_tool(name, found, ids.get(name), reference, ours, text_bytes) for name, found in tools.items()],
        "recuts": [_recut(name, found) for name, found in recuts.items()],
        "disk_mb_per_second": {name: _spread([each[name] for each in disk]) for name in disk[0]},
    }


def _tool(
    name: str,
    found: list[dict[str, Any]],
    ids: dict[str, Any] | None,
    reference: dict[str, Any],
    ours: float,
    text_bytes: int,
) -> dict[str, Any]:
    for key in ("missing", "error"):
        if any(key in each for each in found):
            return {"name": name, key: next(each[key] for each in found if key in each)}
    seconds = _spread([each["seconds"] for each in found])
    result = {
        "name": name,
        "rounds": len(found),
        "seconds": seconds,
        "in_tool_seconds": _spread([each["in_tool_seconds"] for each in found if "in_tool_seconds" in each]),
        "cpu_seconds": _spread([each["cpu_seconds"] for each in found]),
        "peak_mb": max(each["peak_bytes"] for each in found) / 1e6,
        "out_mb": found[0]["out_bytes"] / 1e6,
        "store_mb": found[0].get("store_bytes", 0) / 1e6,
        "million_tokens_per_second": reference["tokens"] / seconds[1] / 1e6,
        "mb_per_second": text_bytes / seconds[1] / 1e6,
        "times_ours": seconds[1] / ours,
        "ids": _compare(ids, reference),
        "versions": found[0].get("versions", {}),
    }
    if "stage_seconds" in found[0]:
        result["stage_seconds"] = {
            stage: median(each["stage_seconds"][stage] for each in found) for stage in found[0]["stage_seconds"]
        }
    return result


def _compare(ids: dict[str, Any] | None, reference: dict[str, Any]) -> str:
    if ids is None or "error" in ids:
        return f"cannot be read back: {(ids or {}).get('error', 'nothing there')}"
    if ids["tokens"] != reference["tokens"]:
        return f"DIFFER: {ids['tokens']:,} ids"
    return "equal" if ids["sha256"] == reference["sha256"] else "DIFFER: as many ids, other digest"


def _recut(name: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    """Rates are of trained ids, 2 bytes each, per worker: in the cut, and over the whole command."""
    num_bytes, workers = found[0]["trained_tokens"] * 2, found[0]["workers"]
    cut = _spread([each["stage_seconds"]["cut"] for each in found])
    seconds = _spread([each["seconds"] for each in found])
    return {
        "name": name,
        "rounds": len(found),
        "workers": workers,
        "seconds": seconds,
        "cut_seconds": cut,
        "cpu_seconds": _spread([each["cpu_seconds"] for each in found]),
        "tokens_mb": num_bytes / 1e6,
        "out_mb": found[0]["out_bytes"] / 1e6,
        "cut_mb_per_second_per_core": num_bytes / cut[1] / workers / 1e6,
        "command_mb_per_second_per_core": num_bytes / seconds[1] / workers / 1e6,
        "peak_mb": max(each["peak_bytes"] for each in found) / 1e6,
    }


def _spread(values: list[float]) -> list[float]:
    """[least, median, most], or nothing of nothing."""
    return [min(values), median(values), max(values)] if values else []


def show(found: dict[str, Any]) -> None:
    """The tables, in Markdown."""
    corpus = found["corpus"]
    print(f"{corpus['text_bytes'] / 1e6:.0f} MB of text, {corpus['documents']:,} documents", end=" ")
    print(f"({corpus['left_out']} with the text <|endoftext|> left out), GPT-2,", end=" ")
    print(f"{found['reference']['tokens']:,} ids with EOS, {found['workers']} workers\n\n{CAPTION}\n")
    _table(TOOL_COLUMNS, [_tool_line(each) for each in found["tools"]])
    print("\nRe-cut of a token store; MB of ids, 2 bytes each, per second and worker\n")
    _table(RECUT_COLUMNS, [_recut_line(each) for each in found["recuts"]])
    print("\nThis machine in the same rounds, MB/s (least, median, most)\n")
    rates = found["disk_mb_per_second"]
    _table("what|MB/s", [[name, ", ".join(f"{rate:,.0f}" for rate in rates[name])] for name in rates])
    versions = {f"{name} {number}" for each in found["tools"] for name, number in each.get("versions", {}).items()}
    commit = f"; Megatron-LM {found['megatron'][:10]}" if found["megatron"] else ""
    print(f"\n{', '.join(sorted(versions))}{commit}")


def _tool_line(each: dict[str, Any]) -> list[str]:
    if "missing" in each or "error" in each:
        return [
            each["name"],
            f"missing: {each['missing']}" if "missing" in each else f"failed: {each['error']}",
            *[""] * 9,
        ]
    store = f" + {each['store_mb']:,.0f} store" if each["store_mb"] else ""
    return [
        each["name"],
        str(each["rounds"]),
        _range(each["seconds"]),
        f"{each['in_tool_seconds'][1]:.2f}" if each["in_tool_seconds"] else "",
        f"{each['cpu_seconds'][1]:.1f}",
        f"{each['peak_mb']:,.0f}",
        f"{each['out_mb']:,.0f}{store}",
        f"{each['million_tokens_per_second']:.2f}",
        f"{each['mb_per_second']:.1f}",
        f"{each['times_ours']:.2f}",
        each["ids"],
    ]


def _recut_line(each: dict[str, Any]) -> list[str]:
    return [
        each["name"],
        str(each["rounds"]),
        _range(each["seconds"]),
        f"{each['cut_seconds'][1]:.2f}",
        f"{each['cpu_seconds'][1]:.1f}",
        f"{each['tokens_mb']:,.0f}",
        f"{each['out_mb']:,.0f}",
        f"{each['cut_mb_per_second_per_core']:.0f}",
        f"{each['command_mb_per_second_per_core']:.0f}",
        f"{each['peak_mb']:,.0f}",
    ]


def _range(seconds: list[float]) -> str:
    least, middle, most = seconds
    return f"{middle:.2f} ({least:.2f} to {most:.2f})"


def _table(columns: str, lines: list[list[str]]) -> None:
    head = columns.split("|")
    for line in (head, ["---"] * len(head), *lines):
        print("| " + " | ".join(line) + " |")
