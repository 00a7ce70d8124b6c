"""Memory of a build does not grow with the corpus; `benchmarks/memory.py` measures the same on gigabytes."""

from __future__ import annotations

import gzip
import json
import pickle
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import curriculum
import pipeline.build
import pipeline.census
import pipeline.corpus_backend
import pipeline.cut_validation
import pipeline.encode
import pipeline.part
import pipeline.stored_documents
import pipeline.stream
from pipeline.build import BuildResult, prepare_plan
from pipeline.census import take_census
from pipeline.files.address import store_files
from pipeline.option_sources import load_options
from pipeline.part_index import read_part
from pipeline.progress import Silent
from pipeline.store_names import index_name, numbered
from pipeline.stream import lay_out_stream, read_interval
from pipeline.usable_parts import usable_parts
from small_corpus import dataset_files, real_texts

Build = Callable[..., BuildResult]


def write_corpus(path: Path, num_bytes: int, *, compressed: bool = False) -> Path:
    """Documents of about 2 kB, drawn from the small corpus."""
    texts, draw = real_texts(), random.Random(7)
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", compresslevel=1) if compressed else path.open("w", encoding="utf-8") as file:
        while num_bytes > 0:
            text = draw.choice(texts)
            file.write(json.dumps({"text": text}) + "\n")
            num_bytes -= len(text)
    return path


def peak_of(action: Callable[[], object]) -> int:
    """Highest sum of what Python and numpy allocated meanwhile, in bytes."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What bounds memory, at a thousandth of its size, so that a corpus of some MB is many times as large."""
    monkeypatch.setattr(pipeline.part, "PART_BYTES", 50_000)
    monkeypatch.setattr(pipeline.corpus_backend, "SAMPLED_UNITS", 2)
    monkeypatch.setattr(pipeline.encode, "BATCH_CHARS", 10_000)
    monkeypatch.setattr(pipeline.stream, "PARTITION_TOKENS", 40_000)
    monkeypatch.setattr(pipeline.stored_documents, "MAX_READ_TOKENS", 20_000)


@pytest.mark.parametrize("compressed", [False, True], ids=["lines", "one compressed file"])
def test_the_peak_of_a_build_does_not_grow_with_the_corpus(
    build_small: Build, tmp_path: Path, small_limits: None, compressed: bool
) -> None:
    """A corpus that is larger than memory must build on the same machine as a small one."""

    def peak(name: str, num_bytes: int) -> int:
        corpus = write_corpus(tmp_path / name / f"a.jsonl{'.gz' * compressed}", num_bytes, compressed=compressed)
        options: dict[str, Any] = {"unit_bytes": 50_000, "shuffle_window": 50_000, "shard_bytes": 50_000}
        options |= {
            "corpus": (str(corpus),),
            "start_length": 256,
            "max_length": 512,
            "multiple_of": 256,
            "validation_frac": "0.02",
        }
        return peak_of(lambda: build_small(tmp_path / name / "out", **options))

    peak("warm", 150_000)  # what is imported and cached by the first build is no growth
    small, large = peak("1", 200_000), peak("5", 1_000_000)
    assert large <= 1.15 * small, (small, large)


def parts_of(store_folder: Path) -> dict[str, list[str]]:
    """Names of the parts of every unit in a store, in order."""
    found: dict[str, list[str]] = {}
    for stem in sorted(path.stem for path in (store_folder / "parts").rglob("*.arrow")):
        found.setdefault(stem.split("-")[0], []).append(stem)
    return found


