"""What the disk and the memory of this machine can do, in MB/s.

In:  a folder on the disk in question.   Out: one rate per kind of work.
Guarantee: bytes that do not compress. "Cold" means that the kernel was asked to forget the file's pages
(`posix_fadvise`), which needs no rights; a disk behind a cache of its host may still be faster than it is.

    {"write and fsync": 1350, "write and fsync, files of 3 MB": 600, "cold read": 2000, "warm read": 9000, ...}
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

BLOCK_BYTES = 8 << 20
SMALL_BYTES = 3 << 20
"""About one shard of the benchmark's dataset."""


def disk_rates(folder: Path, num_bytes: int) -> dict[str, float]:
    """MB per second of each kind of work, on `num_bytes`."""
    folder.mkdir(parents=True, exist_ok=True)
    data = np.random.default_rng(0).integers(0, 256, num_bytes, np.uint8)
    one = folder / "one"
    names = [folder / f"{number}" for number in range(max(1, num_bytes // SMALL_BYTES))]
    rates = {
        "write and fsync": _rate(lambda: _write(one, data), num_bytes),
        "write and fsync, files of 3 MB": _rate(
            lambda: [_write(name, data[:SMALL_BYTES]) for name in names], len(names) * SMALL_BYTES
        ),
    }
    os.sync()
    handle = os.open(one, os.O_RDONLY)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)
    rates["cold read"] = _rate(lambda: _read(one), num_bytes)
    rates["warm read"] = _rate(lambda: _read(one), num_bytes)
    target = data.copy()
    rates["memcpy"] = _rate(lambda: np.copyto(target, data), num_bytes)
    for path in (one, *names):
        path.unlink()
    return rates


def _rate(work: Callable[[], object], num_bytes: int) -> float:
    began = time.perf_counter()
    work()
    return num_bytes / (time.perf_counter() - began) / 1e6


def _write(path: Path, data: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> None:
    with path.open("wb", buffering=0) as file:
        for at in range(0, len(data), BLOCK_BYTES):
            file.write(data[at : at + BLOCK_BYTES].data)
        os.fsync(file.fileno())


def _read(path: Path) -> None:
    block = bytearray(BLOCK_BYTES)
    with path.open("rb", buffering=0) as file:
        while file.readinto(block):
            pass
