"""Packed datasets, end to end: pieces are where they say, tokens are trained once, counts are those of the rows.

`packed_model` reads shards and token store without the code under test; several partitions, windows, shards and store
parts are in play in every build here.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import curriculum
import pipeline.stream
from curriculum.adapters.pytorch import CurriculumDataset
from curriculum.manifest import Manifest
from packed_model import (
    Row,
    Stream,
    consumed_tokens,
    count_targets,
    pieces_of,
    read_rows,
    read_stream,
    rows_of_steps,
    windows_of,
    write_short_documents,
)
from pipeline.build import BuildResult
from pipeline.progress import Silent
from pipeline.rows import cat_rows
from pipeline.summary import summarize
from pipeline.verify import verify_dataset

Build = Callable[..., BuildResult]
EOS = 256
CASES: dict[str, dict[str, Any]] = {
    "best-fit": {"mode": "best-fit", "validation_tokens": 6_000, "unit_bytes": 20_000},
    "best-fit-epochs": {"mode": "best-fit", "epochs": 2, "bos": "document", "seed": 5, "unit_bytes": 20_000},
    "best-fit-cyclic": {
        "mode": "best-fit",
        "phases": "8:60,64:60,8:60,24:40",
        "start_length": None,
        "max_length": None,
        "validation_frac": "0.1",
    },
    "best-fit-short": {"mode": "best-fit", "validation_tokens": 2_000, "unit_bytes": 20_000, "shuffle_window": 1},
    "document": {"mode": "document", "validation_tokens": 6_000, "unit_bytes": 20_000},
    "document-epochs": {"mode": "document", "epochs": 2, "bos": "document", "seed": 5, "cycles": 3},
    "document-short": {"mode": "document", "validation_tokens": 2_000, "unit_bytes": 20_000, "shuffle_window": 1},
    "document-natural-short": {"mode": "document", "schedule": "natural", "batch_rows": 1, "shard_bytes": 60_000},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Packed:
    """A dataset and what it must be."""

    root: Path
    corpus: Path
    manifest: Manifest
    rows: list[Row]
    steps: list[list[Row]]
    """the same, step by step"""
    stream: Stream


@pytest.fixture(scope="module", autouse=True)
def several_partitions(small_dataset: Path) -> Iterator[None]:
    """The corpus of 230,000 tokens in twelve partitions: where they meet is where things go wrong."""
    # `small_dataset` is shared by all modules: it has to be built before.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.stream, "PARTITION_TOKENS", 20_000)
        yield


@pytest.fixture(scope="module")
def load(corpus: Path, build_small: Build, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Packed]:
    """Build a case once; treat it as read-only."""
    built: dict[str, Packed] = {}
    folder = tmp_path_factory.mktemp("packed")
    short = write_short_documents(folder / "short")

    def case(name: str) -> Packed:
        if name not in built:
            root = folder / name
            texts = short if name.endswith("short") else corpus
            manifest = build_small(root, corpus=(str(texts),), **CASES[name]).manifest
            epochs = CASES[name].get("epochs", 1)
            rows = read_rows(root)
            built[name] = Packed(
                root=root,
                corpus=texts,
                manifest=manifest,
                rows=rows,
                steps=rows_of_steps(manifest, rows),
                stream=read_stream(root, epochs=epochs),
            )
        return built[name]

    return case


@pytest.fixture(params=CASES)
def packed(load: Callable[[str], Packed], request: pytest.FixtureRequest) -> Packed:
    """Each case in turn."""
    return load(request.param)


# What the rows are


def test_every_piece_is_a_run_of_the_document_it_names(packed: Packed) -> None:
    """Else a model is trained on text that no document has, and `cat` names the wrong source."""
    stream = packed.stream
    for row in packed.rows:
        assert row.tokens[row.num_tokens :] == [EOS] * (len(row.tokens) - row.num_tokens)
        for piece in row.pieces:
            stop = piece.offset + len(piece.tokens)
            assert len(piece.tokens) >= 2, "a piece without a target is waste"
            assert piece.tokens == stream.tokens[piece.offset : stop].tolist()
            assert stream.starts[piece.document] <= piece.offset
            assert stop <= stream.starts[piece.document + 1]


def test_no_token_is_a_target_twice_and_none_is_lost_unsaid(packed: Packed) -> None:
    """Positions of the stream count epochs apart: once per epoch. What is not trained is a document's first token, was
    counted as truncated, lies beyond the plan, or is in a step that the last rows of a length do not fill."""
    manifest, stream = packed.manifest, packed.stream
    counts = count_targets(pieces_of(packed.rows), len(stream.tokens))
    assert counts.max() == 1
    assert counts[stream.starts[:-1]].max() == 0, "no document begins with a target"
    counts[stream.starts[:-1]] = 1
    if manifest.plan.mode == "best-fit":
        consumed = consumed_tokens(manifest)
        assert not counts[consumed + 1 :][~np.isin(np.arange(consumed + 1, len(counts)), stream.starts)].any()
        assert np.count_nonzero(counts[: consumed + 1] == 0) == manifest.accounting.truncated_tokens
        return
    rows_per_step = manifest.plan.phases[0].rows_per_step
    unfinished = sum(count % rows_per_step * seq_len for seq_len, count in _decomposed(stream).items() if seq_len > 8)
    missing = np.count_nonzero(counts == 0)
    assert unfinished <= missing < unfinished + rows_per_step * 8


def _decomposed(stream: Stream) -> Counter[int]:
    """Rows of each length that documents give, the longest first."""
    rows: Counter[int] = Counter()
    for num_tokens in np.diff(stream.starts).tolist():
        left = num_tokens - 1
        for seq_len in (64, 32, 16, 8):
            rows[seq_len] += left // seq_len
            left %= seq_len
    return rows


def test_natural_order_with_one_row_per_step_trains_the_whole_corpus(load: Callable[[str], Packed]) -> None:
    """Where no step is unfinished, every token but each document's first is a target, every EOS among them."""
    packed = load("document-natural-short")
    counts = count_targets(pieces_of(packed.rows), len(packed.stream.tokens))
    expected = np.ones(len(counts), np.int64)
    expected[packed.stream.starts[:-1]] = 0
    assert np.array_equal(counts, expected)
    assert (packed.stream.tokens[packed.stream.starts[1:] - 1] == EOS).all()
    accounting = packed.manifest.accounting
    assert accounting.unused_tokens == accounting.context_tokens == accounting.documents


