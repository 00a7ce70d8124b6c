"""A finished dataset goes on with text that was not in its corpus: whose rows those are, and what stays as it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

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
from curriculum.errors import BuildError, ConfigError, CurriculumError, DataError, PlanError
from curriculum.manifest import load_manifest
from forged_shards import columns_of, forge_manifest, read_manifest, verify, write_columns, write_manifest
from new_text import (
    EOS,
    bytes_of,
    copy_of,
    found_rows,
    grow,
    new_texts,
    rows_of_extension,
    shards_of,
    stream_of,
    write_texts,
)
from pipeline.build import BuildResult
from pipeline.cli import main
from pipeline.files.disk import DiskFiles
from pipeline.rows import cat_rows
from pipeline.store import claim_store
from pipeline.summary import summarize
from small_corpus import real_texts

Build = Callable[..., BuildResult]
STEPS = 60
MIXED = ("a=2", "b=1")


@pytest.fixture(scope="module")
def cases(build_small: Build, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A short dataset of each kind; treat them as read-only."""
    folder = tmp_path_factory.mktemp("new-text")
    mixture = {"corpus": (), "source": (f"a={corpus / 'a.jsonl'}", f"b={corpus / 'sub'}"), "weight": MIXED}
    options: dict[str, dict[str, Any]] = {
        "segment": {"validation_tokens": 6_000},
        "named": {"corpus": (), "source": (f"code={corpus}",)},
        "truncate": {"mode": "truncate", "seed": 3},
        "best-fit": {"mode": "best-fit", "validation_tokens": 6_000},
        "mixture": {**mixture, "validation_tokens": 6_000},
        "two epochs": {
            "schedule": "constant",
            "start_length": None,
            "steps": 600,
            "epochs": 3,
            "validation_tokens": 6_000,
        },
    }
    for name, own in options.items():
        build_small(folder / name, **{"steps": STEPS, **own})
    return {name: folder / name for name in options}


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The new text; three of its documents are also in the corpus, so that some of it may be held out."""
    texts = [*new_texts(), *real_texts()[3:40]]
    return write_texts(tmp_path_factory.mktemp("new") / "n.jsonl", texts)


@pytest.fixture
def copy(cases: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a case; its log names the store of the original."""
    return lambda name: copy_of(cases[name], tmp_path / "copy")


def cut_from(dataset: Path) -> Path:
    return Path(json.loads((dataset / "build-log.json").read_bytes())["store"])


def held_out_below(dataset: Path) -> int:
    return int(json.loads((dataset / "build-log.json").read_bytes())["held_out_below"])


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


@pytest.mark.parametrize("left_behind", [False, True])
def test_a_store_that_was_moved_is_named_once(build_small: Build, new: Path, tmp_path: Path, left_behind: bool) -> None:
    """From then on the log says where it is: `cat` names files, and the next extension needs no --store."""
    dataset, store, moved = (tmp_path / name for name in ("d", "d.store", "moved"))
    build_small(dataset, steps=20)
    if left_behind:  # the new text is in a copy
        shutil.copytree(store, moved)
    grow(dataset, f"new={new}", steps=2)
    if not left_behind:
        store.rename(moved)
    grow(dataset, steps=2, store=moved)
    grow(dataset, "new", steps=3)
    grow(dataset, steps=1)
    assert json.loads((dataset / "build-log.json").read_bytes())["store"] == str(moved)
    for step in (0, 21, len(curriculum.open(dataset)) - 1):
        assert all(row.file for row in cat_rows(dataset, step=step))


