"""A build gives the same bytes whatever did the work, and every token is where the accounting says."""

from __future__ import annotations

import filecmp
import json
import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import curriculum
from curriculum.errors import BuildError, PlanError
from pipeline.build import BuildResult
from pipeline.tokenizer import load_tokenizer
from small_corpus import dataset_files, expected_documents, read_rows

Build = Callable[..., BuildResult]


def assert_same_dataset(one: Path, other: Path) -> None:
    """`diff -r`, build-log.json aside."""
    files = dataset_files(one)
    assert files == dataset_files(other)
    different = [name for name in files if not filecmp.cmp(one / name, other / name, shallow=False)]
    assert different == []


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"workers": 2}, id="2 workers"),
        pytest.param({"workers": 4}, id="4 workers"),
        pytest.param({"unit_bytes": 10_000}, id="small units"),
        pytest.param({"unit_bytes": 777, "workers": 2}, id="tiny units"),
        pytest.param({"backend": "tokenizers"}, id="the reference backend"),
        pytest.param({}, id="a second run"),
        pytest.param({"frac": Decimal("0.30"), "schedule": "linear", "max_length": 64}, id="defaults written out"),
    ],
)
def test_the_same_request_gives_the_same_bytes(
    small_dataset: Path, build_small: Build, tmp_path: Path, options: dict[str, Any]
) -> None:
    """Else nobody could check, share or resume a dataset that another machine built."""
    build_small(tmp_path / "again", validation_tokens=6_000, **options)
    assert_same_dataset(small_dataset, tmp_path / "again")


def test_a_trained_tokenizer_does_not_depend_on_workers_or_units(build_small: Build, tmp_path: Path) -> None:
    """Training takes the documents with the smallest keys, not the first that some worker happened to read."""
    for name, options in {"one": {"workers": 1}, "two": {"workers": 2, "unit_bytes": 5_000}}.items():
        build_small(tmp_path / name, tokenizer="train:400", **options)
    assert_same_dataset(tmp_path / "one", tmp_path / "two")


def test_moving_the_corpus_or_passing_its_files_changes_nothing(
    corpus: Path, small_dataset: Path, build_small: Build, tmp_path: Path
) -> None:
    """Keys come from paths relative to the argument: another disk, or another argument order, is the same corpus."""
    moved = tmp_path / "elsewhere"
    shutil.copytree(corpus, moved)
    build_small(tmp_path / "out", corpus=(str(moved),), validation_tokens=6_000)
    assert_same_dataset(small_dataset, tmp_path / "out")


def test_other_seeds_give_other_orders_of_the_same_tokens(
    small_dataset: Path, build_small: Build, tmp_path: Path
) -> None:
    """The seed chooses the order and nothing else."""
    build_small(tmp_path / "seed1", validation_tokens=6_000, seed=1)
    first, second = (curriculum.open(path) for path in (small_dataset, tmp_path / "seed1"))
    assert first.id != second.id
    assert not np.array_equal(first[0].tokens, second[0].tokens)
    assert first.manifest.accounting == second.manifest.accounting
    assert first.manifest.sources == second.manifest.sources


def test_rows_laid_back_by_offset_are_the_documents_each_once(corpus: Path, build_small: Build, tmp_path: Path) -> None:
    """Segment mode: every token of every document is trained on exactly once, except what accounting names."""
    build_small(tmp_path / "out")
    reader = curriculum.open(tmp_path / "out")
    stream = read_rows(reader)
    accounting = reader.manifest.accounting
    assert len(stream) == accounting.trained_tokens + 1
    documents = expected_documents(corpus)
    found = [bytes(part.astype(np.uint8)) for part in np.split(stream, np.flatnonzero(stream == 256) + 1)]
    whole, tail = [text[:-1] if text else text for text in found[:-1]], found[-1]
    left = sorted(documents)
    for text in whole:
        left.remove(text)  # ValueError: a document that is not of the corpus, or twice
    assert any(text.startswith(tail) for text in left), "the last row may end inside a document"
    unused = sum(len(text) + 1 for text in left) - len(tail)
    assert unused + accounting.context_tokens == accounting.unused_tokens
    assert accounting.documents == len(documents)
    assert accounting.empty_documents == 1


