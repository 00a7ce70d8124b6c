"""The files beside the shards: a tokenizer that would fill the memory, a build log that points elsewhere."""

from __future__ import annotations

import base64
import json
import os
import platform
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import assume, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders

from curriculum.errors import BuildError, ConfigError
from curriculum.manifest import load_manifest
from forged_shards import Columns, forge_shard
from hostile_dataset import ESCAPE, fit_tokenizer, is_sentence, run_limited
from pipeline.backends import load_reference, open_encoder
from pipeline.built_streams import own_store
from pipeline.cli import main
from pipeline.files.address import dataset_files
from pipeline.foreign_tokenizer import ForeignTokenizer, entries_of
from pipeline.tokenizer import byte_tokenizer, load_tokenizer
from pipeline.tokenizer_limits import require_loadable

BYTES = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
REPLACE = {"type": "Replace", "pattern": {"String": "e"}, "content": "e" * 100}
UNTAGGED = {"pattern": {"String": "e"}, "content": "e" * 100}
"""`tokenizers` takes this for a Replace."""
TOKENIZERS: dict[str, tuple[dict[str, Any], str]] = {
    "a list": ({"decoder": []}, "its decoder is none"),
    "text that grows": (
        {"decoder": {"type": "Sequence", "decoders": [BYTES, REPLACE, REPLACE, REPLACE]}},
        "times longer",
    ),
    "text that grows without a name": (
        {"decoder": {"type": "Sequence", "decoders": [{"type": "Fuse"}, *[UNTAGGED] * 6]}},
        "a step of no known type",
    ),
    "text that grows under another name": (
        {"decoder": {"type": "Sequence", "decoders": [{"type": "Fuse", **UNTAGGED}] * 6}},
        "times longer",
    ),
    "an expression without a name": (
        {"decoder": {"pattern": {"Regex": "(e+)+$"}, "content": "x"}},
        "a step of no known type",
    ),
    "text doubled by an empty suffix": (
        {"decoder": {"type": "Sequence", "decoders": [{"type": "BPEDecoder", "suffix": ""}] * 12}},
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
    "ids of text": ({"model": {"vocab": {"a": "b"}}}, "ids that are no integers"),
    "entries of numbers": ({"model": {"vocab": [[1, 2.0]]}}, "entries that are no text"),
    "added tokens of numbers": ({"added_tokens": [{"content": 7}]}, "an added token is no text"),
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
    assert "a row could have more than 67,108,864 characters" in outcome.stderr


BARE = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
CHARSMAP = {"type": "Precompiled", "precompiled_charsmap": "/////w=="}
DEADLY: dict[str, tuple[dict[str, Any], str]] = {
    "a tree of two million levels": (
        {"model": {"type": "Unigram", "unk_id": 0, "vocab": [["a", 0.0], ["b" * 2_000_000, -1.0]]}},
        "an entry of its vocabulary has 2,000,000 characters, at most 4,096 are possible",
    ),
    "a map of 4 GiB": ({"normalizer": CHARSMAP}, "says 4,294,967,295 bytes and has 0"),
    "a map of 4 GiB in a sequence": (
        {"normalizer": {"type": "Sequence", "normalizers": [CHARSMAP]}},
        "says 4,294,967,295 bytes and has 0",
    ),
    "a map that is none": ({"normalizer": {**CHARSMAP, "precompiled_charsmap": "%"}}, "is not base64"),
    "added tokens that take half a minute": (
        {"added_tokens": [{"id": n, "content": f"t{n}", "special": True} for n in range(300_000)]},
        "it has 300,000 added tokens, at most 131,072 are possible",
    ),
}
"""Parts of a tokenizer.json that end the process, or keep it busy, while `tokenizers` loads them."""


def test_decoding_builds_nothing_that_could_end_the_process(dataset: Path) -> None:
    """A process of its own: what is tested is that it does not die of SIGSEGV, nor of the limit of a processor."""
    tokenizer = json.loads((dataset / "tokenizer.json").read_bytes())
    changes = [change for change, _ in DEADLY.values()]
    normalizer = {"normalizer": changes[1]["normalizer"], "post_processor": 7, "truncation": 7}
    fit_tokenizer(dataset, {**tokenizer, **normalizer, **changes[4], **changes[0]})
    outcome = run_limited("cat", str(dataset), "--step", "0", "--limit", "1")
    assert (outcome.returncode, outcome.stderr) == (0, "")


def test_verify_says_what_would_end_the_process(dataset: Path) -> None:
    tokenizer = json.loads((dataset / "tokenizer.json").read_bytes())
    fit_tokenizer(dataset, {**tokenizer, **DEADLY["a tree of two million levels"][0]})
    outcome = run_limited("verify", str(dataset), "--workers", "1")
    assert outcome.returncode == 1
    assert is_sentence(outcome.stderr.rstrip("\n")), (outcome.returncode, outcome.stderr[-500:])
    assert "an entry of its vocabulary has 2,000,000 characters" in outcome.stderr


@pytest.mark.parametrize("name", DEADLY)
def test_a_build_refuses_it_before_it_is_loaded(tmp_path: Path, name: str) -> None:
    change, words = DEADLY[name]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"version": "1.0", "added_tokens": [], "model": BARE, "decoder": None, **change}))
    with pytest.raises(ConfigError) as refusal:
        load_reference(str(path))
    assert words in str(refusal.value)
    assert is_sentence(str(refusal.value))