def test_the_report_says_which_steps_are_new(copy: Callable[[str], Path], new: Path) -> None:
    """And what to do for more, where there is nothing to do; the card tells the lineage and the sources."""
    dataset = copy("segment")
    before = (dataset / "README.md").read_text("utf-8")
    assert ("extended" in before, "| source |" in before) == (False, False)
    ids, said = [], []
    for command in (
        ["--steps", "1"],
        ["--source", f"new={new}", "--steps", "2"],
        ["--source", f"new={new}", "--steps", "2"],
    ):
        ids.append(curriculum.open(dataset).id)
        run = CliRunner().invoke(main, ["extend", str(dataset), "--workers", "1", "--backend", "tokenizers", *command])
        assert run.exit_code == 0, run.output
        said.append(run.stdout)
    assert f"new     step 60, after {ids[0]}\n" in said[0]
    assert f"new     steps 61 to 62 of source new, after {ids[1]}\n" in said[1]
    last = load_manifest(dataset).sources[-1]
    assert last.validation_tokens
    share = f"{last.validation_tokens:,} of {last.tokens:,} tokens are held out by the rule of the build"
    assert [f"held    new: {share}\n" in report for report in said] == [False, True, True]
    assert "is finished already; nothing to do; for more steps, ask for more than 63 with --total-steps." in said[2]
    card = (dataset / "README.md").read_text("utf-8")
    assert (
        f"- extended by step 60, from `{ids[0]}`\n- extended by steps 61 to 62 of source new, from `{ids[1]}`" in card
    )
    (source,) = [line for line in card.splitlines() if line.startswith("| `new` |") and "%" in line]
    assert source.split(" | ")[3:5] == [f"{last.validation_tokens:,}", f"{2 * 8 * 64:,}"]
    run = CliRunner().invoke(main, ["inspect", str(dataset)])
    assert "extensions" not in run.stdout
    assert f"extended by step 60, from\n         {ids[0]}\n" in run.stdout
    assert json.loads(CliRunner().invoke(main, ["extend", str(dataset), "--total-steps", "63", "--json"]).stdout)[
        "extensions"
    ] == [entry.to_json() for entry in load_manifest(dataset).build.extensions]


def test_the_same_command_again_has_nothing_to_do(copy: Callable[[str], Path], new: Path) -> None:
    """New text is not added twice, whatever was added after it; other files under its name are refused."""
    dataset = copy("segment")
    assert not grow(dataset, f"new={new}", steps=2).already_finished
    again = grow(dataset, f"new={new}", steps=2)
    assert (again.already_finished, again.manifest.plan.total_steps) == (True, STEPS + 2)
    with pytest.raises(ConfigError, match=r"has a source 'new' already .* its unused tokens .* --source new\. Give"):
        grow(dataset, f"new={new}", steps=3)
    grow(dataset, steps=1)
    again = grow(dataset, f"new={new}", steps=2)
    assert (again.already_finished, again.manifest.plan.total_steps) == (True, STEPS + 3)
    with pytest.raises(PlanError, match=rf"total_steps is 63, and the dataset has {STEPS + 3} without the new text"):
        grow(dataset, f"more={new}", total_steps=63)
    assert grow(dataset, "new", total_steps=64).manifest.plan.total_steps == 64
    with pytest.raises(ConfigError, match="no source 'neu', but corpus, new"):
        grow(dataset, "neu", total_steps=64)


def test_all_that_is_left_is_taken_once_whatever_came_after(copy: Callable[[str], Path], new: Path) -> None:
    """A script that is run again: nothing is left of what its first line took, which is no error."""
    dataset = copy("segment")
    for _ in range(2):
        grow(dataset)
        grow(dataset, f"new={new}", steps=2)
        grow(dataset, "new", epochs=2)
        grow(dataset, f"more={new}", steps=1)
    assert load_manifest(dataset).plan.num_extensions == 4
    with pytest.raises(PlanError, match="no step of 512 tokens more: source 'corpus' has"):
        grow(dataset, steps=1)
    assert not grow(dataset, "more").already_finished
    grow(dataset, "more", epochs=2, steps=1)
    assert not grow(dataset, "more").already_finished, "an epoch was begun since, and there is some of it left"


@pytest.mark.parametrize(
    ("extent", "message"),
    [
        ({"steps": 0}, r"^steps is 0; an extension has 1 or more\.$"),
        ({"tokens": 10}, r"^tokens is 10; a step trains 512"),
        ({"total_steps": 5}, r"^total_steps is 5, and the dataset has 60 without the new text"),
    ],
)
def test_a_number_that_cannot_be_is_refused_before_text_is_read(
    copy: Callable[[str], Path], new: Path, tmp_path: Path, extent: dict[str, int], message: str
) -> None:
    """To tokenize may take a day."""
    with pytest.raises(PlanError, match=message):
        grow(copy("segment"), f"new={new}", store=tmp_path / "untouched", **extent)
    assert not (tmp_path / "untouched").exists()


