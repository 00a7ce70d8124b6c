"""Packed rows come back as they were written, and every label is the next token of the same piece or -100."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import curriculum
from curriculum.batch import Batch
from curriculum.manifest import Manifest, load_manifest, parse_manifest
from curriculum.plan import Batch as PlanBatch
from curriculum.plan import Budget, compile_plan
from curriculum.schedule import parse_phases
from curriculum.shard_format import Shard, row_bytes, shard_schema
from packed_dataset import GOLDEN, HELD_OUT_TOKENS, stream, write_and_open, write_packed_dataset
from pipeline.segment import Rows

GOLDEN_LABELS = [
    [6, 0, -100, 9, 1, -100, -100],
    [2, 3, 4, 5, 6, 7, 8],
    [0, -100, -100, -100, -100, -100, -100],
    [0, -100, 0, -100, 0, -100, 0],
]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed dataset; treat it as read-only."""
    root = tmp_path_factory.mktemp("packed")
    write_packed_dataset(root)
    return root


def batch_of(shard: Shard, start: int = 0, stop: int | None = None) -> Batch:
    stop = len(shard.tokens) if stop is None else stop
    return Batch(shard, start, stop, step=0, micro=0, phase=0, cursor=None)


def slow_labels(tokens: list[int], num_tokens: int, starts: list[int]) -> list[int]:
    """The rule of docs/format.md, input by input."""
    return [tokens[j + 1] if j + 1 < num_tokens and j + 1 not in starts else -100 for j in range(len(tokens) - 1)]


def test_golden_rows_are_read_back_and_labelled_by_hand(tmp_path: Path) -> None:
    """A label across a boundary teaches the model that one document continues with another; one in the padding, that
    text is followed by endless EOS."""
    shard = write_and_open(tmp_path, GOLDEN)
    batch = batch_of(shard)
    assert batch.labels.tolist() == GOLDEN_LABELS
    assert batch.has_target.tolist() == [[label != -100 for label in row] for row in GOLDEN_LABELS]
    assert (batch.labels.dtype, batch.has_target.dtype) == (np.int64, np.bool_)
    assert batch.targets.tolist() == [row[1:] for row in GOLDEN.tokens.tolist()], "the raw view stays what it is"
    found = (batch.num_tokens, batch.piece_offset, batch.piece_document, batch.offset, batch.document)
    expected = (GOLDEN.num_tokens, GOLDEN.piece_offset, GOLDEN.piece_document, GOLDEN.offset, GOLDEN.document)
    for array, written in zip(found, expected, strict=True):
        assert array is not None
        assert written is not None
        assert (array.tolist(), array.dtype) == (written.tolist(), written.dtype)
        assert not array.flags.writeable
        assert np.shares_memory(array, array[:]), "a view"
    part = batch_of(shard, 2, 4)
    assert part.labels.tolist() == GOLDEN_LABELS[2:]
    assert part.piece_offset is not None
    assert part.piece_document is not None
    assert part.piece_offset.tolist() == [62, 64, 2**40]
    assert part.piece_document.tolist() == [10, 11, 2**33]
    assert part.doc_starts[0].tolist() == [2, 4, 6]


def test_a_packed_shard_is_plain_arrow_for_everybody_else(tmp_path: Path) -> None:
    """polars, duckdb and `datasets` read it without our code: names and types are the contract."""
    write_and_open(tmp_path, GOLDEN)
    table = pa.ipc.open_file(tmp_path / "shard.arrow").read_all()
    assert [f"{field.name}: {field.type}" for field in table.schema] == [
        "tokens: fixed_size_list<item: uint16 not null>[8]",
        "doc_starts: list<item: uint32 not null>",
        "offset: uint64",
        "document: uint64",
        "num_tokens: uint32",
        "piece_offset: list<item: uint64 not null>",
        "piece_document: list<item: uint64 not null>",
    ]
    assert not any(field.nullable for field in table.schema)
    assert table["piece_offset"].to_pylist() == [[3], [], [], [62, 64, 2**40]]
    assert shard_schema(7, "uint16", packed=True).equals(table.schema)
    assert len(shard_schema(7, "uint16")) == 4


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_row_bytes_counts_what_is_stored(tmp_path: Path, dtype: str) -> None:
    """The check of free disk space adds it up: 12 bytes more for a packed row, 20 for each further piece."""
    rows = replace(GOLDEN, tokens=GOLDEN.tokens.astype(dtype))
    write_and_open(tmp_path, rows)
    columns = pa.ipc.open_file(tmp_path / "shard.arrow").get_batch(0).columns
    stored = sum(buffer.size for column in columns for buffer in column.buffers() if buffer is not None)
    one_more_list_offset = 3 * 4
    assert stored == 4 * row_bytes(7, dtype, packed=True) + 4 * (4 + 16) + one_more_list_offset
    assert row_bytes(7, dtype, packed=True) == row_bytes(7, dtype) + 12


