"""The tokens that every reader of the benchmark reads: a dataset of ours, and the same rows and stream as plain files.

In:  a corpus and a tokenizer.   Out: a folder for one shape, [rows, seq_len]:
    dataset/        built by `curriculum build`, schedule constant, one shard file or more
    rows.bin        uint16 [steps * rows, seq_len + 1], in training order: what ours gives, back to back in one file
    ordered.bin     the same rows in stream order: what the others' formats are made of (they shuffle at run time)
    stream.bin      uint16 [tokens]: the stream that the rows were cut from, for readers that cut themselves
    documents.npy   int64: lengths of the documents in the stream
Guarantee: the four hold the same tokens, so that whatever comes out of a reader can be compared with `rows.bin`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import curriculum


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """What one folder holds."""

    rows: int
    """per step"""
    seq_len: int
    steps: int

    @property
    def name(self) -> str:
        return f"{self.rows}x{self.seq_len}"

    @property
    def tokens_per_step(self) -> int:
        """Inputs of one step."""
        return self.rows * self.seq_len


def read_shape(folder: Path) -> Shape:
    """The shape of a folder that `prepare` made."""
    return Shape(**json.loads((folder / "shape.json").read_text()))


def prepare(folder: Path, shape: Shape, corpus: Path, tokenizer: Path, store: Path) -> None:
    """Build the dataset and write the plain files; nothing if they are there."""
    if (folder / "shape.json").exists() and read_shape(folder) == shape:
        return
    folder.mkdir(parents=True, exist_ok=True)
    build(folder / "dataset", shape, corpus, tokenizer, store)
    reader = curriculum.open(folder / "dataset")
    batches = list(reader.steps())
    rows = np.concatenate([batch.tokens for batch in batches])
    offset = np.concatenate([batch.offset for batch in batches]).astype(np.int64)
    rows.tofile(folder / "rows.bin")
    order = np.argsort(offset)
    ordered, first = rows[order], int(offset.min())
    ordered.tofile(folder / "ordered.bin")
    # Neighbours share one token: the last of a row is the first of the next.
    stream = np.concatenate([ordered[0, :1], ordered[:, 1:].reshape(-1)])
    stream.tofile(folder / "stream.bin")
    starts = [0, len(stream)]
    for batch in batches:
        positions, edges = batch.doc_starts
        row_of = np.repeat(batch.offset.astype(np.int64), np.diff(edges))
        starts.extend((row_of + positions - first).tolist())
    np.save(folder / "documents.npy", np.diff(np.unique(starts)))
    (folder / "shape.json").write_text(json.dumps(asdict(shape)))


def build(out: Path, shape: Shape, corpus: Path, tokenizer: Path, store: Path) -> None:
    """`curriculum build` in a process of its own; the store is shared by all shapes."""
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", "build", str(corpus)]
    options = {
        "tokenizer": tokenizer,
        "schedule": "constant",
        "max-length": shape.seq_len,
        "batch-rows": shape.rows,
        "steps": shape.steps,
        "out": out,
        "store": store,
        "workers": 1,
    }
    command += [text for name, value in options.items() for text in (f"--{name}", str(value))]
    done = subprocess.run(
        [*command, "--overwrite"], cwd=Path(__file__).resolve().parents[1], capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr)
