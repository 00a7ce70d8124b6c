"""`inspect` says what a dataset is; `cat` says what a row holds and which file it came from."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import curriculum
from curriculum.errors import ConfigError, DataError
from curriculum.printable import printable_text
from pipeline.build import BuildResult
from pipeline.progress import Silent
from pipeline.report_dataset import cat_report, summary_report, verify_report
from pipeline.rows import CatRow, cat_rows
from pipeline.summary import summarize
from pipeline.verify import verify_dataset

Build = Callable[..., BuildResult]


@pytest.fixture(scope="module")
def datasets(build_small: Build, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Datasets with their token stores; treat them as read-only."""
    folder = tmp_path_factory.mktemp("datasets")
    wanted: dict[str, dict[str, Any]] = {
        "segment": {"validation_tokens": 6_000},
        "truncate": {"mode": "truncate", "epochs": 2, "validation_frac": "0.1", "seed": 5},
        "cyclic": {"phases": "8:30,64:30,8:30", "start_length": None, "max_length": None, "unit_bytes": 10_000},
    }
    for name, options in wanted.items():
        build_small(folder / name, **options)
    return {name: folder / name for name in wanted}


def text_at(corpus: Path, file: str, position: int) -> str:
    """What stands at a place of the corpus, read without the project's own readers."""
    path = corpus / file
    if path.suffix == ".txt":
        return path.read_bytes().decode()
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return str(json.loads(content[position:].split(b"\n", 1)[0])["text"])


# cat


@pytest.mark.parametrize("name", ["segment", "truncate", "cyclic"])
def test_every_row_is_traced_to_the_text_it_came_from(corpus: Path, datasets: dict[str, Path], name: str) -> None:
    """ "Which text was in step 180,000?": through seeds, epochs, validation splits and parts of the store."""
    root = datasets[name]
    plan = curriculum.open(root).plan
    files = set()
    for step in range(0, plan.total_steps, 7):
        for row in cat_rows(root, step=step):
            assert row.file is not None
            assert row.position is not None
            first = [token for token in row.token_ids[: (*row.doc_starts, None)[0]] if token != 256]
            assert bytes(first) in text_at(corpus, row.file, row.position).encode()
            files.add(row.file)
    assert {"a.jsonl", "sub/b.jsonl.gz"} < files
    assert any(file.endswith(".txt") for file in files)


def test_a_row_is_what_the_reader_gives(datasets: dict[str, Path]) -> None:
    """Ids, offsets and boundaries are those that a trainer sees; texts are cut at the documents."""
    root = datasets["segment"]
    reader = curriculum.open(root)
    for step in (0, len(reader) - 1):
        batch = reader[step]
        rows = cat_rows(root, step=step)
        assert len(rows) == len(batch)
        positions, edges = batch.doc_starts
        for i, row in enumerate(rows):
            assert (row.step, row.phase, row.row_of_step, row.seq_len) == (step, batch.phase, i, batch.seq_len)
            assert row.token_ids == tuple(batch.tokens[i].tolist())
            assert row.doc_starts == tuple(positions[edges[i] : edges[i + 1]].tolist())
            assert (row.offset, row.document) == (batch.offset[i], batch.document[i])
            assert len(row.texts) == len(row.doc_starts) + 1
            assert all(text.endswith("<|endoftext|>") for text in row.texts[:-1])
            plain = bytes(token for token in row.token_ids if token != 256)
            assert not plain.isascii() or plain.decode() == row.text.replace("<|endoftext|>", "")
            assert json.loads(json.dumps(row.to_json()))["token_ids"] == batch.tokens[i].tolist()