def test_truncate_mode_keeps_the_beginning_of_each_full_row(build_small: Build, tmp_path: Path) -> None:
    """The paper's mode: rows are cut at max_length and keep their first seq_len + 1 tokens; the rest is counted."""
    build_small(tmp_path / "full", schedule="constant", start_length=None, mode="truncate", steps=40)
    build_small(tmp_path / "cut", mode="truncate", steps=40)
    full, cut = curriculum.open(tmp_path / "full"), curriculum.open(tmp_path / "cut")
    stream = read_rows(full)
    for step in range(len(cut)):
        batch = cut[step]
        for offset, row in zip(batch.offset.tolist(), batch.tokens, strict=True):
            assert offset % 64 == 0
            assert np.array_equal(row, stream[offset : offset + len(row)])
    a = cut.manifest.accounting
    assert a.truncated_tokens == sum(8 * (64 - cut[step].seq_len) for step in range(len(cut))) > 0


def test_epochs_repeat_the_corpus_in_another_order(corpus: Path, build_small: Build, tmp_path: Path) -> None:
    """Every epoch holds every document once; the border between epochs loses no target."""
    build_small(tmp_path / "out", epochs=3)
    reader = curriculum.open(tmp_path / "out")
    a = reader.manifest.accounting
    assert a.repeated_tokens == a.trained_tokens - a.corpus_tokens
    assert a.corpus_tokens * 3 - 1 - a.trained_tokens < 8 * 64, "the budget lands on the last whole step"
    assert (a.unused_tokens, a.context_tokens) == (0, 0)
    stream = read_rows(reader)
    epochs = [stream[i * a.corpus_tokens : (i + 1) * a.corpus_tokens] for i in range(2)]
    ordered = [sorted(bytes(d.astype(np.uint8)) for d in np.split(e, np.flatnonzero(e == 256) + 1)) for e in epochs]
    assert ordered[0] == ordered[1] == sorted([text + b"\0" for text in expected_documents(corpus)] + [b""])
    assert not np.array_equal(epochs[0], epochs[1])


def test_held_out_texts_never_reach_training(
    corpus: Path, small_dataset: Path, build_small: Build, tmp_path: Path
) -> None:
    """Duplicates go to the same side, and the choice depends on neither seed nor schedule."""
    reader = curriculum.open(small_dataset)
    assert reader.validation is not None
    rows = [batch.tokens for batch in reader.validation.batches(3)]
    held_out = np.concatenate([r[:, :-1].reshape(-1) for r in rows])
    trained = {bytes(d.astype(np.uint8)) for d in _documents(read_rows(reader))}
    complete = [bytes(d.astype(np.uint8)) for d in _documents(held_out)]
    assert len(complete) >= 2
    assert not trained & set(complete)
    assert sum(len(r) for r in rows) == len(reader.validation)
    build_small(tmp_path / "other", validation_tokens=6_000, seed=9, schedule="constant", start_length=None)
    other = curriculum.open(tmp_path / "other").validation
    assert other is not None
    assert np.array_equal(np.concatenate([b.tokens for b in other.batches(8)]), np.concatenate(rows))


