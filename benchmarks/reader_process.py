"""One reader in a process of its own: measures itself when it is told to.

    python reader_process.py NAME FOLDER...      then one word a line on stdin, one JSON object a line on stdout

In:  "open K": from now on the K-th folder; "check"; "window"; "start"; "resume"; "memory".   Out: an object for each.
Guarantee: nothing runs between two commands but what the library runs by itself. A batch is held until the next one is
there, as a training loop holds it. Steps are timed one by one; the first of a pass, which opens files, is timed apart.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from own_readers import READERS, mapped
from reader_data import read_shape

WINDOW_SECONDS = 0.2
"""Of each window; at least `LEAST_STEPS`."""
LEAST_STEPS = 10
NO_ORDER = ("nanoGPT", "Megatron")
"""They cut the stream themselves: their rows are others than ours, made of the same tokens."""

Read = Callable[[Path, int], Iterator[Any]]


def window(read: Read, folder: Path) -> dict[str, Any]:
    """Microseconds of each step of a run of steps, from the second step of a pass on."""
    micros: list[float] = []
    batches: Iterator[Any] | None
    began = time.perf_counter()
    while True:
        batch = batches = None
        gc.collect()  # maps of the pass before would count as resident once more
        batches = read(folder, 0)
        batch = next(batches)
        before = time.perf_counter()
        for batch in batches:  # held until the next one is there
            now = time.perf_counter()
            micros.append((now - before) * 1e6)
            before = now
            if now - began > WINDOW_SECONDS and len(micros) >= LEAST_STEPS:
                del batch
                return {"micros": [round(each, 2) for each in micros]}


def first_batch(read: Read, folder: Path, step: int) -> dict[str, Any]:
    """Milliseconds from nothing (libraries imported) to the first batch."""
    gc.collect()
    began = time.perf_counter()
    batch = next(read(folder, step))
    return {"ms": (time.perf_counter() - began) * 1e3, "digest": digest(batch)}


def check(read: Read, folder: Path, name: str) -> dict[str, Any]:
    """Whether the tokens are the right ones, up to the middle; and the digest of the batch there, to resume at."""
    shape = read_shape(folder)
    known = Counter(row_digests(mapped(folder)).tolist())  # a licence may make the same row twice
    seen: list[int] = []
    half = ""
    for step, batch in enumerate(itertools.islice(read(folder, 0), shape.steps // 2 + 1)):
        if name.startswith(NO_ORDER):
            inputs, labels = (each.numpy() for each in batch)
            assert np.array_equal(inputs[:, 1:], labels[:, :-1]), "labels must be the tokens after the inputs"
            assert inputs.shape == (shape.rows, shape.seq_len)
        else:
            seen += row_digests(whole_rows(batch)).tolist()
        half = digest(batch) if step == shape.steps // 2 else half
    assert Counter(seen) <= known, "rows that are none of the dataset's, or came more than once"
    order = seen == row_digests(mapped(folder)[: len(seen)]).tolist() if seen else None
    return {"rows": len(seen), "training_order": order, "digest": half}


def whole_rows(batch: Any) -> np.ndarray[Any, Any]:
    """[rows, seq_len + 1] of a batch: one tensor or array, or inputs and labels."""
    if isinstance(batch, tuple):
        return np.concatenate([np.asarray(batch[0]), np.asarray(batch[1])[:, -1:]], axis=1)
    return np.asarray(batch)


def row_digests(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """uint64 [rows]: equal rows, equal numbers."""
    weights = np.random.default_rng(1).integers(0, 2**63, rows.shape[1], np.uint64) * np.uint64(2) + np.uint64(1)
    parts = [part.astype(np.uint64) @ weights for part in np.array_split(rows, max(1, len(rows) // 4096))]
    return np.concatenate(parts)


def digest(batch: Any) -> str:
    """Of the tokens of a batch, in its order."""
    rows = row_digests(whole_rows(batch))
    return f"{int((rows * np.arange(1, len(rows) + 1, dtype=np.uint64)).sum(dtype=np.uint64)):016x}"


def memory() -> dict[str, Any]:
    """MB: the most that was resident, files of the page cache included; and what is private or shared memory now."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    kib = {name: int(status[name].split()[0]) for name in ("VmHWM", "RssAnon", "RssShmem")}
    return {"peak_mb": kib["VmHWM"] / 1024, "own_mb": (kib["RssAnon"] + kib["RssShmem"]) / 1024}


def main() -> None:
    name, *folders = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    read: Read
    if name in READERS:
        read = READERS[name]
    else:
        import peer_readers

        peer_readers.import_library(name)
        read = peer_readers.READERS[name]
    folder = Path(folders[0])
    for line in sys.stdin:
        command, *index = line.split()
        result: dict[str, Any] = {}
        try:
            match command:
                case "open":
                    folder = Path(folders[int(index[0])])
                    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
                case "check":
                    result = check(read, folder, name)
                case "window":
                    result = window(read, folder)
                case "start":
                    result = first_batch(read, folder, 0)
                case "resume":
                    result = first_batch(read, folder, read_shape(folder).steps // 2)
                case "memory":
                    result = memory()
        except Exception as error:  # told to whoever asked; the other readers go on
            result = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(result), file=answers, flush=True)


if __name__ == "__main__":
    main()
