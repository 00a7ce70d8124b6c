"""Reading a dataset from a store, next to a bare client that throws the bytes away.

In:  nothing (a dataset of [64, 1024] is made), or an address that fsspec can read.   Out: MB/s and their ratio.
Guarantee: both read the same shards with the same file system, as many connections and ranges of the same size; round
after round one after the other, so that a disturbance of the machine hits both. The store is a process of its own on
this machine: a small HTTP server with sendfile, of which each connection is limited to so many MB/s and answers late.

    python benchmarks/remote_read.py --megabytes 512 --connection-mb-s 25 --latency-ms 20
    python benchmarks/remote_read.py --url s3://bucket/dataset --storage-options '{"key": "..."}'
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec.core

from curriculum.manifest import FILE_NAME, parse_manifest
from curriculum.reader import Reader
from curriculum.remote import RemoteStorage
from curriculum.remote.byte_ranges import RANGE_BYTES
from curriculum.remote.fetcher import CONNECTIONS
from pipeline.build import build
from pipeline.option_sources import load_options
from pipeline.progress import Silent

ROWS_PER_STEP, SEQ_LEN = 64, 1024
CHUNK_BYTES = 1 << 20


def main() -> None:
    """Measure and print."""
    options = arguments()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        url, storage_options, server = options.url, json.loads(options.storage_options), None
        if url is None:
            make_dataset(root / "dataset", options.megabytes)
            url, server = start_server(root / "dataset", options.connection_mb_s, options.latency_ms)
        try:
            result = compare(url, storage_options, root / "cache", options.rounds)
        finally:
            if server is not None:
                server.kill()
                server.join()
    result["store"] = options.url or f"local, {options.connection_mb_s} MB/s a connection, {options.latency_ms} ms"
    if options.json:
        print(json.dumps(result, indent=1))
        return
    print(f"{result['store']}: {result['bytes'] / 1e6:,.0f} MB, {CONNECTIONS} connections")
    for name, rates in result["mb_s"].items():
        print(f"{name:34} {statistics.median(rates):8.0f} MB/s   {result['of_bare'][name]:6.1%}   {rates}")
    print(f"time to the first batch: {result['first_batch_seconds']} s")


def compare(url: str, storage_options: dict[str, Any], cache: Path, rounds: int) -> dict[str, Any]:
    """MB/s of every variant in every round; opening, 0.1 to 0.5 s for any client, is not part of it."""
    first_batch: dict[str, list[float]] = {}

    def reader(verify: Any) -> Callable[[], int]:
        storage = RemoteStorage(url, cache_dir=cache, verify=verify, storage_options=storage_options)

        def read() -> int:
            began, seconds = time.perf_counter(), []
            for _ in Reader(storage).steps():
                seconds = seconds or [time.perf_counter() - began]
            first_batch.setdefault(verify, []).append(round(seconds[0], 3))
            return storage.bytes_fetched

        return read

    variants: dict[str, Callable[[], Callable[[], int]]] = {
        "bare client": lambda: bare(url, storage_options),
        "reader, sha256 of each shard": lambda: reader("auto"),
        "reader, ranges": lambda: reader("ranges"),
    }
    rates: dict[str, list[int]] = {name: [] for name in variants}
    size = 0
    for _ in range(rounds):
        for name, opened in variants.items():
            read = opened()
            began = time.perf_counter()
            size = read()
            rates[name].append(round(size / (time.perf_counter() - began) / 1e6))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "bytes": size,
        "mb_s": rates,
        "of_bare": {name: round(median / medians["bare client"], 3) for name, median in medians.items()},
        "first_batch_seconds": first_batch,
    }


def bare(url: str, storage_options: dict[str, Any]) -> Callable[[], int]:
    """The shards in order, in ranges, with as many connections; what arrives is dropped."""
    file_system, root = fsspec.core.url_to_fs(url, skip_instance_cache=True, **storage_options)
    manifest = parse_manifest(file_system.cat_file(f"{root}/{FILE_NAME}"), url)
    ranges = [
        (f"{root}/{shard.path}", start, min(start + RANGE_BYTES, shard.num_bytes))
        for phase in manifest.phases
        for shard in phase.shards
        for start in range(0, shard.num_bytes, RANGE_BYTES)
    ]

    def read() -> int:
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            return sum(pool.map(lambda one: len(file_system.cat_file(one[0], start=one[1], end=one[2])), ranges))

    return read


def make_dataset(root: Path, megabytes: int) -> None:
    """One phase of [64, 1024]: the standard library's sources as bytes, as often as it takes, in shards of 64 MiB."""
    steps = max(1, megabytes * 1_000_000 // (ROWS_PER_STEP * (SEQ_LEN + 1) * 2))
    values: dict[str, Any] = {
        "tokenizer": "bytes",
        "start_length": SEQ_LEN,
        "max_length": SEQ_LEN,
        "batch_rows": ROWS_PER_STEP,
        "steps": steps,
        "epochs": 1 + steps * ROWS_PER_STEP * SEQ_LEN // 25_000_000,
        "shard_bytes": 64 << 20,
        "workers": 1,
        "out": str(root),
    }
    build(load_options(None, values), Silent())


def start_server(root: Path, connection_mb_s: float, latency_ms: float) -> tuple[str, Any]:
    """A store in a process of its own: its address, and the process."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=serve, args=(listener, root, connection_mb_s * 1e6, latency_ms / 1e3), daemon=True)
    process.start()
    listener.close()
    return f"http://127.0.0.1:{port}", process


def serve(listener: socket.socket, root: Path, bytes_per_second: float, latency_seconds: float) -> None:
    """Answer GET and HEAD for ever."""
    while True:
        connection, _ = listener.accept()
        of_connection = (connection, root, bytes_per_second, latency_seconds)
        threading.Thread(target=answer, args=of_connection, daemon=True).start()


def answer(connection: socket.socket, root: Path, bytes_per_second: float, latency_seconds: float) -> None:
    """The requests of one connection."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    requests = connection.makefile("rb")
    while request := requests.readline().decode().split():
        headers = {}
        while (line := requests.readline().decode().strip()) != "":
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        time.sleep(latency_seconds)
        path = root / request[1].lstrip("/")
        if not path.is_file():
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            continue
        size = path.stat().st_size
        first, _, last = headers.get("range", f"bytes=0-{size - 1}").removeprefix("bytes=").partition("-")
        start, stop = int(first), min(int(last) + 1, size)
        partial = f"206 Partial Content\r\nContent-Range: bytes {start}-{stop - 1}/{size}"
        status = partial if "range" in headers else "200 OK"
        connection.sendall(f'HTTP/1.1 {status}\r\nContent-Length: {stop - start}\r\nETag: "{size}"\r\n\r\n'.encode())
        if request[0] == "GET":
            send(connection, path, start, stop, bytes_per_second)


def send(connection: socket.socket, path: Path, start: int, stop: int, bytes_per_second: float) -> None:
    """The bytes of a file, at most so fast."""
    began, position = time.perf_counter(), start
    with path.open("rb") as file:
        while position < stop:
            position += os.sendfile(connection.fileno(), file.fileno(), position, min(CHUNK_BYTES, stop - position))
            ahead = (position - start) / bytes_per_second - (time.perf_counter() - began)
            if ahead > 0:
                time.sleep(ahead)


def arguments() -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="address of a dataset; default: one is made and served on this machine")
    parser.add_argument("--storage-options", default="{}", help="JSON for the file system")
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--connection-mb-s", type=float, default=25.0, help="limit of each connection")
    parser.add_argument("--latency-ms", type=float, default=20.0, help="before each answer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
