"""How fast a build is, next to the bare tokenizer backend on the same documents.

In:  a folder of .jsonl files, a tokenizer.json, a number of workers.   Out: rates, stages and peak memory as numbers.
Guarantee: every run is in fresh processes, and both sides may use the same number of CPUs. The bare backend gets the
texts parsed and in memory, its start is not counted and its ids are thrown away: it does nothing but encode. The build
is the whole command, interpreter start and imports included.
"""

from __future__ import annotations

import cProfile
import json
import os
import pstats
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BARE = """if True:
    import sys, time
    root, corpus, tokenizer, calls, share, shares = sys.argv[1:]
    sys.path.insert(0, root)
    import orjson
    from pathlib import Path
    from fastokens import Tokenizer
    from pipeline.backends import neutral_json
    from pipeline.encode import BATCH_CHARS

    backend = Tokenizer.from_json_str(neutral_json(tokenizer))
    lines = [line for path in sorted(Path(corpus).glob("*.jsonl")) for line in path.open("rb")]
    texts = [orjson.loads(line)["text"] for line in lines[int(share) :: int(shares)]]
    del lines
    groups, group, size = [], [], 0
    for text in texts:
        group.append(text)
        size += len(text)
        if size >= (BATCH_CHARS if calls == "batches" else sys.maxsize):
            groups.append(group)
            group, size = [], 0
    groups.append(group)
    print("ready", flush=True)
    sys.stdin.readline()
    began, began_cpu, tokens = time.perf_counter(), time.process_time(), 0
    for group in groups:
        tokens += len(backend.encode_batch_flat(group, split_special_tokens=True)[0]) // 4
    print(time.perf_counter() - began, time.process_time() - began_cpu, tokens)
"""
"""One process of the bare backend: loads its share of the documents, waits for the start, encodes them once."""

STAGES: dict[str, tuple[tuple[str, int], ...]] = {
    "load the tokenizer, check the backend": (("choose_backend", 1), ("corpus_tokenizer", 1)),
    "read and parse records": (("_encode", 1), ("_encode_batch", -1), ("_note", -1)),
    "document keys and hashes": (("_note", 1),),
    "encode": (("_encode_batch", 1),),
    "sort, write and hash the token store": (("write_part", 1),),
    "cut: read the stream": (("read_interval", 1),),
    "cut: deal rows": (("deal_rows", 1),),
    "cut: gather rows": (("cut_rows", 1),),
    "cut: hash and write shards": (("write_shard", 1),),
}
"""Disjoint parts of a build: sums and differences of the time inside functions of `pipeline`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """One way to call the bare backend."""

    processes: int
    """they share the documents and start together; the last one's end counts"""
    threads: int
    """of each process, which may use `processes * threads` CPUs"""
    calls: str
    """"batches" of 4 Mi characters, as the build calls it, or "one" call for everything"""

    @property
    def cpus(self) -> int:
        """CPUs that may be used."""
        return self.processes * self.threads

    def __str__(self) -> str:
        calls = "batches of 4 Mi characters" if self.calls == "batches" else "one call"
        return f"{self.processes} processes x {self.threads} threads, {calls}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One run."""

    seconds: float
    cpu_seconds: float
    """user and system, all processes"""
    tokens: int = 0
    peak_bytes: int = 0
    stage_seconds: dict[str, float] = field(default_factory=dict)


def run_bare(root: Path, corpus: Path, tokenizer: Path, way: Way) -> Sample:
    """`fastokens.encode_batch_flat` over all documents, once, in fresh processes, as a build encodes them once."""
    arguments = [str(root), str(corpus), str(tokenizer), way.calls]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", BARE, *arguments, str(share), str(way.processes)],
            env={**os.environ, "FASTOKENS_BPE_THREADS": str(way.threads)},  # it does not look at RAYON_NUM_THREADS
            preexec_fn=on_cpus(way.cpus),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for share in range(way.processes)
    ]
    for process in running:
        if not process.stdout or process.stdout.readline() != "ready\n":
            raise SystemExit("The bare backend did not start.")
    for process in running:
        if process.stdin:
            process.stdin.write("\n")
            process.stdin.flush()
    ended = [[float(word) for word in process.communicate()[0].split()] for process in running]
    seconds, cpu_seconds, tokens = zip(*ended, strict=True)
    return Sample(seconds=max(seconds), cpu_seconds=sum(cpu_seconds), tokens=int(sum(tokens)))