@st.composite
def packed_rows(draw: st.DrawFn) -> Rows:
    """Rows of any structure, the odd ones included: pieces of one token, starts in the padding."""
    seq_len, num_rows = draw(st.integers(1, 12)), draw(st.integers(1, 6))
    starts = [draw(st.sets(st.integers(1, seq_len))) for _ in range(num_rows)]
    num_starts = sum(map(len, starts))
    cells = num_rows * (seq_len + 1)
    return Rows(
        tokens=(np.arange(cells) * 7 % 5).astype(np.uint16).reshape(num_rows, seq_len + 1),
        doc_positions=np.array([position for of_row in starts for position in sorted(of_row)], np.uint32),
        doc_offsets=np.cumsum([0, *map(len, starts)]).astype(np.int32),
        offset=np.arange(num_rows, dtype=np.uint64),
        document=np.arange(num_rows, dtype=np.uint64),
        num_tokens=np.array([draw(st.integers(2, seq_len + 1)) for _ in range(num_rows)], np.uint32),
        piece_offset=np.arange(num_starts, dtype=np.uint64),
        piece_document=np.arange(num_starts, dtype=np.uint64),
    )


@given(rows=packed_rows(), data=st.data())
def test_labels_equal_a_slow_loop_for_any_rows_and_any_micro_batch(rows: Rows, data: st.DataObject) -> None:
    """The vectorised rule counts cells across rows: an index that is off by one would mask another row's target."""
    start = data.draw(st.integers(0, len(rows.tokens) - 1))
    stop = data.draw(st.integers(start + 1, len(rows.tokens)))
    assert rows.num_tokens is not None
    shard = Shard(
        data_offset=0,
        **{name: getattr(rows, name) for name in Rows.__slots__},
    )
    batch = batch_of(shard, start, stop)
    expected = []
    for i in range(start, stop):
        starts = rows.doc_positions[rows.doc_offsets[i] : rows.doc_offsets[i + 1]].tolist()
        expected.append(slow_labels(rows.tokens[i].tolist(), int(rows.num_tokens[i]), starts))
    assert batch.labels.tolist() == expected
    assert np.array_equal(batch.has_target, np.array(expected) != -100)
    memory = np.zeros((stop - start, 2 * batch.seq_len), np.int64)
    batch.write_labels(memory[:, ::2])
    assert memory[:, ::2].tolist() == expected, "into memory whose rows are not back to back, too"
    assert not memory[:, 1::2].any()


def test_every_target_of_the_dataset_is_a_stream_token_and_comes_once(packed: Path) -> None:
    """From disk alone: each piece is a run of the stream, and no token is trained on twice."""
    reader, tokens = curriculum.open(packed, check=True), stream()
    trained: list[int] = []
    for batch in reader:
        positions, edges = batch.doc_starts
        assert batch.num_tokens is not None
        assert batch.piece_offset is not None
        for i, (a, b) in enumerate(pairwise(edges.tolist())):
            begins = [0, *positions[a:b].tolist(), int(batch.num_tokens[i])]
            offsets = [int(batch.offset[i]), *batch.piece_offset[a:b].tolist()]
            for (first, stop), offset in zip(pairwise(begins), offsets, strict=True):
                assert batch.tokens[i, first:stop].tolist() == tokens[offset : offset + stop - first]
                assert batch.labels[i, first : stop - 1].tolist() == tokens[offset + 1 : offset + stop - first]
                trained += range(offset + 1, offset + stop - first)
    assert len(trained) == len(set(trained)) == reader.manifest.accounting.trained_tokens
    assert sum(int(batch.has_target.sum()) for batch in reader) == len(trained)


@pytest.mark.parametrize(("world_size", "micro_batches"), [(1, 1), (2, 1), (1, 4), (2, 2), (4, 1)])
def test_ranks_together_have_the_labels_of_the_step(packed: Path, world_size: int, micro_batches: int) -> None:
    """The views of pieces are cut like the rows they belong to, whatever the number of processes."""
    reader = curriculum.open(packed)
    ranks = [reader.steps(0, rank, world_size, micro_batches) for rank in range(world_size)]
    parts = [batch for batches in zip(*ranks, strict=True) for batch in batches]
    per_step = world_size * micro_batches
    for step, whole in enumerate(reader):
        of_step = parts[step * per_step : (step + 1) * per_step]
        assert np.array_equal(np.concatenate([part.labels for part in of_step]), whole.labels)
        for name in ("num_tokens", "piece_offset", "piece_document"):
            assert np.array_equal(np.concatenate([getattr(part, name) for part in of_step]), getattr(whole, name))


def test_the_views_of_pieces_are_views_and_labels_are_not(packed: Path) -> None:
    """Zero-copy where nothing is computed; what is computed may be changed without touching the dataset."""
    reader = curriculum.open(packed)
    batch, again = reader[3], reader[3]
    assert batch.piece_offset is not None
    assert len(batch.piece_offset) > 0
    for name in ("num_tokens", "piece_offset", "piece_document"):
        assert np.shares_memory(getattr(batch, name), getattr(again, name))
        assert not getattr(batch, name).flags.writeable
    expected = batch.labels.copy()
    batch.labels.fill(0)
    batch.has_target.fill(False)
    assert np.array_equal(batch.labels, expected)
    assert np.array_equal(batch.has_target, expected != -100)