def test_a_map_that_points_outside_of_itself_is_a_sentence(tmp_path: Path) -> None:
    """It is as long as it says, so only a text shows it: a panic of Rust, which is no `Exception`."""
    tree = base64.b64encode((1024).to_bytes(4, "little") + b"\x7b\x5a\x3c\x19" * 256 + b"abc\0").decode()
    top = json.loads(byte_tokenizer())
    top["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": tree}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(top))
    for use in (
        lambda: load_tokenizer(str(path), eos=None, bos="none"),
        lambda: open_encoder(str(path), "tokenizers").encode(["text"]),
    ):
        with pytest.raises(BuildError, match="cannot encode a text with it: index out of bounds") as refusal:
            use()
        assert is_sentence(str(refusal.value))


def test_what_tools_write_is_within_the_limits() -> None:
    """Entries have 256 characters at most, a map is as long as it says, speech adds 65,536 codes to 256 tokens."""
    charsmap = base64.b64encode((8).to_bytes(4, "little") + b"12345678" + b"text\0").decode()
    normalizer = {"type": "Sequence", "normalizers": [{"type": "Precompiled", "precompiled_charsmap": charsmap}]}
    vocab = [[f"{n}{' ' * 256}", -1.0] for n in range(10_000)]
    require_loadable({"model": {"type": "Unigram", "vocab": vocab}, "normalizer": normalizer, "added_tokens": None})
    require_loadable({"model": BARE, "added_tokens": [{"content": f"<{n}>"} for n in range(65_536 + 256)]})


@given(
    vocab=st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 9), min_size=1),
    added=st.lists(st.tuples(st.sampled_from(["", *"abcdefghi"]), st.booleans()), max_size=8),
    unigram=st.booleans(),
)
def test_ids_mean_what_they_mean_to_tokenizers(
    vocab: dict[str, int], added: list[tuple[str, bool]], unigram: bool
) -> None:
    """Also where added tokens are entries, stand twice, or lie beyond gaps."""
    assume(len(set(vocab.values())) == len(vocab))
    tokens = [
        {"id": 99, "content": text, "special": special}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for text, special in added
    ]
    listed = [[entry, -1.0] for entry in vocab]
    model = {"type": "Unigram", "unk_id": 0, "vocab": listed} if unigram else {**BARE, "vocab": vocab}
    top = {"version": "1.0", "model": model, "decoder": None, "added_tokens": tokens}
    theirs = Tokenizer.from_str(json.dumps(top))
    entries, special = entries_of(top)
    assert [entries.get(id) for id in range(25)] == [theirs.id_to_token(id) for id in range(25)]
    ours = "".join(entries[id] for id in sorted(entries) if id not in special)
    assert ours == theirs.decode(sorted(entries), skip_special_tokens=True).replace(" ", "")


def test_an_id_without_an_entry_is_seen(dataset: Path, tmp_path: Path) -> None:
    """Or else a row would look shorter than it is, and right."""
    shard = load_manifest(dataset).phases[0].shards[0].path

    def put(columns: Columns) -> None:
        columns.tokens[0, :4] = [104, 60_000, 60_001, 105]

    forge_shard(dataset, shard, put)
    assert "h<id 60000><id 60001>i" in cat(dataset).stdout
    page = tmp_path / "page.html"
    assert CliRunner().invoke(main, ["report", str(dataset), "--out", str(page)]).exit_code == 0
    assert "h&lt;id 60000&gt;&lt;id 60001&gt;i" in page.read_text("utf-8")


@pytest.mark.parametrize(("decoder", "text"), [(None, "a <id 1> b <id 7>"), (decoders.ByteLevel(), "a<id 1>b<id 7>")])
def test_an_id_in_a_gap_of_the_vocabulary_is_seen(decoder: decoders.ByteLevel | None, text: str) -> None:
    tokenizer = ForeignTokenizer(entries={0: "a", 2: "b"}, special=frozenset(), decoder=decoder, growth=1, where="")
    assert tokenizer.decode([0, 1, 2, 7]) == text
    assert (tokenizer.id_to_token(2), tokenizer.id_to_token(1)) == ("b", "<id 1>")


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
