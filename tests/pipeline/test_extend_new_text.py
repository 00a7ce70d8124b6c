"""A finished dataset goes on with text that was not in its corpus: whose rows those are, and what stays as it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from click.testing import CliRunner

import curriculum
import pipeline.merge_layout
import pipeline.publish
import pipeline.stream
from curriculum.cursor import Cursor
from curriculum.errors import CurriculumError, PlanError
from curriculum.manifest import load_manifest
from forged_shards import verify
from new_text import (
    EOS,
    STEPS,
    bytes_of,
    copy_of,
    found_rows,
    grow,
    held_out_below,
    new_texts,
    rows_of_extension,
    shards_of,
    stream_of,
    write_texts,
)
from pipeline.build import BuildResult
from pipeline.cli import main
from pipeline.rows import cat_rows
from pipeline.summary import summarize
from small_corpus import real_texts

Build = Callable[..., BuildResult]


@pytest.mark.parametrize("name", ["segment", "named", "truncate", "mixture", "two epochs"])
def test_rows_are_those_of_the_new_files(copy: Callable[[str], Path], new: Path, name: str) -> None:
    """Every row of the new steps, computed again from the file: ids, document starts, place in the stream."""
    dataset = copy(name)
    before, old = shards_of(dataset), curriculum.open(dataset)
    grow(dataset, f"new={new}")
    reader = curriculum.open(dataset, check=True)
    assert before.items() <= shards_of(dataset).items(), "earlier shards are untouched"
    for step in range(len(old)):
        assert np.array_equal(reader[step].tokens, old[step].tokens)
    manifest, source = reader.manifest, reader.manifest.sources[-1]
    stream = stream_of(new, "new", seed=manifest.seed, below=held_out_below(dataset))
    expected = rows_of_extension(
        manifest,
        len(manifest.phases) - 1,
        stream,
        used=0,
        offset=source.offset,
        document=source.first_document or 0,
    )
    assert found_rows(reader, range(len(old), len(reader))) == expected
    assert len(expected) == (len(stream) - 1) // (8 * 64) * 8, "as many whole steps as the text lasts for"
    verify(dataset)


def test_two_passes_have_an_order_each(copy: Callable[[str], Path], new: Path) -> None:
    """More steps than the text lasts for are refused, with --epochs allowed, and counted as repeated."""
    dataset = copy("named")
    with pytest.raises(
        PlanError, match=r"900 more steps of 512 .* source 'new' has .* last for \d+\. .* with --epochs"
    ):
        grow(dataset, f"new={new}", steps=900)
    grow(dataset, f"new={new}", epochs=2)
    reader = curriculum.open(dataset)
    source = reader.manifest.sources[-1]
    stream = stream_of(new, "new", seed=0, below=0, epochs=2)
    first = source.first_document or 0
    expected = rows_of_extension(
        reader.manifest, len(reader.manifest.phases) - 1, stream, used=0, offset=source.offset, document=first
    )
    assert found_rows(reader, range(STEPS, len(reader))) == expected
    assert len(expected) == (len(stream) - 1) // (8 * 64) * 8
    assert reader.manifest.accounting.repeated_tokens == 64 * len(expected) - source.tokens
    verify(dataset)


@pytest.mark.parametrize("name", ["segment", "named", "truncate", "mixture", "two epochs"])
def test_the_manifest_tells_the_new_source_and_adds_up(copy: Callable[[str], Path], new: Path, name: str) -> None:
    dataset = copy(name)
    old, below = curriculum.open(dataset).manifest, held_out_below(dataset)
    grow(dataset, f"new={new}", steps=5)
    manifest = curriculum.open(dataset).manifest
    texts = [json.loads(line)["text"].encode() for line in new.read_text("utf-8").splitlines()]
    held_out = sum(len(text) + 1 for text in texts if text and xxhash.xxh3_64_intdigest(text) < below)
    source = manifest.sources[-1]
    assert (source.name, source.documents) == ("new", len(texts) - 1)
    rows = [phase.num_rows for phase in manifest.plan.phases]
    assert source.weight == rows[-1] / sum(rows)
    assert sum(each.weight for each in manifest.sources) == pytest.approx(1)
    assert source.tokens == sum(len(text) + 1 for text in texts if text)
    assert source.validation_tokens == held_out
    assert (held_out > 0) == (below > 0), "the text was chosen to have some"
    was, now = old.accounting, manifest.accounting
    assert now.corpus_tokens - was.corpus_tokens == source.tokens
    assert now.validation_tokens - was.validation_tokens == held_out
    assert now.trained_tokens - was.trained_tokens == 5 * 8 * 64
    assert now.unused_tokens - was.unused_tokens == source.tokens - held_out - 5 * 8 * 64
    assert (now.documents - was.documents, now.empty_documents - was.empty_documents) == (len(texts) - 1, 1)
    assert (now.repeated_tokens, now.truncated_tokens) == (was.repeated_tokens, was.truncated_tokens)
    assert manifest.build.extensions[0].to_json() == {
        "parent": old.id,
        "first_step": old.plan.total_steps,
        "source": "new",
    }
    assert manifest.requires == ("added-sources", "extended", "mixture")
    assert manifest.validation == old.validation


def test_best_fit_packs_the_new_documents(copy: Callable[[str], Path], new: Path) -> None:
    """Every piece is what the new stream has there; no target is trained twice; the longest plan uses nearly all."""
    dataset = copy("best-fit")
    before = shards_of(dataset)
    grow(dataset, f"new={new}")
    grow(dataset, steps=2)
    assert before.items() <= shards_of(dataset).items()
    verify(dataset)
    reader = curriculum.open(dataset)
    manifest = reader.manifest
    assert manifest.requires == ("added-sources", "extended", "mixture", "packed")
    source = manifest.sources[-1]
    stream = stream_of(new, "new", seed=manifest.seed, below=held_out_below(dataset))
    trained: list[int] = []
    for step in range(STEPS, len(reader) - 2):
        batch = reader[step]
        positions, edges = batch.doc_starts
        for row in range(len(batch.tokens)):
            further = range(edges[row], edges[row + 1])
            starts = [0, *positions[edges[row] : edges[row + 1]].tolist(), int(batch.num_tokens[row])]
            offsets = [int(batch.offset[row]), *(int(batch.piece_offset[i]) for i in further)]
            documents = [int(batch.document[row]), *(int(batch.piece_document[i]) for i in further)]
            for number, (offset, document) in enumerate(zip(offsets, documents, strict=True)):
                tokens = batch.tokens[row][starts[number] : starts[number + 1]].tolist()
                place = offset - source.offset
                piece = stream[place : place + len(tokens)]
                assert tokens == [one.token for one in piece]
                assert {one.document + (source.first_document or 0) for one in piece} == {document}
                trained += range(place + 1, place + len(tokens))
    assert len(set(trained)) == len(trained)
    assert len(trained) > 0.9 * len(stream)


def test_document_beginnings_of_repeated_text_are_all_counted(build_small: Build, new: Path, tmp_path: Path) -> None:
    """Two passes store more of them than tokens are left unused; what new text leaves unused hides none of them."""
    dataset = tmp_path / "dataset"
    build_small(dataset, mode="best-fit", schedule="constant", start_length=None, epochs=2, steps=500)
    verify(dataset)
    grow(dataset, steps=2)
    was = load_manifest(dataset).accounting
    assert was.context_tokens > was.unused_tokens
    verify(dataset)
    grow(dataset, f"new={new}", steps=3)
    now = load_manifest(dataset).accounting
    assert now.unused_tokens > now.context_tokens > was.context_tokens
    verify(dataset)


def test_documents_of_the_new_source_follow_those_of_every_epoch(copy: Callable[[str], Path], new: Path) -> None:
    """Held-out ones have numbers as well, as docs/format.md says: 2 epochs of 121 documents."""
    dataset = copy("two epochs")
    grow(dataset, f"new={new}", steps=5)
    corpus, source = load_manifest(dataset).sources
    assert (corpus.documents, (corpus.validation_tokens or 0) >= 6_000) == (121, True)
    assert source.first_document == 242


EXTENSIONS: dict[str, list[tuple[tuple[str, ...], dict[str, int]]]] = {
    "unused, then new": [((), {"steps": 3}), (("new",), {})],
    "new, then another new": [(("new",), {"steps": 20}), (("more",), {"steps": 4})],
    "new, then unused of the corpus": [(("new",), {"steps": 4}), ((), {"steps": 3})],
    "new, then unused of new": [(("new",), {"steps": 4}), (("known:new",), {"steps": 5})],
    "new twice over": [(("new",), {"steps": 4}), (("known:new",), {"epochs": 2})],
    "all in turn": [
        (("new",), {"steps": 4}),
        ((), {"steps": 2}),
        (("more",), {"steps": 3}),
        (("known:new",), {"steps": 2}),
        ((), {"steps": 1}),
        (("known:more",), {}),
    ],
}


@pytest.mark.parametrize("order", EXTENSIONS)
@pytest.mark.parametrize("name", ["segment", "truncate", "mixture", "best-fit"])
def test_extensions_follow_one_another(
    copy: Callable[[str], Path], new: Path, tmp_path: Path, name: str, order: str
) -> None:
    """Each leaves what was there, is proved, and continues every dataset before it."""
    dataset = copy(name)
    more = write_texts(tmp_path / "m.jsonl", new_texts(90, 53))
    paths = {"new": f"new={new}", "more": f"more={more}", "known:new": "new", "known:more": "more"}
    parents = [curriculum.open(dataset).manifest]
    for sources, extent in EXTENSIONS[order]:
        before = shards_of(dataset)
        grow(dataset, *(paths[source] for source in sources), **extent)
        assert before.items() <= shards_of(dataset).items()
        parents.append(curriculum.open(dataset, check=True).manifest)
    verify(dataset)
    assert [entry.parent for entry in parents[-1].build.extensions] == [one.id for one in parents[:-1]]
    assert all(parents[-1].continues(one.id, one.plan.total_steps) for one in parents[:-1])
    for earlier, later in pairwise(parents):
        places = [(one.name, one.offset, one.first_document or 0) for one in later.sources]
        assert places[: len(earlier.sources)] == [
            (one.name, one.offset, one.first_document or 0) for one in earlier.sources
        ], "no source is moved by those that come later"
    if name != "best-fit":
        _require_tiled(dataset)


def _require_tiled(dataset: Path) -> None:
    """The rows of every source, laid end to end, begin at its place and leave no gap."""
    reader = curriculum.open(dataset)
    consumed = {step: reader.plan.consumed_per_row(reader.plan.locate(step)[0]) for step in range(len(reader))}
    rows = sorted(
        (int(offset), consumed[step], tokens)
        for step in range(len(reader))
        for offset, tokens in zip(reader[step].offset, reader[step].tokens, strict=True)
    )
    begins = {source.offset for source in reader.manifest.sources}
    for (offset, length, tokens), (after, _, following) in pairwise(rows):
        if after in begins:
            continue
        assert after == offset + length
        assert len(tokens) - 1 < length or tokens[-1] == following[0]


def test_workers_units_and_the_way_there_change_no_byte(cases: dict[str, Path], new: Path, tmp_path: Path) -> None:
    """And neither does a token store that is gone: the new text needs the dataset alone."""
    one = copy_of(cases["mixture"], tmp_path / "one")
    two = copy_of(cases["mixture"], tmp_path / "two")
    grow(one, f"new={new}")
    grow(two, f"new={new}", workers=2, store=tmp_path / "elsewhere", reading={"unit_bytes": 3_000})
    assert bytes_of(one) == bytes_of(two)
    assert (tmp_path / "elsewhere" / "store.json").exists()
    grow(two, "new", steps=1, epochs=2)
    grow(one, "new", steps=1, epochs=2, workers=2)
    assert bytes_of(one) == bytes_of(two), "where the tokens of a source are is remembered"
    grow(two, steps=1)
    verify(two)


def test_merged_parts_are_read_and_change_no_byte(
    cases: dict[str, Path], new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Very many parts: as in a build, larger ones are made of them first."""
    one, two = (copy_of(cases["segment"], tmp_path / name) for name in ("one", "two"))
    store = Path(shutil.copytree(f"{cases['segment']}.store", tmp_path / "store"))
    small = {"unit_bytes": 1_500}
    grow(one, f"new={new}", steps=10)
    grow(one, "new", steps=5)
    for name, value in {"SLICE_BYTES": 24_000, "OUTPUT_BYTES": 64_000, "FEW_SLICES": 2}.items():
        monkeypatch.setattr(pipeline.merge_layout, name, value)
    grow(two, f"new={new}", steps=10, store=store, reading=small)
    merged = list((store / "merged").rglob("*.arrow"))
    assert merged
    shutil.rmtree(store / "merged")
    grow(two, "new", steps=5, store=store)
    assert sorted((store / "merged").rglob("*.arrow")) == sorted(merged)
    assert bytes_of(one) == bytes_of(two)