def test_a_store_is_planned_as_before_when_new_text_is_in_it(
    copy: Callable[[str], Path], new: Path, tmp_path: Path
) -> None:
    """What is added to a dataset is no corpus to plan beside the one that the store was made for."""
    dataset = copy("segment")
    store = Path(shutil.copytree(cut_from(dataset), tmp_path / "store"))
    command = ["plan", "--tokenizer", "bytes", "--max-length", "64", "--workers", "1", "--json", "--store"]
    before = CliRunner().invoke(main, [*command, str(store)])
    assert before.exit_code == 0, before.stderr
    grow(dataset, f"new={new}", steps=2, store=store)
    assert CliRunner().invoke(main, [*command, str(store)]).stdout == before.stdout
    grow(dataset, f"more={new}", steps=2, store=tmp_path / "other")
    alone = CliRunner().invoke(main, [*command, str(tmp_path / "other")])
    assert (alone.exit_code, "added to a dataset by `curriculum extend`" in alone.stderr) == (2, True)


def test_the_store_of_a_source_is_missed_by_its_name(copy: Callable[[str], Path], new: Path, tmp_path: Path) -> None:
    """Of several stores, which one has to come back?"""
    dataset = copy("segment")
    grow(dataset, f"new={new}", steps=2, store=tmp_path / "s")
    (tmp_path / "s").rename(tmp_path / "moved")
    claim_store(DiskFiles(folder=str(tmp_path / "empty"), aside="aside"))
    with pytest.raises(
        ConfigError, match=r"s: there is no token store, .* from the one that source 'new' was added with"
    ):
        grow(dataset, "new", steps=1)
    with pytest.raises(ConfigError, match=r"is missing\. Give the store that source 'new' was added with as --store"):
        grow(dataset, "new", steps=1, store=tmp_path / "empty")
    with pytest.raises(ConfigError, match=r"is missing\. Give the store that it was built with as --store"):
        grow(dataset, steps=1, store=tmp_path / "moved")


class Stop(Exception):
    """What ends an attempt."""


@pytest.mark.parametrize("fatal", [6, 9, 12])
@pytest.mark.parametrize("then", ["other text", "unused"])
def test_stopped_half_way_it_may_become_something_else(
    cases: dict[str, Path], new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str, fatal: int
) -> None:
    """The text is edited, or another extension is wanted: nothing of the one that was stopped is left."""
    dataset, clean = (copy_of(cases["segment"], tmp_path / name) for name in ("dataset", "clean"))
    text = tmp_path / "n.jsonl"
    shutil.copy(new, text)
    real, count = pipeline.publish.os.replace, 0

    def replace_file(source: Any, target: Any) -> None:
        nonlocal count
        count += 1
        if count == fatal:
            raise Stop
        real(source, target)

    monkeypatch.setattr(pipeline.publish.os, "replace", replace_file)
    with pytest.raises(Stop):
        grow(dataset, f"new={text}", steps=30, store=tmp_path / "store")
    monkeypatch.setattr(pipeline.publish.os, "replace", real)
    assert (dataset / ".build" / "request.json").exists() == (fatal > 6)
    if then == "other text":
        write_texts(text, new_texts(140, 37))
        grow(dataset, f"new={text}", steps=30, store=tmp_path / "store")
        grow(clean, f"new={text}", steps=30, store=tmp_path / "other-store")
    else:
        grow(dataset, steps=4)
        grow(clean, steps=4)
    assert bytes_of(dataset) == bytes_of(clean)
    verify(dataset)