def test_held_out_rows_of_a_packed_dataset_are_plain(packed: Path) -> None:
    """Evaluation is on the same rows in every mode, so that runs can be compared: every input has a target."""
    validation = curriculum.open(packed).validation
    assert validation is not None
    (batch,) = validation.batches(10)
    assert batch.num_tokens is batch.piece_offset is batch.piece_document is None
    assert batch.labels.dtype == np.int64
    assert batch.labels.ravel().tolist() == list(range(1, HELD_OUT_TOKENS))


def test_rows_that_are_not_packed_have_every_target(small_dataset: Path) -> None:
    """A loop may use labels and has_target in every mode; the mask of a plain batch takes no memory at all."""
    batch = curriculum.open(small_dataset)[400]
    assert batch.num_tokens is batch.piece_offset is batch.piece_document is None
    assert batch.has_target.all()
    assert (batch.has_target.shape, batch.has_target.strides) == (batch.targets.shape, (0, 0))
    assert batch.labels.dtype == np.int64
    assert np.array_equal(batch.labels, batch.targets)
    assert not np.shares_memory(batch.labels, batch.tokens)


def test_a_packed_reader_pickles_as_its_path(packed: Path) -> None:
    """Trainers send it to their processes; what arrives has the same labels."""
    reader = curriculum.open(packed)
    reader[0]
    data = pickle.dumps(reader)
    assert len(data) < 400
    assert np.array_equal(pickle.loads(data)[4].labels, reader[4].labels)


def test_what_could_not_be_packed_is_counted_and_need_not_follow_from_the_plan(packed: Path) -> None:
    """Only the packing knows how many tokens found no place: any number that adds up is fine."""
    manifest = load_manifest(packed)
    numbers = replace(manifest.accounting, truncated_tokens=30, unused_tokens=manifest.accounting.unused_tokens - 30)
    text = json.dumps(replace(manifest, accounting=numbers).to_json()).encode()
    assert parse_manifest(text, "here").accounting.truncated_tokens == 30


def test_a_packed_manifest_survives_the_round_trip(packed: Path) -> None:
    """What is read is what was written, and the id is that of its bytes."""
    text = (packed / "manifest.json").read_bytes()
    manifest = parse_manifest(text, "here")
    assert json.dumps(manifest.to_json()).encode() == text
    assert (manifest.packed, manifest.requires, manifest.accounting.padding_tokens) == (True, ("packed",), 70)
    assert replace(manifest, seed=0).id == manifest.id


def plain_manifest() -> Manifest:
    """A manifest as release 0.1 wrote it, literal but for the plan."""
    plan = compile_plan(pacing=parse_phases("8:2,16:1"), warmup=None, batch=PlanBatch(rows=4), budget=Budget())
    phases = [
        {"seq_len": seq_len, "shards": [_plain_shard(index, seq_len, rows)]}
        for index, (seq_len, rows) in enumerate(((8, 8), (16, 4)))
    ]
    text = {
        "format": "curriculum-dataset",
        "version": 1,
        "requires": [],
        "id": "sha256:3bac8abbaa54729118426b6899311274975b1eeaa982e1b8a18571167c42c74a",
        "plan": plan.to_json(),
        "tokenizer": {"vocab_size": 257, "bos_id": None, "eos_id": 256, "sha256": "1" * 64},
        "dtype": "uint16",
        "seed": 7,
        "build": {"algorithm": 1, "window_tokens": 128, "shard_bytes": 8000, "bos": "none"},
        "phases": phases,
        "validation": None,
        "sources": [{"name": "corpus", "documents": 3, "tokens": 140, "offset": 0, "weight": 1.0, "fingerprint": "f"}],
        "accounting": {
            "corpus_tokens": 140,
            "trained_tokens": 128,
            "truncated_tokens": 0,
            "validation_tokens": 0,
            "unused_tokens": 12,
            "repeated_tokens": 0,
            "context_tokens": 1,
            "documents": 3,
            "empty_documents": 0,
            "skipped_records": 0,
        },
    }
    manifest = parse_manifest(json.dumps(text).encode(), "release 0.1")
    assert json.dumps(manifest.to_json()) == json.dumps(text), "key for key, in the same order"
    return manifest


def _plain_shard(phase: int, seq_len: int, num_rows: int) -> dict[str, Any]:
    path = f"phases/{phase:05d}-len{seq_len:07d}/shard-000000.arrow"
    return {"path": path, "num_rows": num_rows, "num_bytes": 4096, "data_offset": 512, "sha256": "0" * 64}


def test_a_manifest_without_packed_rows_is_byte_for_byte_that_of_the_first_release() -> None:
    """Rebuilds stay no-ops and ids in papers stay valid: a new feature must not touch datasets that do not use it."""
    manifest = plain_manifest()
    assert not manifest.packed
    assert manifest.accounting.padding_tokens is None
    assert replace(manifest, seed=7).id == manifest.id, "computed anew, not copied"
