"""Corpora by name, hf:ORG/NAME, against a server that gives out git repositories over the Hub's API (olah)."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curriculum.errors import ConfigError
from pipeline.hub import split
from pipeline.hub.access import Resolved, resolve
from pipeline.hub.names import HubName
from pipeline.hub.split import find_split
from pipeline.tokenizer import byte_tokenizer
from remote.hub_commands import Done, command, environment, run
from remote.hub_server import HubServer, Repository, installed
from remote.store_build import files_below
from small_corpus import real_texts

pytest.importorskip("huggingface_hub")
pytest.importorskip("datasets")
INSTALLS = installed
BUILD = ["--tokenizer", "bytes", "--start-length", "64", "--max-length", "64", "--batch-rows", "4", "--steps", "6"]
CARD = """---
configs:
- config_name: en
  data_files:
  - {split: train, path: en/*.parquet}
- config_name: de
  data_files:
  - {split: train, path: de/*.parquet}
  - {split: test, path: de/1.parquet}
---
"""
TEXTS = [text[:3000] for text in real_texts() if text][:60]


REPOSITORIES = {
    "script": {"script.py": "raise SystemExit", "a.jsonl": '{"text": "a"}\n'},
    "elsewhere": {"README.md": "---\nconfigs:\n- {config_name: x, data_files: SECRET}\n---\n"},
    "nothing": {"notes.bin": "0"},
    "gated": {"a.jsonl": '{"text": "a"}\n'},
    "closed": {"a.jsonl": '{"text": "a"}\n'},
    "broken": {
        "a.jsonl": '{"text": "one"}\n{"text": null}\n{"text": "three"}\n',
        "b.jsonl": '{"text": "four"}\n{"text": 5}\n',
    },
    "differing": {
        "a.jsonl": '{"text": "one", "id": 1}\n{"text": "two", "id": "2"}\n',
        "b.jsonl": "".join(f'{{"text": "{word}", "id": "x", "meta": {{"at": 1}}}}\n' for word in ("three", "four")),
        "c.jsonl": '{"id": [], "text": "five"}\nnot JSON\n\n{"text": "six"}\n',
    },
    "json": {"a.json": '{"text": "one"}\n', "b.json": '{"text": "two", "meta": 1}\n'},
    "empty": {"a.jsonl": ""},
    "lists": {"a.json": '{"text": ["one"]}\n{"text": ["two"]}\n'},
    "moving": {"a.jsonl": "".join(json.dumps({"text": text}) + "\n" for text in TEXTS[:5])},
}
REFUSALS = {
    "hf:odd/missing": (2, "there is no such dataset repository on the Hub, or it is private"),
    "hf:books/lines:validation": (2, "there is no split 'validation'; it has \"train\""),
    "hf:books/tables": (2, 'has several configurations and none of them by default; there are "en", "de"'),
    "hf:books/tables:fr/train": (2, 'there is no configuration \'fr\'; there are "en", "de"'),
    "hf:books/lines@": (2, "is no name of a dataset on the Hub"),
    "hf:odd/script": (2, "is loaded by code of its own (script.py), and code of the Hub is never run"),
    "hf:odd/elsewhere": (2, "give its files by their addresses"),
    "hf:odd/nothing": (2, "`datasets` does not find in it what it reads"),
    "hf:odd/gated": (1, "access to it has to be asked for"),
    "hf:odd/closed": (1, "the Hub refuses access (HTTP 403)"),
    "hf:odd/branches@v9": (2, "the repository has no branch, tag or commit 'v9'"),
    "hf:odd/busy": (1, "the Hub answers with HTTP 503"),
    "hf:odd/-a--b": (2, "the Hub has no such names"),
    "hf:odd/broken": (1, 'default/train#a.jsonl, row 1, line 2 (byte 16): holds null under "text"'),
    "hf:odd/json --on-bad-record skip": (1, "b.json: its columns, or their types, differ from those of a.json"),
    "hf:books/lines --text-key body": (1, 'its keys are "id", "text": name the right one with --text-key'),
    "hf:books/tables:en/train": (2, 'its columns are "id", "body": name the right one with --text-key'),
    "hf:odd/lists --on-bad-record skip": (2, 'a.json has a column "text" of type list'),
    "hf:odd/empty": (2, "its files hold no rows"),
    "hf:books/lines --tokenized input_ids --tokenizer TOKENIZER": (2, "of which texts are read"),
}


def build(out: Path, *more: str) -> list[str]:
    return ["build", *BUILD, "--out", str(out), "--workers", "1", "--json", *more]


def dataset(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in files_below(folder).items() if name != "build-log.json"}


def num_tokens(texts: list[str]) -> int:
    """Of a tokenizer of bytes: with an EOS each."""
    return sum(len(text.encode()) + 1 for text in texts)


@pytest.fixture(scope="module")
def repositories(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Repository]:
    """Two files of lines, 20 texts and 10, without a card; two configurations of two Parquet files, 7 texts in a file;
    and odd ones, among them one that would read a file of this machine."""
    found = {name: hub.repository("datasets", name) for name in ("books/lines", "books/tables")}
    for name, texts in (("a", TEXTS[:20]), ("b", TEXTS[20:30])):
        rows = [json.dumps({"id": number, "text": text}) + "\n" for number, text in enumerate(texts)]
        (found["books/lines"].tree / f"{name}.jsonl").write_text("".join(rows))
    (found["books/tables"].tree / "README.md").write_text(CARD)
    for number, name in enumerate(("en/0", "en/1", "de/0", "de/1")):
        path = found["books/tables"].tree / f"{name}.parquet"
        path.parent.mkdir(exist_ok=True)
        texts = TEXTS[30 + 7 * number : 37 + 7 * number]
        pq.write_table(pa.table({"id": list(range(7)), "body": texts}), path, row_group_size=3)
    secret = tmp_path_factory.mktemp("secret") / "secret.jsonl"
    secret.write_text('{"text": "a secret of this machine"}\n')
    for name, files in REPOSITORIES.items():
        found[f"odd/{name}"] = hub.repository("datasets", f"odd/{name}")
        for path, content in files.items():
            (found[f"odd/{name}"].tree / path).write_text(content.replace("SECRET", str(secret)))
    for repository in found.values():
        repository.commit()
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all commands of `done` write."""
    return tmp_path_factory.mktemp("hub-corpus")


@pytest.fixture(scope="module")
def done(hub: HubServer, repositories: dict[str, Repository], folder: Path) -> dict[str, Done]:
    """What each command came to: they run in one process, since `datasets` is loaded in a second or two."""
    (folder / "tokenizer.json").write_text(byte_tokenizer())
    store, body = ["--store", str(folder / "mixture.store"), "--workers", "1"], ["--text-key", "body"]
    mixture = ["--source", "en=hf:books/tables:en/train", "--source", "de=hf:books/tables@main:de/test", *body]
    one_step = ["--max-length", "8", "--start-length", "8", "--batch-rows", "1", "--steps", "1"]
    commands = {
        "one worker": build(folder / "one", "hf:books/lines"),
        "two workers": build(folder / "two", "hf:books/lines", "--workers", "2", "--unit-bytes", "1000"),
        "cat": ["cat", str(folder / "two"), "--step", "0", "--limit", "3", "--json"],
        "plan": ["plan", *mixture, *BUILD, *store, "--json"],
        "mixture": build(folder / "mixture", *mixture, *store),
        "extend": ["extend", str(folder / "mixture"), "--steps", "1", "--source", "new=hf:books/lines", *store],
        "verify": ["verify", str(folder / "mixture"), "--json"],
        "skip": build(folder / "broken", "hf:odd/broken", "--on-bad-record", "skip", *one_step),
        "differing": build(folder / "differing", "hf:odd/differing", "--on-bad-record", "skip", *one_step),
        "moving": build(folder / "moving", "hf:odd/moving"),
    }
    for arguments in REFUSALS:
        words = arguments.replace("TOKENIZER", str(folder / "tokenizer.json")).split()
        commands[arguments] = build(folder / "refused", *words)
    hub.proxy.refusals = {
        "/datasets/odd/gated/resolve/": (403, "GatedRepo"),
        "/odd/closed/": (403, ""),
        "/odd/branches/": (404, "RevisionNotFound"),
        "/odd/busy/": (503, ""),
    }
    try:
        return dict(zip(commands, run(list(commands.values()), hub.variables(folder)), strict=True))
    finally:
        hub.proxy.refusals = {}


def test_any_workers_and_units_give_the_same_bytes(done: dict[str, Done], folder: Path) -> None:
    """All texts are there, once; `cat` names the file of the repository and the row in it."""
    accounting = done["one worker"].answer["accounting"]
    assert (accounting["documents"], accounting["skipped_records"]) == (30, 0)
    assert accounting["corpus_tokens"] == num_tokens(TEXTS[:30])
    assert done["two workers"].answer["id"] == done["one worker"].answer["id"]
    assert dataset(folder / "two") == dataset(folder / "one")
    assert [len(list((folder / f"{name}.store").rglob("*.tokens"))) for name in ("one", "two")] == [1, 2]
    for row in done["cat"].answer["rows"]:
        prefix, _, name = row["source"]["file"].partition("#")
        assert prefix == "hf:books/lines:default/train"
        text = TEXTS[{"a.jsonl": 0, "b.jsonl": 20}[name] + row["source"]["position"]]
        assert row["texts"][0].removesuffix("<|endoftext|>").strip("\ufffd") in text


def test_a_mixture_is_planned_built_and_extended_from_it(done: dict[str, Done], folder: Path) -> None:
    """Configurations, splits and columns are chosen by name; new text for a dataset may come from there too."""
    assert [done[name].code for name in ("plan", "mixture", "extend", "verify")] == [0, 0, 0, 0], done
    found = {one["name"]: (one["documents"], one["tokens"]) for one in done["mixture"].answer["sources"]}
    assert found == {"en": (14, num_tokens(TEXTS[30:44])), "de": (7, num_tokens(TEXTS[51:58]))}
    assert done["plan"].answer["total_steps"] == 6
    manifest = json.loads((folder / "mixture" / "manifest.json").read_text())
    assert manifest["sources"][2]["documents"] == 30


@pytest.mark.parametrize("arguments", REFUSALS)
def test_what_cannot_be_read_is_said_in_one_sentence(done: dict[str, Done], folder: Path, arguments: str) -> None:
    """A Hub that asks for a login, or is busy, is a stub before the server. No file of this machine is read."""
    one, (code, sentence) = done[arguments], REFUSALS[arguments]
    assert (one.code, one.stdout, one.stderr.count("\n")) == (code, "", 1), one
    assert one.stderr.startswith("curriculum: ")
    assert sentence in one.stderr
    assert "a secret" not in one.stderr


def test_bad_records_are_counted_and_the_rest_is_read(done: dict[str, Done]) -> None:
    """A number among texts: `datasets` would put all texts of the file into quotes."""
    accounting = done["skip"].answer["accounting"]
    assert (accounting["documents"], accounting["skipped_records"]) == (3, 2)
    assert accounting["corpus_tokens"] == num_tokens(["one", "three", "four"])


def test_what_other_columns_hold_does_not_matter(done: dict[str, Done]) -> None:
    """`datasets` drops a file whose columns are not those of the first one, and that was counted as one record."""
    accounting = done["differing"].answer["accounting"]
    assert (accounting["documents"], accounting["skipped_records"]) == (6, 1)
    assert accounting["corpus_tokens"] == num_tokens(["one", "two", "three", "four", "five", "six"])


def test_a_killed_build_goes_on_and_a_branch_that_moved_is_told(
    hub: HubServer, repositories: dict[str, Repository], done: dict[str, Done], folder: Path
) -> None:
    """The finished unit is not encoded again; what comes out is what a build gives that nobody killed.

    And a finished build of a branch that moved says so and names the commits; by its commit it is still there.
    """
    out, variables = folder / "killed", hub.variables(folder)
    killed = build(out, "hf:books/lines", "--unit-bytes", "1000")
    parts, arrived, go_on = folder / "killed.store" / "parts", threading.Event(), threading.Event()

    def stall(path: str) -> None:
        if path.endswith("b.jsonl") and list(parts.rglob("*.arrow")):
            arrived.set()
            go_on.wait(60)

    hub.proxy.before = stall
    try:
        with subprocess.Popen(command([killed]), env=environment(variables)) as process:
            assert arrived.wait(120)
            process.kill()
    finally:
        go_on.set()
        hub.proxy.before = lambda path: None
    assert not (out / "manifest.json").exists()
    (finished,) = parts.rglob("*.tokens")
    before = finished.stat().st_ino
    first = repositories["odd/moving"].head()
    (repositories["odd/moving"].tree / "notes.txt").write_text("nothing else")
    second = repositories["odd/moving"].commit()
    moved = build(folder / "moving", "hf:odd/moving")
    pinned = build(folder / "moving", f"hf:odd/moving@{first}")
    going_on, again, old = run([killed, moved, pinned], variables)
    assert going_on.code == 0, going_on
    assert finished.stat().st_ino == before
    assert len(list(parts.rglob("*.tokens"))) == 2
    assert dataset(out) == dataset(folder / "one")
    assert done["moving"].code == 0
    assert again.code == 1
    assert f"commit of hf:odd/moving was {first}, now {second}" in again.stderr
    assert old.answer["already_finished"]


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("HF_HUB_OFFLINE", "1", "the Hub is not asked, since HF_HUB_OFFLINE is set"),
        ("HF_ENDPOINT", "http://me:s3cret@127.0.0.1:9", "the Hub cannot be reached at http://127.0.0.1:9"),
    ],
)
def test_without_the_hub_a_sentence_says_what_to_do(
    hub: HubServer, tmp_path: Path, variable: str, value: str, sentence: str
) -> None:
    """Told to stay offline, or nobody there: nothing waits for long."""
    (failed,) = run([build(tmp_path / "out", "hf:books/lines")], {**hub.variables(tmp_path), variable: value})
    assert (failed.code, failed.stderr.count("\n")) == (1, 1), failed
    assert sentence in failed.stderr
    assert "s3cret" not in failed.stderr


def test_a_folder_of_that_name_is_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` prefers a folder of the working directory, which is another corpus."""
    (tmp_path / "books" / "lines").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    found = Resolved(name=HubName(repository="books/lines", revision="1" * 40), files=("a.jsonl",))
    with pytest.raises(ConfigError, match="run the command in another folder"):
        find_split(found, None, None)


def test_what_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither package is loaded before something of the Hub is asked for."""
    name = HubName(repository="books/lines", revision="1" * 40, config="x", split="train")
    old = SimpleNamespace(IterableDataset=object, __version__="3.0.2")
    for module, sentence in (
        (None, "Corpora by name are read by the package datasets"),
        (old, "datasets 3.0.2 cannot"),
    ):
        monkeypatch.setitem(sys.modules, "datasets", module)
        with pytest.raises(ConfigError, match=rf"{sentence}.*: pip install -U 'seqlen-curriculum\[hf\]'\.$"):
            split.open_split(name)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", None)
    with pytest.raises(ConfigError, match=r"need the package huggingface_hub: pip install 'seqlen-curriculum\[hf\]'"):
        resolve(name, "dataset")


def test_files_outside_of_the_repository_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Releases of `datasets` differ in what a card may point at; nothing but the commit says what such a file holds."""
    name = HubName(repository="odd/elsewhere", revision="1" * 40, config="x", split="train")
    root = f"hf://datasets/odd/elsewhere@{'1' * 40}/"
    for file in ("/etc/passwd", "https://example.com/a.jsonl", "hf://datasets/odd/other@main/a.jsonl"):
        files = {"train": [f"{root}a.jsonl"], "test": [file]}
        config = SimpleNamespace(name="x", data_files=files)
        monkeypatch.setattr(split, "open_builder", lambda name, config=config: SimpleNamespace(config=config))
        with pytest.raises(ConfigError, match=f"its card names '{file}', and only files of the repository itself"):
            split.open_split(name)
