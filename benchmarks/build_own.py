"""Our side of the build benchmark: the whole build, the re-cut of its token store, and the ids in the store.

In:  the inputs and a folder.   Out: what each run took; the ids in the order of the corpus.
Guarantee: every run is the command `curriculum build` in a fresh process. A build begins with nothing and makes its
store; a re-cut begins with a complete store, another seed or schedule and an empty output folder.

    build(...)   tokenize, shuffle, cut, hash, fsync      recut(...)   plan, shuffle, cut, hash, fsync
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from build_inputs import Inputs
from measured_process import Measured, bytes_in, run

ROOT = Path(__file__).resolve().parents[1]
BATCH_ROWS = 64
"""65,536 tokens per step at the maximum length of 1,024."""
SCHEDULE = ("--start-length", "8", "--max-length", "1024", "--frac", "0.3", "--batch-rows", str(BATCH_ROWS))
RECUTS = {"another seed": ("--seed", "1"), "another schedule": ("--schedule", "root")}


@dataclass(frozen=True, kw_only=True, slots=True)
class Own:
    """One run of ours."""

    measured: Measured
    stage_seconds: dict[str, float]
    out_bytes: int
    trained_tokens: int


def build(inputs: Inputs, out: Path, workers: int, log: Path) -> Own:
    """Everything from nothing; the store stays beside the dataset."""
    shutil.rmtree(store_of(out), ignore_errors=True)
    return _run(inputs, out, store_of(out), workers, log, ())


def recut(inputs: Inputs, out: Path, store: Path, workers: int, log: Path, options: tuple[str, ...]) -> Own:
    """A dataset of other options from a store that is complete."""
    return _run(inputs, out, store, workers, log, options)


def store_of(out: Path) -> Path:
    """Where a build keeps its store."""
    return out.with_name(f"{out.name}.store")


def _run(inputs: Inputs, out: Path, store: Path, workers: int, log: Path, options: tuple[str, ...]) -> Own:
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", "build", inputs.corpus]
    command += ["--tokenizer", inputs.tokenizer, *SCHEDULE, *options]
    command += ["--out", str(out), "--store", str(store), "--workers", str(workers)]
    measured = run(command, cpus=workers, log=log, cwd=ROOT)
    if measured.exit_code:
        raise SystemExit(f"curriculum build failed; see the end of {log}.")
    plan = json.loads((out / "manifest.json").read_bytes())["plan"]
    return Own(
        measured=measured,
        stage_seconds=json.loads((out / "build-log.json").read_bytes())["seconds"],
        out_bytes=bytes_in(out),
        trained_tokens=plan["total_tokens"],
    )


def ids_in_store(store: Path) -> Iterator[np.ndarray[Any, Any]]:
    """uint16 ids of the store's documents, each with its EOS, in the order of the one file they came from."""
    from pipeline.files.address import store_files
    from pipeline.part_index import read_index, read_tokens
    from pipeline.store import read_corpora

    files = store_files(store)
    (corpus,) = read_corpora(files)
    indexes = {name: read_index(files, name) for name in corpus["parts"]}
    for name in sorted(indexes, key=lambda name: int(indexes[name].position.min(initial=2**63))):
        index = indexes[name]
        ids = np.empty(int(index.num_tokens.sum()), np.uint16)
        read_tokens(files, name, 0, ids)
        for row in np.argsort(index.position).tolist():
            start = int(index.start[row])
            yield ids[start : start + int(index.num_tokens[row])]