def test_many_partitions_are_read_like_any_other_stream(
    build_small: Build, new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large source a window reads a few ranges of keys; a single-source build of it has the same order."""
    monkeypatch.setattr(pipeline.stream, "PARTITION_TOKENS", 4_000)
    dataset = tmp_path / "dataset"
    build_small(dataset, steps=20)
    grow(dataset, f"new={new}")
    verify(dataset)
    alone = build_small(
        tmp_path / "alone", corpus=(), source=(f"new={new}",), schedule="constant", start_length=None, steps=30
    )
    streams = []
    for path, first in ((dataset, 20), (alone.path, 0)):
        reader = curriculum.open(path)
        base = reader.manifest.sources[-1].offset
        rows = found_rows(reader, range(first, first + 30))
        streams.append({row["offset"] - base: row["tokens"] for row in rows})
    shared = streams[0].keys() & streams[1].keys()
    assert len(shared) > 100
    assert all(streams[0][offset] == streams[1][offset] for offset in shared)


def test_ids_are_taken_like_text(cases: dict[str, Path], tmp_path: Path) -> None:
    """New tokens may come from another tool; those of another tokenizer are refused."""
    texts = [text for text in new_texts() if text]
    (tmp_path / "t").mkdir()
    (tmp_path / "i").mkdir()
    pq.write_table(pa.table({"body": texts}), tmp_path / "t" / "n.parquet")
    ids = [[*text.encode(), EOS] for text in texts]
    pq.write_table(pa.table({"input_ids": ids}), tmp_path / "i" / "n.parquet")
    one, two = (copy_of(cases["named"], tmp_path / name) for name in ("one", "two"))
    grow(one, f"new={tmp_path / 't'}", reading={"text_key": "body"})
    tokenized = {"tokenized": "input_ids", "tokenizer": str(two / "tokenizer.json"), "backend": "auto"}
    grow(two, f"new={tmp_path / 'i'}", reading=tokenized)
    assert shards_of(one) == shards_of(two)
    pq.write_table(pa.table({"input_ids": [[300, 1, EOS]]}), tmp_path / "i" / "n.parquet")
    with pytest.raises(CurriculumError, match=r"300"):
        grow(two, f"more={tmp_path / 'i'}", reading=tokenized)
    verify(two)


def test_a_held_out_text_is_not_trained_on_by_way_of_new_text(copy: Callable[[str], Path], tmp_path: Path) -> None:
    """The new source is all of the corpus again: what was held out stays held out, to the token."""
    dataset = copy("segment")
    below, old = held_out_below(dataset), curriculum.open(dataset).manifest
    held_out = {t for t in real_texts() if t and xxhash.xxh3_64_intdigest(t.encode()) < below}
    assert held_out
    again = write_texts(tmp_path / "again.jsonl", real_texts())
    grow(dataset, f"again={again}")
    reader = curriculum.open(dataset)
    source = reader.manifest.sources[-1]
    assert source.validation_tokens == old.accounting.validation_tokens
    assert reader.manifest.validation == old.validation
    rows = sorted((row["offset"], row["tokens"]) for row in found_rows(reader, range(STEPS, len(reader))))
    stream = bytes(token % 256 for _, tokens in rows for token in tokens[:-1])
    trained = [text for text in real_texts() if len(text) > 80 and text.encode() in stream]
    assert trained
    assert not held_out & set(trained)
    verify(dataset)


def test_a_run_goes_on_across_the_border_from_any_step(copy: Callable[[str], Path], new: Path) -> None:
    """On any number of ranks, with the cursor of the dataset before or of the longer one."""
    dataset = copy("segment")
    parent = curriculum.open(dataset).id
    grow(dataset, f"new={new}", steps=6)
    reader = curriculum.open(dataset)
    whole = [batch.tokens.tolist() for batch in reader.steps(start=0)]
    for start in range(STEPS - 3, STEPS + 7):
        for world in (1, 2, 4):
            shares = [list(reader.steps(start=start, rank=rank, world_size=world)) for rank in range(world)]
            joined = [[row for share in step for row in share.tokens.tolist()] for step in zip(*shares, strict=True)]
            assert joined == whole[start:]
    for step in (0, STEPS - 1, STEPS):
        assert next(iter(reader.steps(start=Cursor(parent, step)))).step == step
    with pytest.raises(CurriculumError, match="or an extension of it"):
        next(iter(reader.steps(start=Cursor(parent, STEPS + 1))))


@pytest.mark.filterwarnings("default")
def test_the_card_names_the_new_phase(copy: Callable[[str], Path], new: Path) -> None:
    """`load_dataset` opens it by name, and `inspect`, `cat` and the report tell where its rows come from."""
    import datasets

    dataset = copy("segment")
    grow(dataset, f"new={new}", steps=2)
    manifest = load_manifest(dataset)
    index = len(manifest.phases) - 1
    found = datasets.load_dataset(str(dataset), f"phase-{index:05d}-len0000064", split="train", streaming=True)
    reader = curriculum.open(dataset)
    expected = [row for step in (STEPS, STEPS + 1) for row in reader[step].tokens.tolist()]
    assert [line["tokens"] for line in found] == expected
    shown = cat_rows(dataset, step=STEPS)
    assert {(row.source, row.file) for row in shown} == {("new", "n.jsonl")}
    lines = new.read_bytes().decode()
    for row in shown:
        text = json.loads(lines.encode()[row.position :].split(b"\n")[0])["text"]
        assert row.texts[0].removesuffix("<|endoftext|>") in text
    assert cat_rows(dataset, step=0)[0].source == "corpus"
    use = summarize(dataset).use
    assert use is not None
    assert use.to_json()[1]["phases"][index]["rows"] == 16
    run = CliRunner().invoke(main, ["inspect", str(dataset)])
    assert "extended by steps 60 to 61 of source new, from" in run.stdout
