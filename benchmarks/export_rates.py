"""What an export costs, next to a copy of the same shards, on this machine in one run.

    python benchmarks/export_rates.py [--corpus-mb 400] [--runs 3] [--workers 1] [--folder DIR] [--json]

In:  nothing but this machine; corpus and tokenizer as in main_job.py.   Out: a table, or with --json one object.
Guarantee: all formats read the same dataset, warm, and write to the same disk, fsync included, as the copy does; in
turns. Rates are bytes of tokens (2 for each id) per second; sizes are bytes written, per byte of tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

MODES: dict[str, dict[str, Any]] = {"segment": {}, "best-fit": {"mode": "best-fit"}}
FORMATS = {"segment": ("parquet", "mds", "megatron", "npy"), "best-fit": ("parquet", "mds", "npy")}


def measure(folder: Path, corpus_mb: int, runs: int, workers: int) -> dict[str, Any]:
    """Seconds of every run, and bytes, of the copy and of each format; by mode."""
    from pipeline.export import Export, export_dataset
    from pipeline.progress import Silent

    found: dict[str, Any] = {}
    for mode, options in MODES.items():
        dataset, out = make_dataset(folder, corpus_mb, mode, options), folder / "out"
        token_bytes = bytes_of_tokens(dataset)

        def export(to: str, dataset: Path = dataset, out: Path = out) -> int:
            report = export_dataset(str(dataset), str(out), Export(to=to), workers=workers, progress=Silent())
            return report.num_bytes or 0

        works: dict[str, Callable[[], int]] = {"copy": lambda dataset=dataset, out=out: copy(dataset, out)}  # type: ignore[misc]
        works |= {to: lambda to=to, export=export: export(to) for to in FORMATS[mode]}  # type: ignore[misc]
        seconds: dict[str, list[float]] = {name: [] for name in works}
        sizes = {}
        for _ in range(runs):
            for name, work in works.items():
                say(f"{mode}: {name} ...")
                shutil.rmtree(out, ignore_errors=True)
                os.sync()
                began = time.perf_counter()
                sizes[name] = work()
                seconds[name].append(round(time.perf_counter() - began, 3))
        shutil.rmtree(out, ignore_errors=True)
        found[mode] = {
            "token_bytes": token_bytes,
            "seconds": seconds,
            "mb_s": {name: round(token_bytes / median(each) / 1e6) for name, each in seconds.items()},
            "bytes_per_token_byte": {name: round(size / token_bytes, 3) for name, size in sizes.items()},
        }
    return found


def make_dataset(folder: Path, corpus_mb: int, mode: str, options: dict[str, Any]) -> Path:
    """GPT-2 ids of real text, a linear warmup to 1,024 in 8 shapes."""
    from real_text import write_corpus

    from gpt2 import gpt2_tokenizer_json
    from pipeline.build import build
    from pipeline.option_sources import load_options
    from pipeline.progress import Silent

    write_corpus(folder / "corpus", corpus_mb)
    (folder / "gpt2").mkdir(exist_ok=True)
    values = {
        "corpus": (str(folder / "corpus"),),
        "tokenizer": str(gpt2_tokenizer_json(folder / "gpt2")),
        "batch_rows": 64,
        "max_shapes": 8,
        "store": str(folder / "store"),
        "out": str(folder / mode),
        **options,
    }
    build(load_options(None, values), Silent())
    return folder / mode


def bytes_of_tokens(dataset: Path) -> int:
    """Of all rows, held-out ones too."""
    from curriculum.manifest import load_manifest

    manifest = load_manifest(dataset)
    return sum(entry.num_rows * (entry.seq_len + 1) for entry in manifest.entries) * manifest.itemsize


def copy(dataset: Path, out: Path) -> int:
    """Every shard, flushed to the disk; the kernel copies."""
    size = 0
    for path in sorted(dataset.rglob("*.arrow")):
        target = out / path.relative_to(dataset)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        with target.open("rb") as file:
            os.fsync(file.fileno())
        size += target.stat().st_size
    return size


def table(measured: dict[str, Any]) -> str:
    """The same for people."""
    lines = [f"{'mode':<10}{'format':<10}{'MB/s':>8}{'of copy':>9}{'size':>8}   seconds"]
    for mode, each in measured.items():
        for name, rate in each["mb_s"].items():
            share, size = rate / each["mb_s"]["copy"], each["bytes_per_token_byte"][name]
            lines.append(f"{mode:<10}{name:<10}{rate:>8}{share:>9.2f}{size:>8.3f}   {each['seconds'][name]}")
    return "\n".join(lines)


def say(message: str) -> None:
    """On stderr."""
    print(message, file=sys.stderr, flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus-mb", type=int, default=400)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=None, help="keep corpus and store here")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        measured = measure(folder, options.corpus_mb, options.runs, options.workers)
    print(json.dumps(measured) if options.json else table(measured))


if __name__ == "__main__":
    main()
