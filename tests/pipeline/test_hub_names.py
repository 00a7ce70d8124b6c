"""Names on the Hub, as they are typed and as they are sent to workers; and what is known of them without asking it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curriculum.errors import ConfigError
from pipeline.folders import InputFile
from pipeline.hub.names import HubName, is_hub_name, looks_like_repository, parse_hub_corpus, parse_hub_tokenizer
from pipeline.hub.split import _shards
from pipeline.input_bytes import require_unchanged
from pipeline.option_sources import load_options
from pipeline.units import _join_pieces

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAMES = {
    "hf:gpt2": HubName(repository="gpt2"),
    "hf:org/books": HubName(repository="org/books"),
    "hf:org/books:validation": HubName(repository="org/books", split="validation"),
    "hf:org/books:en/train": HubName(repository="org/books", config="en", split="train"),
    "hf:org/books:20231101.en/train": HubName(repository="org/books", config="20231101.en", split="train"),
    "hf:org/books@v1.0": HubName(repository="org/books", revision="v1.0"),
    "hf:org/books@refs/pr/7:en/train": HubName(
        repository="org/books", revision="refs/pr/7", config="en", split="train"
    ),
    f"hf:org/books@{COMMIT}:test": HubName(repository="org/books", revision=COMMIT, split="test"),
}


@pytest.mark.parametrize("text", NAMES)
def test_a_name_prints_as_it_is_typed(text: str) -> None:
    assert parse_hub_corpus(text) == NAMES[text]
    assert str(NAMES[text]) == text
    assert is_hub_name(text)


WORD = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)


@given(st.builds(HubName, repository=WORD, revision=st.none() | WORD, config=WORD, split=WORD))
def test_what_is_sent_to_a_worker_is_read_back(name: HubName) -> None:
    """Whatever configurations are called."""
    assert parse_hub_corpus(str(name)) == name


NO_NAMES = """hf: hf:/ hf:a/b/c hf:../x hf:org/books@ hf:org/books@x?y hf:org/books: hf:org/books:a/b/c
hf:org/books:/train hf:org/books:en/ hf:org/books:en@x/train"""


@pytest.mark.parametrize("text", [*NO_NAMES.split(), "hf:a b", "hf:org/books@a b", "hf:" + "x" * 97])
def test_what_is_no_name_is_refused_with_the_forms_that_are(text: str) -> None:
    with pytest.raises(ConfigError, match="is no name of a dataset on the Hub: write hf:ORG/NAME"):
        parse_hub_corpus(text)


def test_a_tokenizer_has_no_split() -> None:
    assert parse_hub_tokenizer("hf:org/model@v2") == HubName(repository="org/model", revision="v2")
    with pytest.raises(ConfigError, match="is no name of a repository on the Hub"):
        parse_hub_tokenizer("hf:org/model:train")


def test_addresses_and_paths_stay_what_they_were() -> None:
    """`hf://` is a file of the Hub, and a file on a disk may be called anything."""
    assert not any(map(is_hub_name, ("hf://datasets/org/books/a.jsonl", "./hf:books", "hf", "books/hf:x", "HF:org/x")))
    assert looks_like_repository("gpt2")
    assert looks_like_repository("org/model-7b.v2")
    assert not any(map(looks_like_repository, ("", "a/b/c", "./model", "tokenizer.json", "a b", "x" * 97)))


def test_only_a_whole_commit_pins_a_name() -> None:
    assert HubName(repository="a", revision=COMMIT).commit == COMMIT
    assert [HubName(repository="a", revision=one).commit for one in (None, "main", COMMIT[:7], COMMIT.upper())] == [
        None
    ] * 4


def test_a_split_at_a_commit_is_on_no_disk_and_never_changes() -> None:
    """Nobody looks for it on this machine: neither for its times, nor for whether an output lies in it."""
    path = f"hf:org/books@{COMMIT}:en/train"
    file = InputFile(path=path, relative="hf:org/books:en/train", size=3, mtime_ns=0, stamp="", kind="hub")
    assert not file.on_disk
    require_unchanged(file)


def test_a_configuration_file_does_not_make_a_path_of_a_name(tmp_path: Path) -> None:
    """Paths are relative to the file that names them; names are relative to nothing."""
    path = tmp_path / "plan.toml"
    path.write_text('corpus = ["hf:org/books", "a.jsonl"]\n')
    assert load_options(path, {}).corpus == ("hf:org/books", str(tmp_path / "a.jsonl"))
    path.write_text('[[source]]\nname = "web"\npath = ["hf:org/web:en/train", "b.jsonl"]\n')
    assert load_options(path, {}).source == ("web=hf:org/web:en/train", f"web={tmp_path / 'b.jsonl'}")


def test_units_are_runs_of_whole_shards() -> None:
    """By the sizes of the files, each of which is a shard; where it is not, by equal shares of their sum."""
    shards = _shards({"a": 60, "b": 50, "c": 10, "d": 100}, 4)
    assert [(shard.name, shard.num_bytes) for shard in shards] == [("a", 60), ("b", 50), ("c", 10), ("d", 100)]
    file = InputFile(path="", relative="", size=220, mtime_ns=0, kind="hub")
    units = list(_join_pieces(file, [(1, shard.num_bytes) for shard in shards], 110))
    assert [(unit.start, unit.stop, unit.num_bytes) for unit in units] == [(0, 2, 110), (2, 4, 110)]
    assert [(unit.start, unit.stop) for unit in _join_pieces(file, [(1, 60), (1, 160)], 1)] == [(0, 1), (1, 2)]
    other = _shards({"a": 5, "b": 5}, 3)
    assert [(shard.name, shard.num_bytes) for shard in other] == [
        ("00000-of-00003", 3),
        ("00001-of-00003", 3),
        ("00002-of-00003", 4),
    ]
