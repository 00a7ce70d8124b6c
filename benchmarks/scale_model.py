"""What a build of very many tokens on very many machines needs: arithmetic, and the planning code itself.

In:  a corpus, a cluster and measured rates, all of them below.   Out: the tables of docs/scale.md.
Guarantee: units, windows, shards and merge rounds are laid out by the functions that a build calls, at their real
number; rates are of `scale_rates.py` and of the machines. No data is read or written.

    python benchmarks/scale_model.py               10 T tokens on 256 machines
    python benchmarks/scale_model.py --layout      how long planning takes here, in CPU seconds
"""

from __future__ import annotations

import argparse
import heapq
import math
import sys
import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from pipeline.merge_layout import OUTPUT_BYTES, StoredPart, lay_out_merge, part_bytes
from pipeline.option_sources import load_options
from pipeline.requested_plan import compile_requested
from pipeline.stream import PARTITION_TOKENS, count_partitions
from pipeline.windows import lay_out_shards, split_windows, window_size

INDEX_ROW_BYTES = 7 * 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """What is built."""

    tokens: int = 10**13
    bytes_per_token: float = 4.0
    """English web text by a vocabulary of 128 k"""
    tokens_per_document: int = 1_000
    itemsize: int = 4
    """a vocabulary above 65,536"""
    unit_bytes: int = 256 << 20
    """--unit-bytes"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """Who builds it, and what the storage gives to all of them together."""

    machines: int = 256
    cores: int = 16
    memory_gb: float = 64
    machine_gb_per_second: float = 25 / 8
    """network, each way"""
    storage_gb_per_second: float = 200
    """reads and writes together"""
    slice_seconds: float = 0.03
    """a small read from an object store; a worker waits for one after the other, an index and ids of each slice"""
    failures_per_machine_day: float = 0.02
    straggler_sigma: float = 0.25
    """standard deviation of the logarithm of a task's time"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """MB per second of one core, of text or ids; measured by scale_rates.py."""

    encode: float = 78.4
    merge: float = 299.9
    cut: float = 146.0
    index_documents: float = 10e6
    """documents per second whose index one process counts"""
    dispatches: float = 1_000
    """tasks per second that the process that leads the build hands out: a cluster engine; spawned workers 10,000"""
    driver_bytes_per_part: int = 700
    driver_bytes_per_window: int = 1_500
    driver_bytes_per_shard: int = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """How many of everything."""

    parts: int
    partitions: int
    windows: int
    shards: int
    merge_rounds: int
    merge_tasks: int
    merge_reads: int
    """slices that all merge tasks read"""
    merge_index_tb: float
    """what they read of indexes: a store gives out whole files of those, a mapped one only the pages in question"""
    files_per_partition: int
    """after merging"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """What one stage asks of the cluster."""

    name: str
    tasks: int
    cpu_hours: float
    """of one core"""
    read_tb: float
    written_tb: float
    requests: float
    waiting_hours: float = 0.0
    """of one worker, for small reads"""

    def hours(self, cluster: Cluster) -> dict[str, float]:
        """Hours by each limit; the largest is what the stage takes."""
        workers = cluster.machines * cluster.cores
        return {
            "cores": (self.cpu_hours + self.waiting_hours) / workers,
            "network": max(self.read_tb, self.written_tb)
            * 1e3
            / cluster.machine_gb_per_second
            / cluster.machines
            / 3600,
            "storage": (self.read_tb + self.written_tb) * 1e3 / cluster.storage_gb_per_second / 3600,
        }


@cache
def count(corpus: Corpus) -> Counts:
    """Lay the build out by the code of a build."""
    text_bytes = int(corpus.tokens * corpus.bytes_per_token)
    num_parts = max(1, -(-text_bytes // corpus.unit_bytes))
    partitions = count_partitions(corpus.tokens)
    per_part = corpus.tokens // num_parts
    num_bytes = part_bytes(per_part, per_part // corpus.tokens_per_document, corpus.itemsize)
    parts = [StoredPart(name=f"{i:032x}", digest="", num_bytes=num_bytes) for i in range(num_parts)]
    merge = lay_out_merge(parts, partitions)
    rounds = () if merge is None else merge.rounds
    values = {"tokenizer": "bytes", "batch_tokens": 1 << 22, "start_length": 512, "max_length": 8192}
    options = load_options(None, {**values, "multiple_of": 512, "max_shapes": 5, "frac": "0.1"})
    plan = compile_requested(options, corpus.tokens)
    windows = split_windows(plan, window_size(plan, None))
    shards = lay_out_shards(plan, windows, shard_bytes=options.shard_bytes, itemsize=corpus.itemsize)
    lowest = None if merge is None else min(merge.merged.ranges)
    reads = [sum(len(task.sources) for task in tasks) for tasks in rounds]
    sources = [num_parts, *(len(tasks) for tasks in rounds)]
    index_bytes = corpus.tokens / corpus.tokens_per_document * INDEX_ROW_BYTES
    return Counts(
        parts=num_parts,
        partitions=partitions,
        windows=len(windows),
        shards=sum(map(len, shards)),
        merge_rounds=len(rounds),
        merge_tasks=sum(map(len, rounds)),
        merge_reads=sum(reads),
        merge_index_tb=sum(num / files * index_bytes for num, files in zip(reads, sources, strict=False)) / 1e12,
        files_per_partition=num_parts if merge is None else sum(keys == lowest for keys in merge.merged.ranges),
    )


def stages(corpus: Corpus, cluster: Cluster, rates: Rates) -> list[Stage]:
    """The stages in order."""
    counts = count(corpus)
    text_tb, ids_tb = corpus.tokens * corpus.bytes_per_token / 1e12, corpus.tokens * corpus.itemsize / 1e12
    documents = corpus.tokens / corpus.tokens_per_document
    index_tb = documents * INDEX_ROW_BYTES / 1e12
    # Neighbouring windows share a partition: each is read as often as windows touch it.
    tokens_per_window = corpus.tokens / counts.windows
    reads = counts.partitions * (1 + PARTITION_TOKENS / tokens_per_window)
    slices = reads * counts.files_per_partition
    of_index = index_tb * 1e12 / (counts.parts if not counts.merge_rounds else ids_tb * 1e12 / OUTPUT_BYTES)
    return [
        Stage(
            name="encode",
            tasks=counts.parts,
            cpu_hours=text_tb * 1e6 / rates.encode / 3600,
            read_tb=text_tb,
            written_tb=ids_tb + index_tb,
            requests=text_tb * 1e12 / (8 << 20) + counts.parts * (2 + ids_tb * 1e12 / counts.parts / (16 << 20)),
        ),
        Stage(
            name="merge",
            tasks=counts.merge_tasks,
            cpu_hours=counts.merge_rounds * ids_tb * 1e6 / rates.merge / 3600,
            read_tb=counts.merge_rounds * ids_tb + counts.merge_index_tb,
            written_tb=counts.merge_rounds * (ids_tb + index_tb),
            requests=2 * counts.merge_reads + 18 * counts.merge_tasks,
            waiting_hours=2 * counts.merge_reads * cluster.slice_seconds / 3600,
        ),
        Stage(
            name="cut",
            tasks=counts.windows,
            cpu_hours=ids_tb * 1e6 / rates.cut / 3600,
            read_tb=ids_tb * reads / counts.partitions + slices * of_index / 1e12,
            written_tb=ids_tb,
            requests=2 * slices + 18 * counts.shards,
            waiting_hours=2 * slices * cluster.slice_seconds / 3600,
        ),
    ]


def leader(corpus: Corpus, rates: Rates) -> dict[str, float]:
    """What the one process that leads the build needs."""
    counts = count(corpus)
    documents = corpus.tokens / corpus.tokens_per_document
    num_tasks = counts.parts + counts.merge_tasks + counts.windows
    return {
        "memory, GB": (
            counts.parts * rates.driver_bytes_per_part
            + counts.windows * rates.driver_bytes_per_window
            + counts.shards * rates.driver_bytes_per_shard
            + counts.partitions * 250
        )
        / 1e9,
        "counting partitions, hours": documents / rates.index_documents / 3600,
        "reading indexes, hours": documents * INDEX_ROW_BYTES / 1e9 / Cluster().machine_gb_per_second / 3600,
        "tasks and their results, hours": num_tasks / rates.dispatches / 3600,
    }


def simulate(stage: Stage, cluster: Cluster, seed: int = 0) -> float:
    """Hours of a stage whose tasks differ and whose machines die: the last task counts.

    A task is given to the worker that is free first; one whose machine dies during it begins anew on another.
    """
    if not stage.tasks:
        return 0.0
    workers = cluster.machines * cluster.cores
    ideal = max(stage.hours(cluster).values())
    mean = ideal * workers / stage.tasks
    random = np.random.Generator(np.random.Philox(seed))
    factors = random.lognormal(-(cluster.straggler_sigma**2) / 2, cluster.straggler_sigma, stage.tasks)
    lost = random.random(stage.tasks) < 1 - math.exp(-mean * cluster.failures_per_machine_day / 24)
    times = mean * np.where(lost, 1 + random.random(stage.tasks), 1) * factors
    free = [0.0] * workers
    for duration in times.tolist():
        heapq.heapreplace(free, free[0] + duration)
    return max(free)


def table(rows: list[list[str]]) -> str:
    """A table of Markdown."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def counts_table(corpora: dict[str, Corpus]) -> str:
    """How many of everything, for several corpora."""
    counts = {name: count(corpus) for name, corpus in corpora.items()}
    rows = [["", *counts]]
    for label, field in (
        ("units, parts of the store", "parts"),
        ("partitions", "partitions"),
        ("merge rounds", "merge_rounds"),
        ("merge tasks", "merge_tasks"),
        ("files per partition after merging", "files_per_partition"),
        ("windows", "windows"),
        ("shards", "shards"),
    ):
        rows.append([label, *(f"{getattr(each, field):,}" for each in counts.values())])
    slices = [min(PARTITION_TOKENS, c.tokens) * c.itemsize / count(c).parts for c in corpora.values()]
    rows.append(["slice without merging", *(f"{each / 1e3:,.1f} kB" for each in slices)])
    merged = [min(PARTITION_TOKENS, c.tokens) * c.itemsize / count(c).files_per_partition for c in corpora.values()]
    rows.append(["slice as read", *(f"{each / 1e3:,.1f} kB" for each in merged)])
    index = [c.tokens / c.tokens_per_document * INDEX_ROW_BYTES for c in corpora.values()]
    rows.append(["index, all parts", *(f"{each / 1e9:,.1f} GB" for each in index)])
    return table(rows)


