"""A thousand tiny parts, merged or not, give the same dataset; merged parts are kept, checked and made again."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pipeline.merge
import pipeline.merge_layout
import pipeline.stored_documents
import pipeline.stream
from pipeline.build import BuildResult
from pipeline.files.address import store_files
from pipeline.part_index import read_index, read_part
from pipeline.progress import Silent
from pipeline.rows import cat_rows
from pipeline.verify import verify_dataset
from small_corpus import dataset_files, real_texts

Build = Callable[..., BuildResult]
CASES: dict[str, dict[str, Any]] = {
    "segment": {"validation_tokens": 6_000},
    "segment-epochs": {"epochs": 2, "seed": 3, "validation_frac": "0.05"},
    "truncate": {"mode": "truncate", "bos": "none"},
    "best-fit": {"mode": "best-fit", "validation_tokens": 3_000},
    "document": {"mode": "document", "batch_rows": 2},
}


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in memory where the system has one: a thousand parts would wait long for a real disk."""
    place = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=place if os.access(place, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def lines(memory: Path) -> Path:
    """1,200 short documents, one to a unit."""
    folder = memory / "corpus"
    folder.mkdir()
    texts = [text[start : start + 80] for text in real_texts() for start in range(0, min(len(text), 2_000), 80)]
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[:1_200]), "utf-8")
    return folder


@pytest.fixture(autouse=True)
def small_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five partitions, as a large corpus has."""
    monkeypatch.setattr(pipeline.stream, "PARTITION_TOKENS", 20_000)


@pytest.fixture
def small_merges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds for a corpus of 100 kB: three, over four ranges of keys."""
    monkeypatch.setattr(pipeline.merge_layout, "SLICE_BYTES", 24_000)
    monkeypatch.setattr(pipeline.merge_layout, "OUTPUT_BYTES", 64_000)
    monkeypatch.setattr(pipeline.merge_layout, "FEW_SLICES", 5)


@pytest.fixture(scope="module")
def build_lines(build_small: Build, lines: Path, memory: Path) -> Build:
    """Builds of the short documents: one part each in one store, twelve hundred in the other."""

    def run(out: Path, *, many: bool, **options: Any) -> BuildResult:
        store = str(memory / ("many" if many else "one"))
        units = {"unit_bytes": 100 if many else 10**6}
        values = {"corpus": (str(lines),), "store": store, "shuffle_window": 40_000, **units, **options}
        return build_small(out, **values)

    return run


@pytest.fixture(scope="module")
def unmerged(build_lines: Build, memory: Path) -> Callable[[str], Path]:
    """The dataset of a case, from one part."""

    def of(case: str) -> Path:
        out = memory / f"unmerged-{case}"
        build_lines(out, many=False, **CASES[case])
        return out

    return of


def assert_same(one: Path, other: Path) -> None:
    """Every file, build-log.json aside."""
    assert dataset_files(one) == dataset_files(other)
    for name in dataset_files(one):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.parametrize("case", CASES)
def test_a_thousand_merged_parts_give_the_bytes_of_one_part(
    build_lines: Build, unmerged: Callable[[str], Path], memory: Path, small_merges: None, case: str
) -> None:
    """Else how a corpus happened to be divided would decide what a model is trained on."""
    expected = unmerged(case)
    out = memory / f"merged-{case}"
    result = build_lines(out, many=True, **CASES[case])
    assert_same(expected, out)
    merged = sorted((memory / "many" / "merged").rglob("*.arrow"))
    assert len(merged) >= 4
    assert len(list((memory / "many" / "parts").rglob("*.arrow"))) > 1_000
    if case == "segment":
        verify_dataset(out, quick=False, workers=1, progress=Silent())
        assert cat_rows(result.path, step=0)[0].file == "a.jsonl"


