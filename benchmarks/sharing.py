"""push and pull, next to the plain copy that each replaces.

In:  nothing (a dataset of [64, 1024] in shards of 64 MiB is made), or a dataset.   Out: MB/s of each way, and ratios.
Guarantee: the two ways of a pair move the same files, one right after the other, round after round, so that a
disturbance of the machine hits both; rates are medians, of plain bytes per second of the wall. `cp` is followed by a
sync of its files, since push and pull return when what they wrote is on the disk; `put` and `get` are s3fs alone, as
many files at once. push hashes what it sends and pull what it has fetched; the plain copies hash nothing.

    python benchmarks/sharing.py --megabytes 512 --rounds 5             folders
    python benchmarks/sharing.py --megabytes 512 --rounds 3 --s3        and OpenStack Swift on this machine
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "benchmarks")]

from remote_read import make_dataset  # noqa: E402

from curriculum.manifest import load_manifest  # noqa: E402
from pipeline.files.storage_options import storage_options  # noqa: E402
from pipeline.progress import Silent  # noqa: E402
from pipeline.sharing.contents import shards_of  # noqa: E402
from pipeline.sharing.folder_place import FolderPlace  # noqa: E402
from pipeline.sharing.place import AT_ONCE, Place  # noqa: E402
from pipeline.sharing.pull import Wish, pull  # noqa: E402
from pipeline.sharing.push import Offering, push  # noqa: E402

Pair = tuple[Callable[[], object], Callable[[], object]]
"""A way of ours, and the plain one."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, help="a finished dataset")
    parser.add_argument("--megabytes", type=int, default=512, help="of the dataset that is made")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--s3", action="store_true", help="start Swift, and use it too")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: a temporary one")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        measured = measure(Path(folder), options.dataset, options.megabytes, options.rounds, with_s3=options.s3)
    print(json.dumps(measured, indent=1) if options.json else table(measured))


def measure(folder: Path, dataset: Path | None, megabytes: int, rounds: int, *, with_s3: bool) -> dict[str, Any]:
    """Rates of every pair, in MB/s."""
    if dataset is None:
        dataset = folder / "dataset"
        make_dataset(dataset, megabytes)
    size = sum(shard.num_bytes for shard in shards_of(load_manifest(dataset))) / 1e6
    measured = {"shards_mb": size, "rounds": rounds, "pairs": compare(folder_pairs(dataset, folder), size, rounds)}
    if with_s3:
        from remote.swift_server import SwiftServer

        server = SwiftServer(folder / "swift")
        try:
            measured["pairs"] |= compare(s3_pairs(dataset, folder, server.options), size, rounds)
        finally:
            server.kill()
    return measured


def compare(pairs: dict[str, Pair], size: float, rounds: int) -> dict[str, dict[str, float]]:
    """Medians of every pair."""
    rates = {}
    for name, pair in pairs.items():
        seconds: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds):
            for way, taken in zip(pair, seconds, strict=True):
                began = time.perf_counter()
                way()
                taken.append(time.perf_counter() - began)
        ours, plain = (size / statistics.median(taken) for taken in seconds)
        rates[name] = {"mb_per_s": ours, "plain_mb_per_s": plain, "ratio": ours / plain}
    return rates


def folder_pairs(dataset: Path, folder: Path) -> dict[str, Pair]:
    """From folder to folder; with nothing to do, next to reading everything and its digests."""
    there, back, copied = folder / "there", folder / "back", folder / "copied"

    def copy() -> None:
        shutil.rmtree(copied, ignore_errors=True)
        subprocess.run(["cp", "-r", str(dataset), str(copied)], check=True)
        subprocess.run(["sync", *(str(path) for path in copied.rglob("*.arrow"))], check=True)

    return {
        "push to a folder, cp": (lambda: _push(dataset, _anew(there)), copy),
        "pull from a folder, cp": (lambda: _pull(FolderPlace(dataset), back, anew=True), copy),
        "pull with nothing to do, sha256sum": (
            lambda: _pull(FolderPlace(dataset), back, anew=False),
            lambda: subprocess.run(
                ["sha256sum", *(str(path) for path in sorted(dataset.rglob("*.arrow")))],
                check=True,
                stdout=subprocess.DEVNULL,
            ),
        ),
    }


def s3_pairs(dataset: Path, folder: Path, options: dict[str, Any]) -> dict[str, Pair]:
    """To and from a bucket."""
    import s3fs

    from pipeline.sharing.store_place import StorePlace

    client = s3fs.S3FileSystem(**options, skip_instance_cache=True)
    client.mkdir("benchmark")
    place = StorePlace("s3://benchmark/ds", storage_options(options))
    back, got = folder / "back-s3", folder / "got-s3"

    def send() -> None:
        if client.exists("benchmark/ds"):
            client.rm("benchmark/ds", recursive=True)
        push(dataset, place, Offering(), Silent())

    def put() -> None:
        if client.exists("benchmark/plain"):
            client.rm("benchmark/plain", recursive=True)
        client.put(str(dataset), "benchmark/plain", recursive=True, batch_size=AT_ONCE)

    def get() -> None:
        shutil.rmtree(got, ignore_errors=True)
        client.get("benchmark/plain", str(got), recursive=True, batch_size=AT_ONCE)
        os.sync()

    return {
        "push to S3, put": (send, put),
        "pull from S3, get": (lambda: _pull(place, back, anew=True), get),
    }


def _anew(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _push(dataset: Path, there: Path) -> None:
    push(dataset, FolderPlace(there), Offering(), Silent())


def _pull(place: Place, back: Path, *, anew: bool) -> None:
    if anew:
        shutil.rmtree(back, ignore_errors=True)
    pull(place, back, Wish(), Silent())


def table(measured: dict[str, Any]) -> str:
    """For people."""
    lines = [f"{measured['shards_mb']:.0f} MB of shards, medians of {measured['rounds']} rounds, MB/s"]
    lines.append(f"{'':<38}{'ours':>8}{'plain':>8}{'ratio':>8}")
    for name, each in measured["pairs"].items():
        lines.append(f"{name:<38}{each['mb_per_s']:>8.0f}{each['plain_mb_per_s']:>8.0f}{each['ratio']:>8.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