@pytest.mark.parametrize(
    ("name", "texts", "sources", "extent", "error", "message"),
    [
        ("segment", [""], ["new={}"], {}, BuildError, r"holds no text"),
        (
            "segment",
            ["x" * 500],
            ["new={}"],
            {},
            PlanError,
            r"no step of 512 .* source 'new' has 501 tokens .* Give more",
        ),
        (
            "segment",
            ["x" * 600],
            ["new={}"],
            {"steps": 2},
            PlanError,
            r"2 more .* source 'new' has 601 .* last for 1\. .*epochs",
        ),
        ("segment", ["x" * 600], ["corpus={}"], {}, ConfigError, r"'corpus' already .* without --source\. Give new"),
        ("mixture", ["x" * 600], ["b={}"], {}, ConfigError, r"has a source 'b' already \(of a, b\)"),
        ("mixture", ["x" * 600], ["b"], {}, ConfigError, r"'b' is one of 2 .* they go on together; leave --source out"),
        ("mixture", ["x" * 600], ["new"], {}, ConfigError, r"no source 'new', but a, b; new text is --source new=PATH"),
        ("segment", ["x" * 600], ["new={}", "more={}"], {}, ConfigError, r"several sources are given"),
        ("segment", ["x" * 600], ["new={}", "corpus"], {}, ConfigError, r"several sources are given"),
        ("segment", ["x" * 600], ["new={}/none"], {}, ConfigError, r"Source 'new': There is no file or folder"),
    ],
)
def test_what_cannot_be_added_says_why_and_changes_nothing(
    copy: Callable[[str], Path],
    tmp_path: Path,
    name: str,
    texts: list[str],
    sources: list[str],
    extent: dict[str, int],
    error: type[CurriculumError],
    message: str,
) -> None:
    dataset, path = copy(name), write_texts(tmp_path / "n.jsonl", texts)
    before = bytes_of(dataset)
    with pytest.raises(error, match=message):
        grow(dataset, *(source.format(path) for source in sources), **extent)
    assert bytes_of(dataset) == before


def test_text_that_is_all_held_out_is_refused(copy: Callable[[str], Path], tmp_path: Path) -> None:
    dataset = copy("segment")
    below = held_out_below(dataset)
    held_out = [text for text in real_texts() if text and xxhash.xxh3_64_intdigest(text.encode()) < below]
    path = write_texts(tmp_path / "n.jsonl", held_out)
    with pytest.raises(PlanError, match="nothing but texts that the dataset has held out"):
        grow(dataset, f"new={path}")


@pytest.mark.parametrize(("content", "message"), [(None, "missing"), (b"{}", "not the tokenizer of this dataset")])
def test_another_tokenizer_is_refused(
    copy: Callable[[str], Path], new: Path, content: bytes | None, message: str
) -> None:
    """Ids of another vocabulary would train nonsense."""
    dataset = copy("segment")
    (dataset / "tokenizer.json").unlink()
    if content is not None:
        (dataset / "tokenizer.json").write_bytes(content)
    with pytest.raises(DataError, match=rf"tokenizer\.json: {message}, so new text cannot get the ids"):
        grow(dataset, f"new={new}")


def test_the_eos_and_bos_are_those_of_the_dataset(build_small: Build, new: Path, tmp_path: Path) -> None:
    """By their ids, whatever the tokenizer's configuration beside it said: "0" may be the text of another token."""
    from pipeline.tokenizer import train_tokenizer

    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "tokenizer.json").write_text(train_tokenizer(real_texts(), 400), "utf-8")
    (tmp_path / "t" / "tokenizer_config.json").write_text('{"eos_token": "z", "bos_token": "q"}')
    dataset = tmp_path / "dataset"
    build_small(dataset, tokenizer=str(tmp_path / "t"), bos="document", steps=20)
    entry = load_manifest(dataset).tokenizer
    grow(dataset, f"new={new}", steps=10)
    reader = curriculum.open(dataset)
    seen = 0
    for row in found_rows(reader, range(20, 30)):
        for start in row["starts"]:
            seen += 1
            assert (row["tokens"][start - 1], row["tokens"][start]) == (entry.eos_id, entry.bos_id)
    assert seen > 10
    verify(dataset)


def test_mode_document_is_refused_before_text_is_read(build_small: Build, tmp_path: Path, new: Path) -> None:
    build_small(tmp_path / "d", mode="document", steps=40)
    with pytest.raises(PlanError, match="mode document cannot be extended"):
        grow(tmp_path / "d", f"new={new}", store=tmp_path / "untouched")
    assert not (tmp_path / "untouched" / "parts").exists()


