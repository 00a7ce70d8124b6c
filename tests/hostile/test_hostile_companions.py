"""The files beside the shards: a tokenizer that would fill the memory, a build log that points elsewhere."""

from __future__ import annotations

import json
import os
import platform
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from curriculum.errors import ConfigError
from curriculum.manifest import load_manifest
from hostile_dataset import ESCAPE, fit_tokenizer, is_sentence
from pipeline.built_streams import own_store
from pipeline.cli import main
from pipeline.files.address import dataset_files

BYTES = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
REPLACE = {"type": "Replace", "pattern": {"String": "e"}, "content": "e" * 100}
TOKENIZERS: dict[str, tuple[dict[str, Any], str]] = {
    "a list": ({"decoder": []}, "its decoder is none"),
    "text that grows": (
        {"decoder": {"type": "Sequence", "decoders": [BYTES, REPLACE, REPLACE, REPLACE]}},
        "times longer",
    ),
    "an endless expression": (
        {"decoder": {"type": "Sequence", "decoders": [BYTES, {**REPLACE, "pattern": {"Regex": "(e+)+$"}}]}},
        "a regular expression",
    ),
    "a strip of a terabyte": (
        {"decoder": {"type": "Strip", "content": "e", "start": 2**40, "stop": 0}},
        "takes off 1099511627776 characters",
    ),
    "many decoders": ({"decoder": {"type": "Sequence", "decoders": [BYTES] * 20}}, "more than 16 steps"),
    "no model": ({"model": None}, "cannot be used to decode rows"),
    "escapes": ({"model": {"type": ESCAPE}}, "cannot be used to decode rows"),
}