def test_steps_and_labels_are_those_of_the_rows(packed: Packed) -> None:
    """Labels are -100 exactly where no target is: training on padding, or from the end of one document to the beginning
    of another, is silent damage. The reader's step s holds the next rows of its phase and no others."""
    reader = curriculum.open(packed.root)
    assert len(reader) == len(packed.steps)
    trained = 0
    for step, example in enumerate(CurriculumDataset(reader)):
        batch, rows = reader[step], packed.steps[step]
        labels = [row.labels for row in rows]
        assert batch.tokens.tolist() == [row.tokens for row in rows]
        assert batch.labels.tolist() == example["labels"].tolist() == labels
        assert example["input_ids"].tolist() == [row.tokens[:-1] for row in rows]
        assert batch.piece_offset is not None
        assert batch.piece_offset.tolist() == [piece.offset for row in rows for piece in row.pieces[1:]]
        trained += sum(label != -100 for row in labels for label in row)
    assert trained == packed.manifest.accounting.trained_tokens


# What is counted


def test_verify_passes_and_counts_distinct_documents(packed: Packed) -> None:
    """A verify that cries wolf would be switched off. Documents per batch are those that rows begin with; random rows
    would have them by their share of the window's tokens."""
    report = verify_dataset(packed.root, quick=False, workers=1, progress=Silent())
    plan, distinct, expected = packed.manifest.plan, [], []
    if plan.mode == "document":  # short rows come in every cycle: there is no warmup to compare with random rows
        assert report.documents is None
        return
    for window in windows_of(packed.manifest):
        steps = packed.steps[window.first_step : window.stop_step]
        sizes: Counter[int] = Counter()
        for piece in pieces_of([row for step in steps for row in step]):
            sizes[piece.document] += len(piece.tokens)
        rows_per_step = plan.phases[0].rows_per_step
        at_random = sum(1 - (1 - size / sizes.total()) ** rows_per_step for size in sizes.values())
        for step in steps:
            if len(step[0].tokens) <= plan.max_seq_len:
                distinct.append(len({row.pieces[0].document for row in step}))
                expected.append(at_random)
    assert report.documents is not None
    assert (report.documents.num_steps, report.documents.distinct) == (len(distinct), sum(distinct))
    assert report.documents.expected == pytest.approx(sum(expected))


def test_accounting_is_that_of_the_rows(packed: Packed) -> None:
    """Token budgets and learning-rate schedules are computed from it."""
    manifest, stream, pieces = packed.manifest, packed.stream, pieces_of(packed.rows)
    slots = sum(len(row.tokens) - 1 for row in packed.rows)
    trained = sum(len(piece.tokens) - 1 for piece in pieces)
    counts = count_targets(pieces, len(stream.tokens))
    counts[stream.starts[:-1]] = 1
    consumed = consumed_tokens(manifest) if manifest.plan.mode == "best-fit" else -1
    truncated = int(np.count_nonzero(counts[: consumed + 1] == 0))
    begins = sum(piece.offset == stream.starts[piece.document] for piece in pieces)
    found = manifest.accounting
    left = found.corpus_tokens - found.validation_tokens - trained - truncated
    assert slots == manifest.plan.total_tokens
    assert (found.trained_tokens, found.padding_tokens) == (trained, slots - trained)
    assert (found.truncated_tokens, found.unused_tokens, found.repeated_tokens) == (
        truncated,
        max(0, left),
        max(0, -left),
    )
    assert found.context_tokens == begins