def run_build(root: Path, arguments: list[str], out: Path, workers: int) -> Sample:
    """The command `curriculum build` from its start to its exit, from nothing, on as many CPUs as workers."""
    clear(out)
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", "build", *arguments]
    command += ["--out", str(out), "--workers", str(workers)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=on_cpus(workers)
    )
    with PeakMemory(process.pid) as memory:
        _, errors = process.communicate()
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise SystemExit(errors.decode())
    return Sample(
        seconds=seconds,
        cpu_seconds=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        peak_bytes=memory.peak_bytes,
        stage_seconds=json.loads((out / "build-log.json").read_bytes())["seconds"],
    )


def summarize(samples: list[Sample], text_bytes: int) -> dict[str, Any]:
    """MB of text per second of each run and the median; CPU seconds, stages and the highest peak."""
    middle = statistics.median(each.seconds for each in samples)
    return {
        "mb_per_second": [round(text_bytes / each.seconds / 1e6, 1) for each in samples],
        "median_mb_per_second": round(text_bytes / middle / 1e6, 1),
        "median_cpu_seconds": round(statistics.median(each.cpu_seconds for each in samples), 2),
        "peak_memory_mb": round(max(each.peak_bytes for each in samples) / 1e6),
        "stage_seconds": {
            name: round(statistics.median(each.stage_seconds[name] for each in samples), 2)
            for name in samples[0].stage_seconds
        },
    }


def profile_build(values: dict[str, Any], out: Path) -> dict[str, float]:
    """Seconds of one build per stage, in this process with one worker, under the profiler."""
    from pipeline.build import build
    from pipeline.option_sources import load_options
    from pipeline.progress import Silent

    clear(out)
    profiler = cProfile.Profile()
    profiler.runcall(build, load_options(None, {**values, "out": str(out), "workers": 1}), Silent())
    table = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    inside = {name: total for (file, _, name), (_, _, _, total, _) in table.items() if "pipeline" in Path(file).parts}
    missing = {name for parts in STAGES.values() for name, _ in parts} - inside.keys()
    if missing:
        raise SystemExit(f"The pipeline has no function {', '.join(sorted(missing))}: bring STAGES up to date.")
    stages = {stage: sum(sign * inside[name] for name, sign in parts) for stage, parts in STAGES.items()}
    stages["everything else"] = inside["build"] - sum(stages.values())
    stages["of all this: fsync"] = sum(total for (_, _, name), (_, _, total, _, _) in table.items() if "fsync" in name)
    return {stage: round(seconds, 2) for stage, seconds in stages.items()}


def on_cpus(count: int) -> Callable[[], None]:
    """Keeps a child process, and what it starts, on that many CPUs."""
    cpus = sorted(os.sched_getaffinity(0))[:count]
    return lambda: os.sched_setaffinity(0, cpus)


def clear(out: Path) -> None:
    """Remove a dataset and the token store beside it."""
    for folder in (out, out.with_name(f"{out.name}.store")):
        shutil.rmtree(folder, ignore_errors=True)


class PeakMemory:
    """The largest memory that a process and its descendants held together, sampled up to 20 times a second.

    Proportional set size: a page that several of them share counts once. Linux only; 0 elsewhere. Looking
    takes 40 ms per GB of small pages, so it is done for at most a twentieth of the time.
    """

    def __init__(self, pid: int) -> None:
        self.peak_bytes = 0
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        took = 0.0
        while not self._stop.wait(max(0.05, 20 * took)):
            began = time.perf_counter()
            self.peak_bytes = max(self.peak_bytes, sum(map(_held_bytes, _tree(self._pid))))
            took = time.perf_counter() - began


def _tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for each in found:
        try:
            for path in Path(f"/proc/{each}/task").glob("*/children"):
                found += map(int, path.read_text().split())
        except OSError:
            continue  # it has ended
    return found


def _held_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
