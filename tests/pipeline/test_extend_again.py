"""Extensions by new text that are repeated, stopped, refused, or have lost their token store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xxhash
from click.testing import CliRunner

import curriculum
import pipeline.merge_layout
import pipeline.publish
import pipeline.stream
from curriculum.errors import BuildError, ConfigError, CurriculumError, DataError, PlanError
from curriculum.manifest import load_manifest
from forged_shards import verify
from new_text import (
    STEPS,
    bytes_of,
    copy_of,
    cut_from,
    found_rows,
    grow,
    held_out_below,
    new_texts,
    write_texts,
)
from pipeline.build import BuildResult
from pipeline.cli import main
from pipeline.files.disk import DiskFiles
from pipeline.rows import cat_rows
from pipeline.store import claim_store
from small_corpus import real_texts

Build = Callable[..., BuildResult]


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