@pytest.fixture(scope="module")
def longer(cases: dict[str, Path], new: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Extended by new text, then from the corpus; treat it as read-only."""
    dataset = copy_of(cases["segment"], tmp_path_factory.mktemp("longer") / "dataset")
    grow(dataset, f"new={new}", steps=20)
    grow(dataset, steps=5)
    return dataset


def last_shard(dataset: Path, phase_from_end: int) -> str:
    return load_manifest(dataset).phases[-phase_from_end].shards[0].path


def test_a_flipped_bit_of_the_new_text_is_found(longer: Path, tmp_path: Path) -> None:
    dataset = copy_of(longer, tmp_path / "copy")
    path = dataset / last_shard(dataset, 2)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"{path.name}: .*sha256"):
        verify(dataset)


LIES = {
    "swapped": r"row 0 has the stream offset \d+, expected \d+",
    "shifted": r"row 0 has the stream offset \d+, expected \d+",
    "of the corpus": r"row 0 has the stream offset \d+, expected \d+",
    "token": r"row \d+ begins with the token \d+, but the row before it in the stream .* ends with \d+",
    "document": r"begins source 'new' in document \d+, the manifest says \d+",
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_about_new_rows_are_found(longer: Path, tmp_path: Path, lie: str) -> None:
    """Digests are made to fit: the rows themselves contradict the seed, the stream or the sources."""
    dataset = copy_of(longer, tmp_path / "copy")
    for number, shard in enumerate(load_manifest(dataset).phases[-2].shards):
        columns = columns_of(dataset, shard.path)
        if lie == "document":
            columns.document = columns.document + np.uint64(1)
        elif number:
            break
        elif lie == "swapped":
            columns.tokens[[0, 1]], columns.offset[[0, 1]] = columns.tokens[[1, 0]], columns.offset[[1, 0]]
        elif lie == "shifted":
            columns.offset = columns.offset + np.uint64(64)
        elif lie == "of the corpus":
            columns.offset[0] -= np.uint64(load_manifest(dataset).sources[-1].offset)
        else:
            row = next(i for i, starts in enumerate(columns.starts) if 1 not in starts)
            columns.tokens[row, 0] = 65 if columns.tokens[row, 0] != 65 else 66
        write_columns(dataset, shard.path, columns)
    with pytest.raises(DataError, match=LIES[lie]):
        verify(dataset)


def test_documents_of_packed_new_text_are_counted_from_their_first(copy: Callable[[str], Path], new: Path) -> None:
    """Where rows are packed no window shows it alone; the gaps of the source's stream do."""
    dataset = copy("best-fit")
    grow(dataset, f"new={new}", steps=8)
    for shard in load_manifest(dataset).phases[-1].shards:
        columns = columns_of(dataset, shard.path)
        columns.document = columns.document + np.uint64(1)
        columns.piece_document = [[one + 1 for one in row] for row in columns.piece_document or []]
        write_columns(dataset, shard.path, columns)
    with pytest.raises(DataError, match=r"accounting: (truncated|context)_tokens is \d+, the shards give"):
        verify(dataset)


def test_borders_between_windows_of_a_source_are_compared_across_others(longer: Path, tmp_path: Path) -> None:
    """The corpus goes on after the new text: what lies between them is of another stream."""
    dataset = copy_of(longer, tmp_path / "copy")
    path = last_shard(dataset, 1)
    columns = columns_of(dataset, path)
    row = int(np.argmin(columns.offset))
    columns.tokens[row, 0] = 65 if columns.tokens[row, 0] != 65 else 66
    columns.starts[row] = [start for start in columns.starts[row] if start != 1]
    write_columns(dataset, path, columns)
    with pytest.raises(DataError, match=r"begins with the token 6[56], the window before it ends with"):
        verify(dataset)


def set_in(*keys: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        place: Any = manifest
        for key in keys[:-1]:
            place = place[key]
        if to is None:
            del place[keys[-1]]
        else:
            place[keys[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_in("requires", to=["extended", "mixture"]), r"requires is .*, but .* requires \['added-sources',"),
        (set_in("requires", to=["added-sources", "extended", "later", "mixture"]), r"'later', which this release does"),
        (set_in("build", "extensions", 0, "source", to=None), r"requires is"),
        (set_in("build", "extensions", 0, "source", to="other"), r"extensions added \['other'\], expected as the last"),
        (set_in("build", "extensions", 1, "source", to="new"), r"mixture of phase \d+ is \[1, 0\], but .* 'new' alone"),
        (set_in("build", "mixture", 0, to=[1, 1]), r"mixture of phase 0 is \[1, 1\], but .* source 'corpus' alone"),
        (set_in("build", "extensions", 0, "source", to=3), r"source is 3"),
        (set_in("sources", 0, "name", to="a\n<b>"), r"a source is named 'a\\n<b>', expected up to 64 letters"),
        (set_in("sources", 0, "name", to="a|\x1b[31m"), r"a source is named 'a\|\\x1b\[31m', expected"),
        (
            set_in("build", "extensions", 1, "parent", to="`<script>"),
            r"parent of extension 1 is '`<script>', expected the",
        ),
        (set_in("tokenizer", "sha256", to="`<script>"), r"sha256 is '`<script>', expected 64 digits"),
    ],
)
def test_a_reader_refuses_a_manifest_that_contradicts_itself(
    longer: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    """Before any shard is opened; a release that does not know the feature refuses by its name."""
    dataset = copy_of(longer, tmp_path / "copy")
    manifest = read_manifest(dataset)
    assert manifest["requires"] == ["added-sources", "extended", "mixture"]
    change(manifest)
    write_manifest(dataset, manifest, fix_id=True)
    with pytest.raises(DataError, match=message):
        load_manifest(dataset)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offset": 64}, r"source 'new' has the offset \d+ .* plan and mixture give"),
        (
            {"first_document": 1},
            r"source 'new' begins with document \d+, expected \d+: .* documents 1 times",
        ),
        ({"validation_tokens": 7}, r"validation_tokens is \d+, the sources give \d+"),
    ],
)
def test_a_forged_place_of_the_new_source_is_found(
    longer: Path, tmp_path: Path, changes: dict[str, int], message: str
) -> None:
    dataset = copy_of(longer, tmp_path / "copy")
    first, last = load_manifest(dataset).sources
    moved = {name: getattr(last, name) + by for name, by in changes.items()}
    forge_manifest(dataset, sources=(first, replace(last, **moved)))
    with pytest.raises(DataError, match=message):
        verify(dataset)