def stages_table(corpus: Corpus, cluster: Cluster, rates: Rates) -> str:
    """What each stage takes, and why."""
    rows = [["stage", "tasks", "read", "written", "requests", "cores", "network", "storage", "simulated"]]
    total = 0.0
    for stage in stages(corpus, cluster, rates):
        simulated = simulate(stage, cluster)
        total += simulated
        rows.append(
            [
                stage.name,
                f"{stage.tasks:,}",
                f"{stage.read_tb:,.1f} TB",
                f"{stage.written_tb:,.1f} TB",
                f"{stage.requests / 1e6:,.1f} M",
                *(f"{hours:.2f} h" for hours in stage.hours(cluster).values()),
                f"{simulated:.2f} h",
            ]
        )
    rows.append(["all", "", "", "", "", "", "", "", f"{total:.2f} h"])
    return table(rows)


def machines_table(corpus: Corpus, rates: Rates) -> str:
    """Hours of the cluster and of the process that leads, for more machines with as much more storage."""
    rows = [["machines", "stages on the cluster", "the process that leads", "its share"]]
    alone = sum(hours for name, hours in leader(corpus, rates).items() if name.endswith("hours"))
    for machines in (64, 256, 1024, 4096):
        cluster = replace(
            Cluster(), machines=machines, storage_gb_per_second=Cluster().storage_gb_per_second * machines / 256
        )
        hours = sum(simulate(stage, cluster) for stage in stages(corpus, cluster, rates))
        share = alone / (alone + hours)
        rows.append([f"{machines:,}", f"{hours:.2f} h", f"{alone:.2f} h", f"{100 * share:.0f} %"])
    return table(rows)