def test_a_compressed_file_gives_parts_of_bounded_size_and_the_same_dataset(
    build_small: Build, corpus: Path, small_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a part ends is a matter of memory, not of the data; counts of what was left out still add up."""
    monkeypatch.setattr(pipeline.part, "PART_BYTES", 6_000)
    result = build_small(tmp_path / "out", validation_tokens=6_000, store=str(tmp_path / "store"))
    for name in dataset_files(small_dataset):
        assert (tmp_path / "out" / name).read_bytes() == (small_dataset / name).read_bytes(), name
    store, units = store_files(tmp_path / "store"), parts_of(tmp_path / "store")
    assert max(map(len, units.values())) >= 5
    summaries = []
    for unit, names in units.items():
        assert names == [numbered(unit, number) for number in range(len(names))]
        of_unit = [read_part(store, name)[0] for name in names]
        assert [part.continues for part in of_unit] == [True] * (len(names) - 1) + [False]
        assert all(6_000 <= part.text_bytes < 6_000 + 4_300 for part in of_unit[:-1])  # and one document more
        summaries += of_unit
    assert sum(part.tokens for part in summaries) == result.manifest.accounting.corpus_tokens
    assert sum(part.empty_documents for part in summaries) == result.manifest.accounting.empty_documents


@pytest.mark.parametrize("lost", [0, 1, -1])
def test_a_unit_is_complete_only_with_all_of_its_parts(
    build_small: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    """Killed between two parts, the unit is read again; else the rest of a file would be missing from a corpus."""
    monkeypatch.setattr(pipeline.part, "PART_BYTES", 10_000)
    corpus = write_corpus(tmp_path / "a.jsonl.gz", 60_000, compressed=True)
    options = {"corpus": (str(corpus),), "store": str(tmp_path / "store"), "max_length": 16}
    build_small(tmp_path / "first", **options)
    ((unit, names),) = parts_of(tmp_path / "store").items()
    store = store_files(tmp_path / "store")
    store.remove(index_name(names[lost]))
    assert usable_parts(store, unit, 2)[0] == ()
    build_small(tmp_path / "second", **options)
    assert len(usable_parts(store, unit, 2)[0]) == len(names)
    manifests = [(tmp_path / name / "manifest.json").read_bytes() for name in ("first", "second")]
    assert manifests[0] == manifests[1]


def test_a_window_of_very_many_small_documents_takes_little_more_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys, hashes and positions are let go once documents are in order: it took 244 bytes of each, now 131."""
    monkeypatch.setattr(pipeline.stream, "PARTITION_TOKENS", 10_000)
    monkeypatch.setattr(pipeline.stored_documents, "MAX_READ_TOKENS", 10_000)
    count = 40_000
    (tmp_path / "a.jsonl").write_text("".join(f'{{"text":"{n:05}"}}\n' for n in range(count)), "utf-8")
    options = {"corpus": (str(tmp_path / "a.jsonl"),), "tokenizer": "bytes", "max_length": 64, "workers": 1}
    planned, tokenized = prepare_plan(load_options(None, {**options, "out": str(tmp_path / "out")}), Silent())
    pieces = lay_out_stream(planned.stream, tokenized.tokens)
    assert len(pieces) == 24
    peak = peak_of(lambda: read_interval(planned.stream, pieces, 0, tokenized.tokens - 1))
    assert peak / count < 150


def test_what_the_parent_holds_of_a_part_is_small(build_small: Build, tmp_path: Path) -> None:
    """300,000 parts of 10 T tokens are then 0.2 GB in the process that leads the build."""
    files = tmp_path / "corpus"
    files.mkdir()
    for number in range(300):
        (files / f"{'n' * 100}{number}.txt").write_text("text")
    lines = ["{broken"] * 100 + [json.dumps({"text": "text"})]
    (files / "a.jsonl").write_text("\n".join(lines))
    held: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.build, "plan_corpus", lambda options, corpus, *rest: held.append(corpus) or 1 / 0)
        merge = pipeline.build.merge_parts
        patch.setattr(
            pipeline.build, "merge_parts", lambda store, parts, *rest: held.extend(parts) or merge(store, parts, *rest)
        )
        with pytest.raises(ZeroDivisionError):
            build_small(tmp_path / "out", corpus=(str(files),), on_bad_record="skip")
    *parts, stored = held
    assert all(len(pickle.dumps(part)) < 600 for part in parts)
    assert len(pickle.dumps(stored)) < 300 + 40 * len(parts)


def test_held_out_documents_are_cut_a_range_at_a_time(
    build_small: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1 % of a huge corpus is more than fits in memory; rows and places are those of one range."""
    options = {"validation_frac": "0.3", "start_length": 64, "unit_bytes": 20_000, "store": str(tmp_path / "store")}
    build_small(tmp_path / "one", **options)
    asked: list[tuple[int, int]] = []
    read = pipeline.cut_validation.held_out_documents

    def watched(spec: Any, low: int, high: int) -> Any:
        asked.append((low, high))
        return read(spec, low, high)

    monkeypatch.setattr(pipeline.cut_validation, "held_out_documents", watched)
    monkeypatch.setattr(pipeline.cut_validation, "DOCUMENTS_AT_ONCE", 3)
    build_small(tmp_path / "many", **options)
    assert len(asked) >= 8
    for name in dataset_files(tmp_path / "one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "many" / name).read_bytes(), name
    reader = curriculum.open(tmp_path / "many")
    assert reader.validation is not None


def test_lengths_are_counted_in_an_array_and_the_longest_one_by_one(tmp_path: Path, build_small: Build) -> None:
    """A count for every length of a large corpus would be a large dictionary; documents of any length still count."""
    build_small(tmp_path / "out", store=str(tmp_path / "store"))
    names = tuple(name for names in parts_of(tmp_path / "store").values() for name in names)
    store = store_files(tmp_path / "store")
    with pytest.MonkeyPatch.context() as patch:
        whole = take_census(store, names)
        patch.setattr(pipeline.census, "DENSE_LENGTHS", 700)
        divided = take_census(store, names)
    assert np.array_equal(whole.lengths, divided.lengths)
    assert np.array_equal(whole.counts, divided.counts)
    assert whole.lengths[-1] > 700