def test_fewer_documents_before_the_new_source_are_found(longer: Path, tmp_path: Path) -> None:
    """Rows of the corpus show some ordinals only; the place of the source after it tells how many there are."""
    dataset = copy_of(longer, tmp_path / "copy")
    manifest = load_manifest(dataset)
    first, last = manifest.sources
    accounting = replace(manifest.accounting, documents=manifest.accounting.documents - 7)
    forge_manifest(dataset, sources=(replace(first, documents=first.documents - 7), last), accounting=accounting)
    with pytest.raises(DataError, match=r"source 'new' begins with document \d+, expected \d+: .* documents 1 times"):
        verify(dataset)


def test_the_command(copy: Callable[[str], Path], new: Path, tmp_path: Path) -> None:
    dataset = copy("segment")
    run = CliRunner().invoke(
        main, ["extend", str(dataset), "--source", f"new={new}", "--tokens", "2000", "--workers", "1", "--json"]
    )
    assert run.exit_code == 0, run.output
    found = json.loads(run.stdout)
    assert (found["total_steps"], [source["name"] for source in found["sources"]]) == (63, ["corpus", "new"])
    run = CliRunner().invoke(main, ["extend", str(dataset), "--source", "new", "--steps", "1", "--workers", "1"])
    assert (run.exit_code, "64 steps" in run.stdout) == (0, True)
    run = CliRunner().invoke(main, ["extend", str(dataset), "--text-key", "body"])
    assert (run.exit_code, "text_key is given, which says how new text is read" in run.stderr) == (2, True)
    run = CliRunner().invoke(main, ["extend", str(dataset), "--source", "=x"])
    assert (run.exit_code, "write NAME=PATH" in run.stderr) == (2, True)
