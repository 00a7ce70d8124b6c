"""A small packed dataset, written without a builder: documents cut into pieces by a loop that can be read in a minute.

In:  a folder.   Out: a finished dataset of mode "best-fit": phases of 8 and 16 inputs, the first visited twice.
Guarantee: rows of one piece, of several, with and without padding; documents that continue in another row share a
token with it; held-out rows are plain. Every number of the manifest is counted from the rows.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curriculum.manifest import (
    Accounting,
    BuildEntry,
    Manifest,
    PhaseEntry,
    ShardEntry,
    SourceEntry,
    TokenizerEntry,
)
from curriculum.plan import Batch, Budget, compile_plan
from curriculum.schedule import parse_phases
from curriculum.shard_format import Shard, open_shard, phase_folder
from pipeline.files.address import dataset_files
from pipeline.segment import Rows
from pipeline.shard import write_shard
from pipeline.tokenizer import byte_tokenizer

EOS = 256
ROWS_PER_STEP = 4
LENGTHS = [9, 3, 30, 2, 2, 17, 5, 9, 40, 4, 11, 8] * 4
"""Tokens of each document, EOS included."""
HELD_OUT_TOKENS = 3 * 16 + 1
LAST_STEP_OF_16 = 5
"""Of the packed dataset: phase 1 is steps 3 to 5, its last shard holds the last of them."""
GOLDEN = Rows(
    tokens=np.array(
        [
            [5, 6, 0, 8, 9, 1, 0, 0],  # 5 6 0 | 8 9 1, two of padding
            [1, 2, 3, 4, 5, 6, 7, 8],  # one piece that fills the row
            [3, 0, 0, 0, 0, 0, 0, 0],  # 3 0, then padding: the EOS that is a target and the one that is not
            [7, 0, 8, 0, 9, 0, 2, 0],  # 7 0 | 8 0 | 9 0 | 2 0
        ],
        np.uint16,
    ),
    doc_positions=np.array([3, 2, 4, 6], np.uint32),
    doc_offsets=np.array([0, 1, 1, 1, 4], np.int32),
    offset=np.array([0, 40, 20, 60], np.uint64),
    document=np.array([0, 7, 4, 9], np.uint64),
    num_tokens=np.array([6, 8, 2, 8], np.uint32),
    piece_offset=np.array([3, 62, 64, 2**40], np.uint64),
    piece_document=np.array([1, 10, 11, 2**33], np.uint64),
)
"""Four rows, written out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Consecutive tokens of one document."""

    offset: int
    document: int
    tokens: list[int]


def write_and_open(root: Path, rows: Rows) -> Shard:
    """Write one shard, and open it as the reader does."""
    entry = write_shard(dataset_files(root).write, "shard.arrow", rows)
    return open_shard(
        root / "shard.arrow",
        seq_len=rows.tokens.shape[1] - 1,
        dtype=rows.tokens.dtype.name,
        num_rows=entry.num_rows,
        num_bytes=entry.num_bytes,
        data_offset=entry.data_offset,
        packed=rows.num_tokens is not None,
    )


def stream() -> list[int]:
    """Documents of bytes 0, 1, 2 ... (the document's ordinal as its first), each followed by its EOS."""
    return [token for i, n in enumerate(LENGTHS) for token in [i, *range(1, n - 1), EOS]]


def cut_pieces(seq_lens: list[int]) -> list[list[Piece]]:
    """For each row its pieces: documents in stream order; every third row is closed after its first piece."""
    tokens, rows, offset, document, left = stream(), [], 0, 0, LENGTHS[0]
    for number, seq_len in enumerate(seq_lens):
        row: list[Piece] = []
        room = seq_len + 1
        while room >= 2 and not (row and number % 3 == 0):
            count = min(room, left)
            row.append(Piece(offset=offset, document=document, tokens=tokens[offset : offset + count]))
            room -= count
            if count == left:
                document, offset = document + 1, offset + count
                left = LENGTHS[document]
            else:  # the next piece begins with the last token of this one
                offset, left = offset + count - 1, left - count + 1
        rows.append(row)
    return rows


def columns(rows: list[list[Piece]], seq_len: int) -> Rows:
    """The seven columns of a shard."""
    laid = [[token for piece in row for token in piece.tokens] for row in rows]
    starts = [np.cumsum([len(piece.tokens) for piece in row])[:-1].tolist() for row in rows]
    further = [piece for row in rows for piece in row[1:]]
    return Rows(
        tokens=np.array([ids + [EOS] * (seq_len + 1 - len(ids)) for ids in laid], np.uint16),
        doc_positions=np.array([position for row in starts for position in row], np.uint32),
        doc_offsets=np.cumsum([0, *map(len, starts)]).astype(np.int32),
        offset=np.array([row[0].offset for row in rows], np.uint64),
        document=np.array([row[0].document for row in rows], np.uint64),
        num_tokens=np.array([len(ids) for ids in laid], np.uint32),
        piece_offset=np.array([piece.offset for piece in further], np.uint64),
        piece_document=np.array([piece.document for piece in further], np.uint64),
    )


def write_packed_dataset(root: Path) -> Manifest:
    """Write it and return its manifest."""
    plan = compile_plan(
        pacing=parse_phases("8:3,16:3,8:2"),
        warmup=None,
        batch=Batch(rows=ROWS_PER_STEP),
        budget=Budget(),
        mode="best-fit",
    )
    of_phase: list[list[list[Piece]]] = []
    pieces = cut_pieces([phase.seq_len for phase in plan.phases for _ in range(phase.num_rows)])
    entries = []
    for index, phase in enumerate(plan.phases):
        rows, pieces = pieces[: phase.num_rows], pieces[phase.num_rows :]
        of_phase.append(rows)
        entries.append(_write_phase(root, phase_folder(index, phase.seq_len), rows, phase.seq_len))
    trained = sum(len(piece.tokens) - 1 for rows in of_phase for row in rows for piece in row)
    (root / "tokenizer.json").write_text(byte_tokenizer(), "utf-8")
    corpus_tokens = sum(LENGTHS) + HELD_OUT_TOKENS
    manifest = Manifest(
        plan=plan,
        tokenizer=TokenizerEntry(
            vocab_size=257,
            bos_id=None,
            eos_id=EOS,
            sha256=hashlib.sha256((root / "tokenizer.json").read_bytes()).hexdigest(),
        ),
        dtype="uint16",
        seed=0,
        build=BuildEntry(algorithm=1, window_tokens=1 << 20, shard_bytes=1 << 20, bos="none"),
        phases=tuple(entries),
        validation=_write_validation(root),
        sources=(
            SourceEntry(
                name="corpus",
                documents=len(LENGTHS) + 1,
                tokens=corpus_tokens,
                offset=0,
                weight=1.0,
                fingerprint="made by hand",
            ),
        ),
        accounting=Accounting(
            corpus_tokens=corpus_tokens,
            trained_tokens=trained,
            truncated_tokens=0,
            validation_tokens=HELD_OUT_TOKENS,
            unused_tokens=sum(LENGTHS) - trained,
            repeated_tokens=0,
            context_tokens=len({piece.document for rows in of_phase for row in rows for piece in row}),
            padding_tokens=plan.total_tokens - trained,
            documents=len(LENGTHS) + 1,
            empty_documents=0,
            skipped_records=0,
        ),
        requires=("packed",),
    )
    dataset_files(root).remove(".build")
    (root / "manifest.json").write_text(json.dumps(manifest.to_json()), "utf-8")
    return manifest


def _write_phase(root: Path, folder: str, rows: list[list[Piece]], seq_len: int) -> PhaseEntry:
    """Two steps to a shard, so that a phase has several."""
    shards = []
    for start in range(0, len(rows), 2 * ROWS_PER_STEP):
        cut = columns(rows[start : start + 2 * ROWS_PER_STEP], seq_len)
        shards.append(write_shard(dataset_files(root).write, f"{folder}/shard-{len(shards):06d}.arrow", cut))
    return PhaseEntry(seq_len=seq_len, shards=tuple(shards))


def _write_validation(root: Path) -> PhaseEntry:
    """Three plain rows of 16 of one document."""
    tokens = np.arange(HELD_OUT_TOKENS, dtype=np.uint16)
    rows = Rows(
        tokens=np.lib.stride_tricks.sliding_window_view(tokens, 17)[::16].copy(),
        doc_positions=np.empty(0, np.uint32),
        doc_offsets=np.zeros(4, np.int32),
        offset=np.arange(0, 48, 16, dtype=np.uint64),
        document=np.zeros(3, np.uint64),
    )
    entry: ShardEntry = write_shard(dataset_files(root).write, "validation/shard-000000.arrow", rows)
    return PhaseEntry(seq_len=16, shards=(entry,))