def leader_table(corpora: dict[str, Corpus], rates: Rates) -> str:
    """The process that leads the build."""
    needs = {name: leader(corpus, rates) for name, corpus in corpora.items()}
    rows = [["the process that leads", *needs]]
    for label in next(iter(needs.values())):
        rows.append([label, *(f"{need[label]:.2f}" for need in needs.values())])
    return table(rows)


CORPORA = {
    "100 G tokens": Corpus(tokens=10**11),
    "1 T tokens": Corpus(tokens=10**12),
    "10 T tokens": Corpus(),
}


def page() -> list[str]:
    """The tables of docs/scale.md, in order."""
    return [
        counts_table(CORPORA),
        stages_table(Corpus(), Cluster(), Rates()),
        leader_table(CORPORA, Rates()),
        machines_table(Corpus(), Rates()),
    ]


def main() -> None:
    """Print the tables, or time the planning."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--layout", action="store_true")
    if options.parse_args().layout:
        for name, corpus in {**CORPORA, "10 T tokens, units of 32 MiB": replace(Corpus(), unit_bytes=32 << 20)}.items():
            began = time.process_time()
            count(corpus)
            print(f"{name}: {time.process_time() - began:.1f} s of CPU")
        return
    print("\n\n".join(page()))


if __name__ == "__main__":
    main()