def test_bos_opens_each_document(corpus: Path, build_small: Build, tmp_path: Path) -> None:
    """`--bos document` puts the token before every document and counts it."""
    build_small(tmp_path / "out", bos="document")
    reader = curriculum.open(tmp_path / "out")
    assert reader.manifest.tokenizer.bos_id == 256  # the byte tokenizer has one token for both, as GPT-2
    stream = read_rows(reader)
    assert stream[0] == 256
    ends = np.flatnonzero(stream == 256)
    # EOS of one document and BOS of the next are neighbours; the stream begins with a BOS alone.
    assert np.array_equal(np.diff(ends[1:])[::2], np.ones(len(ends[1:]) // 2))
    plain = sum(len(text) + 2 for text in expected_documents(corpus))
    assert reader.manifest.accounting.corpus_tokens == plain


def test_doc_starts_come_from_document_lengths(small_dataset: Path) -> None:
    """Attention masks are built from them: each follows an EOS, and `document` counts on by them."""
    reader = curriculum.open(small_dataset)
    for step in range(len(reader)):
        batch = reader[step]
        positions, row_offsets = batch.doc_starts
        for row in range(len(batch)):
            starts = positions[row_offsets[row] : row_offsets[row + 1]]
            after_eos = np.flatnonzero(batch.tokens[row, :-1] == 256) + 1
            assert starts.tolist() == after_eos.tolist()


def test_a_finished_build_is_not_repeated(small_dataset: Path, build_small: Build) -> None:
    """Running the same command again costs nothing and says so."""
    manifest = small_dataset / "manifest.json"
    before = manifest.stat().st_mtime_ns
    result = build_small(small_dataset, validation_tokens=6_000)
    assert result.already_finished
    assert manifest.stat().st_mtime_ns == before


def test_other_options_never_replace_a_dataset_by_accident(small_dataset: Path, build_small: Build) -> None:
    """A typo must not cost a finished dataset: the refusal names what differs."""
    with pytest.raises(BuildError, match=r"seed was 0, now 5.*--overwrite"):
        build_small(small_dataset, validation_tokens=6_000, seed=5)
    assert (small_dataset / "manifest.json").exists()


def test_overwrite_replaces_and_uses_the_store_again(build_small: Build, tmp_path: Path) -> None:
    """A new seed costs a cut, not a tokenization, and nothing of the old dataset stays."""
    build_small(tmp_path / "out", steps=60)
    parts = {path: path.stat().st_mtime_ns for path in (tmp_path / "out.store" / "parts").rglob("*.tokens")}
    build_small(tmp_path / "out", steps=20, seed=3, overwrite=True)
    build_small(tmp_path / "fresh", steps=20, seed=3)
    assert_same_dataset(tmp_path / "out", tmp_path / "fresh")
    assert {path: path.stat().st_mtime_ns for path in parts} == parts


def test_a_folder_with_other_files_is_never_touched(build_small: Build, tmp_path: Path) -> None:
    """Not even with --overwrite: it is not ours."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("ten years of work")
    with pytest.raises(BuildError, match=r"holds 'thesis.tex' and is not a curriculum dataset"):
        build_small(tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "thesis.tex").read_text() == "ten years of work"


def test_one_more_file_encodes_only_that_file(corpus: Path, build_small: Build, tmp_path: Path) -> None:
    """The store is what makes growing corpora cheap."""
    grown = tmp_path / "grown"
    shutil.copytree(corpus, grown)
    build_small(tmp_path / "one", corpus=(str(grown),), store=str(tmp_path / "store"))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store" / "parts").rglob("*.*")}
    (grown / "new.jsonl").write_text(json.dumps({"text": "one more document"}) + "\n")
    build_small(tmp_path / "two", corpus=(str(grown),), store=str(tmp_path / "store"))
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "store" / "parts").rglob("*.*")}
    assert {path: after[path] for path in before} == before
    assert len(after) == len(before) + 2


def test_a_damaged_store_part_is_noticed_and_encoded_again(
    small_dataset: Path, build_small: Build, tmp_path: Path
) -> None:
    """A flipped bit in the store must not travel into every dataset that is cut from it."""
    build_small(tmp_path / "one", validation_tokens=6_000)
    tokens = max((tmp_path / "one.store" / "parts").rglob("*.tokens"), key=lambda path: path.stat().st_size)
    data = bytearray(tokens.read_bytes())
    data[1000] ^= 1
    tokens.write_bytes(data)
    build_small(tmp_path / "two", validation_tokens=6_000, store=str(tmp_path / "one.store"))
    assert_same_dataset(small_dataset, tmp_path / "two")


def test_without_keep_store_only_the_dataset_stays(small_dataset: Path, build_small: Build, tmp_path: Path) -> None:
    """--no-keep-store leaves one folder."""
    build_small(tmp_path / "out", validation_tokens=6_000, keep_store=False)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert_same_dataset(small_dataset, tmp_path / "out")


def test_two_builds_in_one_folder_are_refused(build_small: Build, tmp_path: Path) -> None:
    """Else both would write the same files."""
    from pipeline.lock import locked

    with locked(tmp_path / "out"), pytest.raises(BuildError, match="another process is writing there"):
        build_small(tmp_path / "out")


def test_a_budget_beyond_the_corpus_is_refused_before_cutting(build_small: Build, tmp_path: Path) -> None:
    """The message says how many steps fit, and how many epochs would do."""
    with pytest.raises(PlanError, match="epochs"):
        build_small(tmp_path / "out", steps=100_000)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_the_tokenizer_travels_with_the_dataset(small_dataset: Path) -> None:
    """A dataset explains itself anywhere."""
    info = load_tokenizer(str(small_dataset / "tokenizer.json"), eos=None, bos="none")
    assert info.sha256 == curriculum.open(small_dataset).manifest.tokenizer.sha256


def _documents(stream: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """Complete documents of a stream from its beginning: the last piece may end anywhere."""
    return np.split(stream, np.flatnonzero(stream == 256) + 1)[:-1]