def test_merged_parts_hold_every_document_once_and_say_where_it_was(
    build_lines: Build, memory: Path, small_merges: None
) -> None:
    """`file` points at the part that the document came from, where its place in the corpus is told."""
    out = memory / "places"
    result = build_lines(out, many=True)
    names = [path.stem for path in sorted((memory / "many" / "merged").rglob("*.arrow"))]
    store = store_files(memory / "many")
    counts = {"of the corpus": 0, "of merged parts": 0}
    for name in names:
        summary, index = read_part(store, name)
        sources = [read_index(store, source) for source in summary.files]
        for file, low in zip(index.file.tolist()[:50], index.key_low.tolist()[:50], strict=True):
            assert low in sources[file].key_low
        is_first_round = not summary.files[0].startswith("merged-")
        counts["of the corpus" if is_first_round else "of merged parts"] += summary.documents
    assert result.manifest.sources[0].documents == 1_200
    assert counts == {"of the corpus": 1_200, "of merged parts": 2 * 1_200}


def test_no_merge_is_repeated_and_a_damaged_part_is_merged_anew(
    build_lines: Build, memory: Path, small_merges: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second schedule costs no second merge; a flipped bit in a merged part never reaches a dataset."""
    build_lines(memory / "first", many=True)
    merged = sorted((memory / "many" / "merged").rglob("*.tokens"))
    stamps = {path: path.stat().st_mtime_ns for path in merged}
    data = bytearray(merged[0].read_bytes())
    data[100] ^= 1
    merged[0].write_bytes(data)
    merged[1].unlink()
    build_lines(memory / "second", many=True)
    assert_same(memory / "first", memory / "second")
    again = [path for path in merged if path.stat().st_mtime_ns != stamps[path]]
    assert again == merged[:2]


def test_a_build_that_ends_in_the_middle_of_a_merge_goes_on(
    build_lines: Build, memory: Path, small_merges: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens without an index are no part: the next run writes that one again, and keeps those before it."""
    build_lines(memory / "whole", many=True)
    shutil.rmtree(memory / "many" / "merged")
    write = pipeline.merge.write_index
    written: list[Any] = []

    def stopped(*arguments: Any) -> None:
        if len(written) == 3:
            raise KeyboardInterrupt
        write(*arguments)
        written.append(arguments)

    monkeypatch.setattr(pipeline.merge, "write_index", stopped)
    with pytest.raises(KeyboardInterrupt):
        build_lines(memory / "stopped", many=True)
    kept = {path: path.stat().st_mtime_ns for path in (memory / "many" / "merged").rglob("*.arrow")}
    assert len(kept) == 3
    assert len(list((memory / "many" / "merged").rglob("*.tokens"))) == 4
    monkeypatch.setattr(pipeline.merge, "write_index", write)
    build_lines(memory / "stopped", many=True)
    assert_same(memory / "whole", memory / "stopped")
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in kept.items())


def test_without_room_the_parts_are_read_as_they_are(
    build_lines: Build,
    unmerged: Callable[[str], Path],
    memory: Path,
    small_merges: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Merging is a matter of speed: a disk that has no room for it must not stop a build, nor change it."""
    monkeypatch.setattr(pipeline.merge, "_has_room", lambda *arguments: False)
    expected = unmerged("segment")
    build_lines(memory / "no-room", many=True, **CASES["segment"])
    assert_same(expected, memory / "no-room")


def test_files_and_maps_stay_few_with_thousands_of_parts(
    build_lines: Build, memory: Path, monkeypatch: pytest.MonkeyPatch, small_merges: None
) -> None:
    """`ulimit -n` is 1,024 and `vm.max_map_count` 65,530 on most machines: no step holds a part of the store open
    while it looks at the next."""
    most = {"reads": 0, "files": 0, "maps": 0}
    read = pipeline.stored_documents.read_index
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the listing itself opens one

    def watched(*arguments: Any) -> Any:
        index = read(*arguments)
        most["reads"] += 1
        if most["reads"] % 61 == 0:
            maps = Path("/proc/self/maps").read_text()
            most["maps"] = max(most["maps"], maps.count("/parts/") + maps.count("/merged/"))
            most["files"] = max(most["files"], len(os.listdir("/proc/self/fd")) - before)  # noqa: PTH208
        return index

    for reader in (pipeline.stored_documents, pipeline.stream):
        monkeypatch.setattr(reader, "read_index", watched)
    build_lines(memory / "few", many=True, seed=11)
    monkeypatch.setattr(pipeline.merge, "_has_room", lambda *arguments: False)
    build_lines(memory / "few-unmerged", many=True, seed=11)
    assert most["reads"] > 3_000
    assert 1 <= most["maps"] <= 3
    assert most["files"] <= 6