def test_packing_ratios_are_those_of_the_rows(packed: Packed) -> None:
    """`inspect --json` is what people choose a mode and a row length by."""
    build = summarize(packed.root).build
    assert build is not None
    packing, plan, rows = build["packing"], packed.manifest.plan, packed.rows
    slots = plan.total_tokens
    assert packing["padding_ratio"] == pytest.approx(sum(len(r.tokens) - r.num_tokens for r in rows) / slots)
    assert packing["concatenation_ratio"] == pytest.approx(len(pieces_of(rows)) / len(rows))
    for index, found in enumerate(packing["phases"]):
        of_phase = [row for row in rows if row.phase == index]
        slots_of_phase = plan.phases[index].num_tokens
        assert found["seq_len"] == plan.phases[index].seq_len
        padding = sum(len(row.tokens) - row.num_tokens for row in of_phase)
        assert found["padding_ratio"] == pytest.approx(padding / slots_of_phase)
        assert found["concatenation_ratio"] == pytest.approx(len(pieces_of(of_phase)) / len(of_phase))
    documents, split, truncated = _documents_by_window(packed)
    assert (packing["documents"], packing["documents_split"], packing["documents_truncated"]) == (
        documents,
        split,
        truncated,
    )
    assert packing["truncation_ratio"] == pytest.approx(truncated / documents)
    assert packing["dropped_targets"] == packed.manifest.accounting.truncated_tokens


def _documents_by_window(packed: Packed) -> tuple[int, int, int]:
    """(documents, split ones, split ones that a row would have held), each counted once in every window that has it."""
    plan, starts = packed.manifest.plan, packed.stream.starts
    totals = np.zeros(3, np.int64)
    for window in windows_of(packed.manifest):
        rows = [row for step in packed.steps[window.first_step : window.stop_step] for row in step]
        pieces, longest = pieces_of(rows), max(len(row.tokens) for row in rows)
        if plan.mode == "document":
            low, high, among = 0, int(starts[-1]), sorted({piece.document for piece in pieces})
        else:
            low, high = window.offset, window.offset + window.num_tokens + 1
            among = np.flatnonzero((starts[:-1] < high) & (starts[1:] > low)).tolist()
        sizes = {i: min(int(starts[i + 1]), high) - max(int(starts[i]), low) for i in among}
        sizes = {i: size for i, size in sizes.items() if size >= 2}
        whole = {piece.document for piece in pieces if len(piece.tokens) == sizes[piece.document]}
        split = [size for i, size in sizes.items() if i not in whole]
        totals += [len(sizes), len(split), sum(size <= longest for size in split)]
    documents, split_ones, truncated = totals.tolist()
    return documents, split_ones, truncated


# What people see


def test_every_row_is_traced_to_the_text_it_came_from(packed: Packed) -> None:
    """ "Which text was in step 180,000?": through seeds, epochs, partitions and parts of the store."""
    files = set()
    for step in range(0, len(packed.steps), 1 + len(packed.steps) // 9):
        rows = cat_rows(packed.root, step=step)
        assert len(rows) == len(packed.steps[step])
        for row, expected in zip(rows, packed.steps[step], strict=True):
            pieces = expected.pieces
            assert (row.token_ids, row.num_tokens) == (tuple(expected.tokens), expected.num_tokens)
            assert (row.offset, row.document) == (pieces[0].offset, pieces[0].document)
            assert row.doc_starts == tuple(piece.position for piece in pieces[1:])
            assert row.documents == tuple(piece.document for piece in pieces)
            assert row.file is not None
            assert row.position is not None
            assert _bytes(pieces[0].tokens) in text_at(packed.corpus, row.file, row.position)
            for text, piece in zip(row.texts, pieces, strict=True):
                plain = _bytes(piece.tokens)
                if plain.isascii() and b"endoftext" not in plain:
                    assert text.replace("<|endoftext|>", "").encode() == plain
            files.add(row.file)
    assert {"a.jsonl", "sub/b.jsonl.gz"} <= files


def _bytes(tokens: list[int]) -> bytes:
    return bytes(token for token in tokens if token != EOS)


def text_at(corpus: Path, file: str, position: int) -> bytes:
    """What stands at a place of the corpus, read without the project's own readers."""
    path = corpus / file
    if path.suffix == ".txt":
        return path.read_bytes()
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return str(json.loads(content[position:].split(b"\n", 1)[0])["text"]).encode()


@pytest.mark.filterwarnings("default")
def test_load_dataset_opens_a_phase_with_the_packed_columns(packed: Packed, tmp_path: Path) -> None:
    """Anyone can look at the rows, and mask them, without this project."""
    import datasets

    phase = packed.manifest.plan.phases[-1]
    index = len(packed.manifest.plan.phases) - 1
    name = f"phase-{index:05d}-len{phase.seq_len:07d}"
    found = datasets.load_dataset(str(packed.root), name, split="train", streaming=True)
    rows = [row for row in packed.rows if row.phase == index]
    for line, row in zip(found, rows, strict=True):
        assert line["tokens"] == row.tokens
        assert line["num_tokens"] == row.num_tokens
        assert line["doc_starts"] == [piece.position for piece in row.pieces[1:]]
        assert line["piece_offset"] == [piece.offset for piece in row.pieces[1:]]
        assert line["piece_document"] == [piece.document for piece in row.pieces[1:]]