def test_rows_of_a_phase_are_numbered_across_its_visits(datasets: dict[str, Path]) -> None:
    """A cyclic plan comes back to a phase: row 240 of phase 0 is the first row of step 60."""
    root = datasets["cyclic"]
    assert curriculum.open(root).plan.order == ((0, 30), (1, 30), (0, 30))
    (row,) = cat_rows(root, phase=0, row=240)
    assert (row.step, row.row_of_step, row.row) == (60, 0, 240)
    assert row == cat_rows(root, step=60)[0]
    assert cat_rows(root, phase=0, row=239)[0].step == 29
    assert [(r.step, r.row) for r in cat_rows(root, phase=1, limit=9)] == [(30 + i // 8, i) for i in range(9)]
    assert len(cat_rows(root, phase=1)) == 16
    assert len(cat_rows(root, step=0, limit=3)) == 3
    assert cat_rows(root, step=2, row=5) == [cat_rows(root, step=2)[5]]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "Give either a step or a phase"),
        ({"step": 1, "phase": 1}, "Give either a step or a phase"),
        ({"step": 90}, "step is 90; give one from 0 to 89"),
        ({"step": -1}, "step is -1; give one from 0 to 89"),
        ({"phase": 2}, "phase is 2; give one from 0 to 1"),
        ({"step": 3, "row": 8}, "row of step 3 is 8; give one from 0 to 7"),
        ({"phase": 1, "row": 240}, "row of phase 1 is 240; give one from 0 to 239"),
        ({"step": 3, "limit": 0}, "limit is 0; give 1 or more"),
    ],
)
def test_rows_that_do_not_exist_are_refused(datasets: dict[str, Path], asked: dict[str, int], message: str) -> None:
    """The sentence says which ones do."""
    with pytest.raises(ConfigError, match=message):
        cat_rows(datasets["cyclic"], **asked)


def test_without_its_store_a_dataset_still_shows_its_rows(datasets: dict[str, Path], tmp_path: Path) -> None:
    """A dataset from the hub has no store; one whose store moved is told where it is; another store is refused."""
    root, store = datasets["segment"], datasets["segment"].parent / "segment.store"
    shutil.copytree(root, tmp_path / "pulled")
    (tmp_path / "pulled" / "build-log.json").unlink()
    assert {(row.file, row.position) for row in cat_rows(tmp_path / "pulled", step=0)} == {(None, None)}
    with pytest.raises(ConfigError, match=r"there is no build-log\.json of this dataset"):
        cat_rows(tmp_path / "pulled", step=0, store=store)

    log = json.loads((root / "build-log.json").read_text("utf-8"))
    moved = {**log, "store": str(tmp_path / "gone")}
    (tmp_path / "pulled" / "build-log.json").write_text(json.dumps(moved), "utf-8")
    assert cat_rows(tmp_path / "pulled", step=0)[0].file is None
    assert cat_rows(tmp_path / "pulled", step=0, store=store) == cat_rows(root, step=0)
    with pytest.raises(ConfigError, match=r"its part [0-9a-f]{32} is missing\. Give the store that it was built with"):
        cat_rows(tmp_path / "pulled", step=0, store=tmp_path / "gone")

    other = {**log, "held_out_below": 0}
    (tmp_path / "pulled" / "build-log.json").write_text(json.dumps(other), "utf-8")
    with pytest.raises(ConfigError, match=r"its parts hold [\d,]+ training tokens, the dataset was cut from [\d,]+"):
        cat_rows(tmp_path / "pulled", step=0, store=store)


def test_only_the_shards_of_the_rows_are_needed(datasets: dict[str, Path], tmp_path: Path) -> None:
    """A dataset pulled in part serves what it has; a missing shard is named."""
    shutil.copytree(datasets["segment"], tmp_path / "part")
    shutil.rmtree(tmp_path / "part" / "phases" / "00007-len0000064")
    assert cat_rows(tmp_path / "part", step=0) == cat_rows(datasets["segment"], step=0)
    with pytest.raises(DataError, match=r"00007-len0000064/shard-0000\d\d\.arrow: the shard is missing"):
        cat_rows(tmp_path / "part", phase=7, row=0)
    summary = summarize(tmp_path / "part")
    assert summary.missing_shards == len(summary.manifest.phases[7].shards)
    assert f"{summary.missing_shards} of them missing" in summary_report(summary)
    (tmp_path / "part" / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r"tokenizer\.json: cannot be used to decode rows"):
        cat_rows(tmp_path / "part", step=0)


# Text on a terminal


HOSTILE = "a\x1b]0;owned\x07b\rc\x9b2Jd‮e\u200bf\ud800g\tü漢🙂"


def test_corpus_text_cannot_control_the_terminal() -> None:
    """Escape sequences, carriage returns, C1 codes, bidirectional overrides and invisible characters are shown."""
    shown = r"a\x1b]0;owned\x07b\rc\x9b2Jd\u202ee\u200bf\ud800g\tü漢🙂"
    assert printable_text(HOSTILE) == shown
    everything = "".join(map(chr, range(0x30000)))
    assert printable_text(everything).isprintable()
    row = CatRow(
        step=0,
        phase=0,
        row=0,
        row_of_step=0,
        seq_len=3,
        offset=7,
        document=1,
        doc_starts=(2,),
        documents=(1, 2),
        token_ids=(1, 2, 3, 4),
        num_tokens=4,
        texts=(HOSTILE + "\n", HOSTILE),
        file="evil\x1b[2J.txt",
        position=0,
    )
    report = cat_report([row])
    assert all(line.isprintable() for line in report.split("\n"))
    assert report.count(shown) == 2
    assert r"evil\x1b[2J.txt, position 0" in report


