"""Where the lengths of documents come from: the store if it is the right one, else rows, and the page says which."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pipeline.page.document_lengths as module
from curriculum.reader import Reader
from pipeline.build import BuildResult
from pipeline.files.address import dataset_files
from pipeline.layout import read_build_log
from pipeline.page.document_lengths import DocumentLengths, LengthsUnknown, document_lengths
from pipeline.page.figures import lengths_figure


def found_in(dataset: Path, **changes: Any) -> DocumentLengths | LengthsUnknown:
    """Of a dataset whose build log says something else."""
    reader, files = Reader(dataset), dataset_files(dataset)
    log = read_build_log(files, reader.id)
    assert log is not None
    return document_lengths(files, reader.manifest, {**log, **changes}, reader)


def lengths_of(dataset: Path, **changes: Any) -> DocumentLengths:
    """Where they are known."""
    found = found_in(dataset, **changes)
    assert isinstance(found, DocumentLengths)
    return found


def why_unknown(dataset: Path) -> str:
    """Where they are not, the store being away; the sentence behind its beginning, which is always the same."""
    found = found_in(dataset, store="/nonexistent")
    assert isinstance(found, LengthsUnknown)
    assert found.why.startswith("How long documents are cannot be said: ")
    return found.why.removeprefix("How long documents are cannot be said: ")


def test_the_store_knows_every_document(small_dataset: Path) -> None:
    """As many documents and tokens as the manifest trains on."""
    manifest = Reader(small_dataset).manifest
    found = lengths_of(small_dataset)
    assert found.origin.startswith("All ")
    assert sum(one.tokens for one in found.bins) == manifest.sources[0].tokens - manifest.accounting.validation_tokens
    assert not found.is_open


def test_of_a_large_store_a_sample_is_taken(small_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Indexes of 10^9 documents are 56 GB: some parts are read, and the page says how many."""
    everything = lengths_of(small_dataset)
    monkeypatch.setattr(module, "MAX_INDEX_BYTES", 1)
    found = lengths_of(small_dataset)
    assert "A sample: 1 of its" in found.origin
    assert sum(one.documents for one in found.bins) < sum(one.documents for one in everything.bins)


@pytest.mark.parametrize(
    "changes",
    [
        {"store": "/nonexistent"},
        {"store": "s3://somebody/else"},
        {"parts": ["../../../../etc/passwd"]},
        {"parts": ["0123456789abcdef"]},
        {"parts": []},
        {"parts": 5},
        {"held_out_below": "many"},
        {"held_out_below": 0},  # then the store has more training tokens than the dataset was cut from: another one
    ],
    ids=lambda changes: "-".join(f"{key}-{value}" for key, value in changes.items())[:40].replace("/", "_"),
)
def test_another_store_is_not_believed(small_dataset: Path, changes: dict[str, Any]) -> None:
    """A log that is damaged, moved or somebody's trap: rows are asked, and the page says so."""
    found = lengths_of(small_dataset, **changes)
    assert found.origin.startswith("Estimated from ")
    assert found.is_open


def test_rows_tell_about_what_the_store_knows(small_dataset: Path) -> None:
    """Documents of fewer than 64 tokens, which rows of 64 can hold, are estimated within a factor of two."""
    counted, estimated = lengths_of(small_dataset), lengths_of(small_dataset, store="/nonexistent")

    def short(lengths: DocumentLengths) -> float:
        return sum(one.documents for one in lengths.bins if one.low < 64) / sum(one.documents for one in lengths.bins)

    assert 0 < short(counted) < 0.5
    assert short(counted) / 2 < short(estimated) < short(counted) * 2
    assert estimated.bins[-1].low == 64


@pytest.mark.parametrize(
    ("num_letters", "expected"),
    [
        (
            49,
            "of 21 that begin in 64 sampled rows of 16 tokens, one in every 49 tokens, none is seen to end. ",
        ),
        (5_000, "none begins inside 64 sampled rows of 16 tokens. The token store, "),
    ],
    ids=["some begin", "none begins"],
)
def test_documents_longer_than_their_rows(
    num_letters: int, expected: str, build_small: Callable[..., BuildResult], tmp_path: Path
) -> None:
    """Books in short rows: a whole dataset was said to lack the rows of its longest phase."""
    lines = [json.dumps({"text": f"{k % 10}" * num_letters}) + "\n" for k in range(5_000 // num_letters)]
    (tmp_path / "books.jsonl").write_text("".join(lines), "utf-8")
    out = tmp_path / "dataset"
    build_small(
        out, corpus=(str(tmp_path / "books.jsonl"),), phases="8:2,16:32", start_length=None, max_length=None,
        batch_rows=2, store=str(tmp_path / "store"),
    )  # fmt: skip
    assert why_unknown(out).startswith(expected)


def test_a_damaged_shard_is_not_a_missing_one(tiny: Path, tmp_path: Path) -> None:
    """Who is told that rows are not here looks for a pull that was cut short, and finds all files."""
    dataset = tmp_path / "dataset"
    shutil.copytree(tiny, dataset)
    shard = dataset / Reader(dataset).manifest.phases[-1].shards[0].path
    shard.write_bytes(shard.read_bytes()[:-1])
    assert why_unknown(dataset) == (
        "the token store is not on this disk, and rows of the longest phase cannot be read: `curriculum verify` says "
        "why."
    )
    shard.unlink()
    assert why_unknown(dataset) == "neither the token store nor all rows of the longest phase are here."


def test_pieces_in_packed_rows_are_no_documents(
    hostile_dataset: Path, build_small: Callable[..., BuildResult], tmp_path: Path
) -> None:
    """Without the store: best-fit rows hold pieces, and say so; in mode document a piece is as long as its row."""
    pieces = lengths_of(hostile_dataset, store="/nonexistent")
    figure = lengths_figure(pieces, 128)
    assert (pieces.what, figure.title, figure.table.columns[1]) == (
        "pieces",
        "How long the pieces in rows are",
        "pieces",
    )
    assert lengths_figure(lengths_of(hostile_dataset), 128).title == "How long documents are"
    (tmp_path / "short.txt").write_text("once upon a time " * 40, "utf-8")
    build_small(
        tmp_path / "dataset", corpus=(str(tmp_path / "short.txt"),), mode="document", batch_rows=1, max_length=32,
        store=str(tmp_path / "store"),
    )  # fmt: skip
    assert "rows of mode document are pieces of documents" in why_unknown(tmp_path / "dataset")
