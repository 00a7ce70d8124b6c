"""What a packed dataset must be, written from docs/format.md: rows read with pyarrow, documents from the token store.

In:  the folder of a finished dataset whose token store is still there.
Out: `Row` and `Piece`, plain Python; and `Stream`, the tokens and documents that they must be runs of.
Guarantee: nothing of the code that cuts, packs, reads or verifies is used. Only the seeded order of documents comes
from `pipeline.stream`.

    tokens [5 6 0 8 9 1 0 0], num_tokens 6, doc_starts [3]    pieces 5 6 0 at 0 and 8 9 1 at 3; labels 6 0 . 9 1 . .
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curriculum.manifest import Manifest, load_manifest
from pipeline.files.address import store_files
from pipeline.stream import StreamSpec, count_partitions, lay_out_stream, piece_documents
from pipeline.windows import Window, split_windows
from small_corpus import real_texts


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A run of tokens of one document."""

    phase: int
    row: int
    """of its phase"""
    position: int
    offset: int
    document: int
    tokens: list[int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A row of a phase and its pieces."""

    phase: int
    row: int
    tokens: list[int]
    num_tokens: int
    pieces: list[Piece]

    @property
    def labels(self) -> list[int]:
        """The token after each input, where there is one in the same piece; else -100."""
        labels = [-100] * (len(self.tokens) - 1)
        for piece in self.pieces:
            for i, token in enumerate(piece.tokens[1:]):
                labels[piece.position + i] = token
        return labels


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """Training documents in seeded order, epoch after epoch."""

    tokens: np.ndarray[Any, Any]
    starts: np.ndarray[Any, Any]
    """int64 [documents + 1]: document i is tokens[starts[i] : starts[i + 1]]"""


def read_rows(root: Path) -> list[Row]:
    """All rows, phase by phase, as any Arrow reader sees them."""
    manifest = json.loads((root / "manifest.json").read_bytes())
    return [row for index, phase in enumerate(manifest["phases"]) for row in _rows_of_phase(root, index, phase)]


def _rows_of_phase(root: Path, index: int, phase: dict[str, Any]) -> Iterator[Row]:
    number = 0
    for shard in phase["shards"]:
        with pa.ipc.open_file(root / shard["path"]) as reader:
            lines = reader.read_all().to_pylist()
        assert len(lines) == shard["num_rows"]
        for line in lines:
            yield _row(index, number, phase["seq_len"], line)
            number += 1


def _row(phase: int, number: int, seq_len: int, line: dict[str, Any]) -> Row:
    tokens, stored = line["tokens"], line["num_tokens"]
    assert len(tokens) == seq_len + 1
    edges = [0, *line["doc_starts"], stored]
    assert edges == sorted(set(edges)), "pieces lie end to end, none is empty"
    offsets = [line["offset"], *line["piece_offset"]]
    documents = [line["document"], *line["piece_document"]]
    assert len(edges) - 1 == len(offsets) == len(documents)
    pieces = [
        Piece(
            phase=phase,
            row=number,
            position=edges[i],
            offset=offsets[i],
            document=documents[i],
            tokens=tokens[edges[i] : edges[i + 1]],
        )
        for i in range(len(offsets))
    ]
    return Row(phase=phase, row=number, tokens=tokens, num_tokens=stored, pieces=pieces)


def read_stream(root: Path, *, epochs: int = 1) -> Stream:
    """The stream that a dataset was cut from."""
    manifest, log = load_manifest(root), json.loads((root / "build-log.json").read_bytes())
    tokens_per_epoch = manifest.accounting.corpus_tokens - manifest.accounting.validation_tokens
    spec = StreamSpec(
        store=store_files(log["store"]),
        parts=tuple(log["parts"]),
        dtype=manifest.dtype,
        seed=manifest.seed,
        held_out_below=log["held_out_below"],
        num_partitions=count_partitions(tokens_per_epoch),
    )
    parts = [np.fromfile(Path(log["store"], "parts", name[:2], f"{name}.tokens"), spec.dtype) for name in spec.parts]
    documents = []
    for piece in lay_out_stream(spec, epochs * tokens_per_epoch):
        found = piece_documents(spec, piece)
        begins, counts = found.index.start.tolist(), found.index.num_tokens.tolist()
        for part, begin, count in zip(found.part.tolist(), begins, counts, strict=True):
            documents.append(parts[part][begin : begin + count])
    return Stream(tokens=np.concatenate(documents), starts=np.cumsum([0, *map(len, documents)]))


def rows_of_steps(manifest: Manifest, rows: list[Row]) -> list[list[Row]]:
    """The rows of every step: a step takes the next `rows_per_step` of its phase."""
    left = [iter([row for row in rows if row.phase == phase]) for phase in range(len(manifest.phases))]
    plan = manifest.plan
    steps = [phase for phase, num_steps in plan.order for _ in range(num_steps)]
    return [list(islice(left[phase], plan.phases[phase].rows_per_step)) for phase in steps]


def write_short_documents(folder: Path) -> Path:
    """A corpus of 2,400 lines of real text, most shorter than a row of 64 tokens; a hundred are "x", three long."""
    texts = real_texts()
    lines = [line for text in texts for line in text.splitlines() if line][:2_400]
    lines[1000:1100] = ["x"] * 100
    lines[::800] = [text[:1500] for text in texts[:3]]
    (folder / "sub").mkdir(parents=True)
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines[:1500]), "utf-8")
    with gzip.open(folder / "sub" / "b.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("".join(json.dumps({"text": line}) + "\n" for line in lines[1500:]))
    return folder


def windows_of(manifest: Manifest) -> tuple[Window, ...]:
    """The windows that the manifest's numbers give."""
    return split_windows(manifest.plan, manifest.build.window_tokens, manifest.build.fill)


def consumed_tokens(manifest: Manifest) -> int:
    """Tokens of the stream that the windows of best-fit mode cover."""
    return sum(window.num_tokens for window in windows_of(manifest))


def pieces_of(rows: list[Row]) -> list[Piece]:
    """All pieces, row after row."""
    return [piece for row in rows for piece in row.pieces]


def count_targets(pieces: list[Piece], num_tokens: int) -> np.ndarray[Any, Any]:
    """int64 [num_tokens]: how often each position of the stream is a target."""
    counts = np.zeros(num_tokens, np.int64)
    for piece in pieces:
        counts[piece.offset + 1 : piece.offset + len(piece.tokens)] += 1
    return counts