def test_reports_fit_80_columns(datasets: dict[str, Path]) -> None:
    """Only paths may be longer: a fact that is cut off or wrapped by the terminal is not readable."""
    for root in datasets.values():
        report = verify_dataset(root, quick=False, workers=1, progress=Silent())
        texts = [verify_report(report), summary_report(summarize(root)), cat_report(cat_rows(root, step=50))]
        lines = "\n".join(texts).split("\n")
        too_long = [line for line in lines if len(line) > 80 and str(root.parent) not in line]
        assert too_long == []


def test_the_report_of_a_row_reads_like_this(datasets: dict[str, Path]) -> None:
    """One line per row, the source, the text behind a rule, and a dotted line where a document starts."""
    rows = (row for step in range(400) for row in cat_rows(datasets["segment"], step=step))
    row = next(row for row in rows if row.doc_starts and "\n" not in row.texts[0] and len(row.texts[0]) < 70)
    lines = cat_report([row]).split("\n")
    assert lines[:4] == [
        f"step {row.step} row {row.row_of_step}   phase {row.phase} row {row.row}   "
        f"{row.seq_len} tokens at {row.offset:,} of the stream",
        f"  document {row.document} from {row.file}, position {row.position:,}",
        f"  | {row.texts[0]}",
        "  " + f" document {row.document + 1} from {row.doc_starts[0]} on ".center(78, "."),
    ]


# inspect


def test_a_summary_is_the_manifest_in_numbers(datasets: dict[str, Path]) -> None:
    """Every number can be checked against the files."""
    root = datasets["truncate"]
    reader = curriculum.open(root)
    found = summarize(root).to_json()
    assert json.loads(json.dumps(found)) == found
    assert (found["id"], found["mode"], found["seed"], found["dtype"]) == (reader.id, "truncate", 5, "uint16")
    assert found["total_tokens"] == sum(batch.targets.size for batch in reader.steps())
    assert [phase["num_steps"] for phase in found["phases"]] == [phase.num_steps for phase in reader.plan.phases]
    assert found["world_sizes"] == [1, 2, 4, 8]
    assert found["num_shapes"] == 8
    assert found["bytes_on_disk"] == sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    assert found["shards"] == sum(1 for _ in root.rglob("*.arrow"))
    stored = sum(path.stat().st_size for path in (root / "phases").rglob("*.arrow"))
    assert found["bytes_per_token"] == pytest.approx(stored / found["total_tokens"])
    assert 2 < found["bytes_per_token"] < 4
    percent = found["accounting_percent"]
    assert percent["corpus_tokens"] == 100
    parts = sum(percent[f"{name}_tokens"] for name in ("trained", "truncated", "validation", "unused"))
    assert parts - percent["repeated_tokens"] == pytest.approx(100)
    assert found["build"]["backend"] == "fastokens"
    assert np.isclose(percent["validation_tokens"], 10, atol=8)


def test_a_build_log_of_another_build_is_not_believed(datasets: dict[str, Path], tmp_path: Path) -> None:
    """It would name a store and times that have nothing to do with this dataset."""
    shutil.copytree(datasets["cyclic"], tmp_path / "copy")
    shutil.copy(datasets["segment"] / "build-log.json", tmp_path / "copy")
    assert summarize(tmp_path / "copy").build is None
    assert cat_rows(tmp_path / "copy", step=0)[0].file is None
    (tmp_path / "copy" / "build-log.json").write_bytes(b"\xff{")
    assert summarize(tmp_path / "copy").to_json()["build"] is None
    assert "tokens" in summary_report(summarize(tmp_path / "copy"))


def test_a_folder_without_a_dataset_is_named(tmp_path: Path) -> None:
    """The three commands refuse it in the same words."""
    for command in (summarize, lambda root: cat_rows(root, step=0)):
        with pytest.raises(DataError, match=r"not a curriculum dataset, it has no manifest\.json"):
            command(tmp_path)