@pytest.fixture
def dataset(small_dataset: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return shutil.copytree(small_dataset, tmp_path / "dataset")


def cat(dataset: Path) -> Any:
    return CliRunner().invoke(main, ["cat", str(dataset), "--step", "0", "--limit", "1"])


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_out_of_proportion_is_refused_before_it_decodes(dataset: Path, name: str) -> None:
    """`tokenizers` would take all memory, panic, or never come back."""
    change, words = TOKENIZERS[name]
    tokenizer = json.loads((dataset / "tokenizer.json").read_bytes())
    fit_tokenizer(dataset, {**tokenizer, **change})
    outcome = cat(dataset)
    assert outcome.exit_code == 1
    assert words in outcome.stderr
    assert is_sentence(outcome.stderr.rstrip("\n"))


def test_an_entry_of_megabytes_is_not_repeated_by_the_row(dataset: Path) -> None:
    tokenizer = json.loads((dataset / "tokenizer.json").read_bytes())
    vocab = {
        ("x" * (9 << 20) if token == "e" else token): number for token, number in tokenizer["model"]["vocab"].items()
    }
    fit_tokenizer(dataset, {**tokenizer, "model": {**tokenizer["model"], "vocab": vocab}})
    outcome = CliRunner().invoke(main, ["cat", str(dataset), "--phase", "7", "--limit", "8"])
    assert outcome.exit_code == 1
    assert "a row would have more than 67,108,864 characters" in outcome.stderr


def test_another_tokenizer_than_the_manifest_says_decodes_nothing(dataset: Path) -> None:
    tokenizer = (dataset / "tokenizer.json").read_text("utf-8")
    (dataset / "tokenizer.json").write_text(f"{tokenizer}\n", "utf-8")
    outcome = cat(dataset)
    assert outcome.exit_code == 1
    assert "it is not the one of the manifest, its sha256 differs" in outcome.stderr


def test_escapes_in_documents_and_tokens_do_not_reach_the_terminal(dataset: Path) -> None:
    tokenizer = json.loads((dataset / "tokenizer.json").read_bytes())
    vocab = tokenizer["model"]["vocab"]
    vocab[ESCAPE] = vocab.pop("e")
    decoder = {"type": "Fuse"}
    fit_tokenizer(dataset, {**tokenizer, "decoder": decoder, "model": {**tokenizer["model"], "vocab": vocab}})
    for more in ((), ("--json",)):
        outcome = CliRunner().invoke(main, ["cat", str(dataset), "--phase", "7", "--limit", "4", *more])
        assert outcome.exit_code == 0
        assert "u202e" in outcome.stdout
        assert outcome.stdout.replace("\n", "").isprintable()


LOGS: dict[str, Any] = {
    "a list": [1],
    "nested by the million": b"[" * 10**6,
    "packing of text": {"packing": {"concatenation_ratio": ESCAPE}},
    "packing of nothing": {"packing": []},
    "numbers of text": {"mb_per_second": ESCAPE, "finished": {"a": ESCAPE}, "backend": [ESCAPE], "corpus": ESCAPE},
    "parts of numbers": {"parts": [1, 2], "source_parts": 7, "held_out_below": "x"},
    "parts elsewhere": {"parts": ["../../../../etc/passwd"]},
    "a store of a number": {"store": 7},
    "stores of a list": {"source_stores": [1]},
    "a held-out rule of a million bits": {"held_out_below": 10**18},
}


@pytest.mark.parametrize("name", LOGS)
def test_a_hostile_build_log_shows_nothing_raw_and_ends_nothing(dataset: Path, name: str) -> None:
    change, path = LOGS[name], dataset / "build-log.json"
    log = json.loads(path.read_bytes())
    if isinstance(change, bytes):
        path.write_bytes(change)
    else:
        path.write_text(json.dumps({**log, **change} if isinstance(change, dict) else change))
    for command in (["inspect"], ["inspect", "--json"], ["cat", "--step", "0", "--limit", "1"]):
        outcome = CliRunner().invoke(main, [command[0], str(dataset), *command[1:]])
        assert outcome.exit_code == 0, outcome.stderr
        assert outcome.stdout.replace("\n", "").isprintable()
    outcome = CliRunner().invoke(main, ["extend", str(dataset), "--steps", "1", "--workers", "1"])
    assert outcome.exception is None or isinstance(outcome.exception, SystemExit), outcome.exception
    if isinstance(change, bytes | list) or name in ("a store of a number", "stores of a list"):
        assert outcome.exit_code in (1, 2)
        assert is_sentence(outcome.stderr.splitlines()[-1])


def test_a_log_is_followed_beside_the_dataset_or_if_it_was_written_here(dataset: Path, tmp_path: Path) -> None:
    """A path of a stranger may be a network that is mounted when it is looked at, or a bucket that notes our name."""
    root, here, elsewhere = dataset_files(dataset), {"host": platform.node()}, {"host": "another"}
    beside, far = str(tmp_path / "dataset.store"), "/net/example.org/store"
    assert own_store(root, {"store": far, **here}).where == far
    assert own_store(root, {"store": beside, **elsewhere}).where == beside
    link = tmp_path / "links" / "dataset"
    link.parent.mkdir()
    link.symlink_to(dataset)
    assert own_store(dataset_files(link), {"store": beside, **elsewhere}).where == beside
    for log in (
        {"store": far, **elsewhere},
        {"store": far},
        {"store": f"{tmp_path}/dataset.store/../../x", **elsewhere},
        {"store": beside, "source_stores": {"news": far}, **elsewhere},
    ):
        with pytest.raises(ConfigError, match=r"give it as --store\.$"):
            own_store(root, log, "news")
    away = dataset_files("s3://bucket/dataset")
    assert own_store(away, {"store": "s3://bucket/store", **elsewhere}).where == "s3://bucket/store"
    for log in ({"store": "s3://theirs/store", **here}, {"store": "/net/example.org/store", **elsewhere}):
        with pytest.raises(ConfigError, match=r"give it as --store\.$"):
            own_store(away, log)


def test_a_store_named_by_a_stranger_is_not_looked_at(dataset: Path, tmp_path: Path) -> None:
    """Its parts would be a named pipe: whoever opens it waits for ever."""
    store = tmp_path / "theirs"
    part = json.loads((dataset / "build-log.json").read_bytes())["parts"][0]
    folder = store / "parts" / part[:2]
    folder.mkdir(parents=True)
    os.mkfifo(folder / f"{part}.arrow")
    log = json.loads((dataset / "build-log.json").read_bytes())
    for host in ("another", platform.node()):
        (dataset / "build-log.json").write_text(json.dumps({**log, "store": str(store), "host": host}))
        assert cat(dataset).exit_code == 0
    assert load_manifest(dataset).id == log["id"]
