"""Where the lengths of documents come from: the store if it is the right one, else rows, and the page says which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import pipeline.page.document_lengths as module
from curriculum.reader import Reader
from pipeline.files.address import dataset_files
from pipeline.layout import read_build_log
from pipeline.page.document_lengths import DocumentLengths, document_lengths


def lengths_of(dataset: Path, **changes: Any) -> DocumentLengths:
    """Of a dataset whose build log says something else."""
    reader, files = Reader(dataset), dataset_files(dataset)
    log = read_build_log(files, reader.id)
    assert log is not None
    found = document_lengths(files, reader.manifest, {**log, **changes}, reader)
    assert found is not None
    return found


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
