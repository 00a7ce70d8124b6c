"""Cutting a token store anew for another seed, with one worker: MB of tokens per second and per CPU second.

    python benchmarks/recut.py [--corpus-mb 562] [--runs 5] [--folder DIR] [--json]

In:  nothing but this machine; corpus and tokenizer as in main_job.py, tokenized once. 8 -> 1024 tokens, frac 0.3.
Out: a table, or with --json one object, on stdout; progress on stderr. A run is the whole command in a fresh process,
and in it all windows alone (read, deal, gather, hash, write, flush). The disk's own rate, one file of as many bytes
written and flushed, is measured in turns with it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

RECUT = """if True:
    import json, sys, time
    from decimal import Decimal
    import pipeline.build as stages
    from pipeline.option_sources import load_options
    from pipeline.progress import Silent

    wall = cpu = 0.0
    cut = stages.cut_window
    def timed(*task):
        global wall, cpu
        began, began_cpu = time.perf_counter(), time.process_time()
        cut(*task)
        wall += time.perf_counter() - began
        cpu += time.process_time() - began_cpu
    stages.cut_window = timed
    manifest = stages.build(load_options(None, {**json.loads(sys.argv[1]), "frac": Decimal("0.3")}), Silent()).manifest
    tokens = sum(phase.num_rows * (phase.seq_len + 1) for phase in manifest.plan.phases)
    shards = [shard.num_bytes for phase in manifest.phases for shard in phase.shards]
    item = 2 if manifest.dtype == "uint16" else 4
    print(json.dumps({"cut_seconds": wall, "cut_cpu_seconds": cpu, "whole_cpu_seconds": time.process_time(),
                      "token_bytes": tokens * item, "shard_bytes": sum(shards), "shards": len(shards)}))
"""
"""One build with one worker, which then cuts in its own process."""


def measure(folder: Path, corpus_mb: int, runs: int) -> dict[str, Any]:
    """Every run, and what it wrote."""
    from real_text import write_corpus

    from gpt2 import gpt2_tokenizer_json

    corpus = folder / "corpus"
    write_corpus(corpus, corpus_mb)
    (folder / "gpt2").mkdir(exist_ok=True)
    values = {
        "corpus": [str(corpus)],
        "tokenizer": str(gpt2_tokenizer_json(folder / "gpt2")),
        "out": str(folder / "recut"),
        "store": str(folder / "recut.store"),
        "batch_rows": 64,
        "workers": 1,
        "overwrite": True,
    }
    say("tokenize ...")
    once = recut({**values, "seed": 0})
    found, disk = [], []
    for number in range(1, runs + 1):  # in turns, so that a disturbance of the machine hits both
        say(f"run {number} of {runs} ...")
        found.append(recut({**values, "seed": number}))
        disk.append(once["shard_bytes"] / write_and_flush(folder / "plain", once["shard_bytes"]))
    wrote = {name: once[name] for name in ("token_bytes", "shard_bytes", "shards")}
    return {"wrote": wrote, "runs": found, "disk_bytes_per_second": disk}


def recut(values: dict[str, Any]) -> dict[str, Any]:
    """Build from the store, in a fresh process."""
    began = time.perf_counter()
    command = [sys.executable, "-c", RECUT, json.dumps(values)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    return {**json.loads(done.stdout), "whole_seconds": time.perf_counter() - began}


def write_and_flush(path: Path, num_bytes: int) -> float:
    """Seconds for one file in writes of 8 MiB, and one flush."""
    block = os.urandom(8 << 20)
    began = time.perf_counter()
    with open(path, "wb", buffering=0) as file:
        for start in range(0, num_bytes, len(block)):
            file.write(block[: num_bytes - start])
        os.fsync(file.fileno())
    seconds = time.perf_counter() - began
    path.unlink()
    return seconds


def table(found: dict[str, Any]) -> str:
    """The same for people."""
    wrote = found["wrote"]
    tokens, shards = (f"{wrote[name] / 1e6:.0f} MB" for name in ("token_bytes", "shard_bytes"))
    lines = [f"{tokens} of tokens, in {wrote['shards']} shards of {shards}"]
    rows = (
        ("windows, per second", "cut_seconds"),
        ("windows, per CPU second", "cut_cpu_seconds"),
        ("whole command, per second", "whole_seconds"),
        ("whole command, per CPU second", "whole_cpu_seconds"),
    )
    for label, name in rows:
        lines.append(rates(label, [wrote["token_bytes"] / run[name] for run in found["runs"]]))
    return "\n".join([*lines, rates("one plain file, written and flushed", found["disk_bytes_per_second"])])


def rates(label: str, values: list[float]) -> str:
    """MB/s of each run and the median."""
    each = " ".join(f"{value / 1e6:6.0f}" for value in values)
    return f"  {label:<38}{each}   median {median(values) / 1e6:.0f} MB/s"


def say(message: str) -> None:
    """Progress, on stderr."""
    print(message, file=sys.stderr, flush=True)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus-mb", type=int, default=562)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = measure(folder, given.corpus_mb, given.runs)
    print(json.dumps(found) if given.json else table(found))


if __name__ == "__main__":
    main()
