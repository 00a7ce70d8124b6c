"""Which tokenizer a build uses, where a document ends, and what a hostile tokenizer.json can do: nothing."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from curriculum.errors import ConfigError
from gpt2 import gpt2_tokenizer_json
from pipeline.tokenizer import (
    BOS_NAMES,
    EOS_NAMES,
    TokenizerInfo,
    byte_tokenizer,
    load_tokenizer,
    parse_tokenizer_spec,
    train_tokenizer,
)


def write(folder: Path, *, special: list[str], plain: list[str] | None = None, config: Any = None) -> str:
    """A byte-level tokenizer with the given special added tokens and plain vocabulary entries after the 256 bytes."""
    entries = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(plain or [])]
    tokenizer = Tokenizer(models.BPE(vocab={entry: i for i, entry in enumerate(entries)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(list(special))
    tokenizer.save(str(folder / "tokenizer.json"))
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return str(folder / "tokenizer.json")


def test_gpt2_loads_from_its_file_and_from_its_folder(tmp_path: Path) -> None:
    """The most used tokenizer of the field: its size, its EOS, and uint16 on disk."""
    file = gpt2_tokenizer_json(tmp_path)
    info = load_tokenizer(str(file), eos=None, bos="none")
    assert info == TokenizerInfo(
        path=str(file),
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        vocab_size=50257,
        eos_id=50256,
        bos_id=None,
        eos_is_special=True,
    )
    assert info.dtype == "uint16"
    assert load_tokenizer(str(tmp_path), eos=None, bos="none") == info
    assert load_tokenizer(str(file), eos=None, bos="document").bos_id == 50256, "GPT-2 marks both ends with one token"


@pytest.mark.parametrize(("num_plain", "dtype"), [(65536 - 257, "uint16"), (65537 - 257, "uint32")])
def test_tokens_are_two_bytes_as_long_as_every_id_fits(tmp_path: Path, num_plain: int, dtype: str) -> None:
    """An id of 65536 in a uint16 would silently become 0."""
    path = write(tmp_path, special=["<|endoftext|>"], plain=[f"word{i}" for i in range(num_plain)])
    info = load_tokenizer(path, eos=None, bos="none")
    assert (info.vocab_size, info.eos_id, info.dtype) == (num_plain + 257, num_plain + 256, dtype)


def test_eos_is_found_in_the_documented_order(tmp_path: Path) -> None:
    """Another order would end documents with another token than the model was made for."""
    assert EOS_NAMES == ("<|endoftext|>", "<|end_of_text|>", "<｜end▁of▁sentence｜>", "<eos>", "</s>")
    for first in range(len(EOS_NAMES)):  # the first of the list wins, wherever it stands in the file
        names = list(EOS_NAMES[first:])[::-1]
        info = load_tokenizer(write(tmp_path, special=names), eos=None, bos="none")
        assert (info.eos_id, info.eos_is_special) == (256 + len(names) - 1, True)


def test_a_special_eos_comes_before_a_plain_one(tmp_path: Path) -> None:
    """`<|endoftext|>` as a plain entry of a Llama vocabulary is a left-over, `</s>` is the EOS."""
    path = write(tmp_path, special=["</s>"], plain=["<|endoftext|>"])
    assert load_tokenizer(path, eos=None, bos="none").eos_id == 257
    path = write(tmp_path, special=[], plain=["x", "</s>", "<eos>"])
    info = load_tokenizer(path, eos=None, bos="none")
    assert (info.eos_id, info.eos_is_special) == (258, False)


@pytest.mark.parametrize("value", ["<stop>", {"content": "<stop>", "special": True}])
def test_tokenizer_config_beside_the_file_decides_before_the_known_names(tmp_path: Path, value: Any) -> None:
    """Both forms that transformers writes."""
    path = write(tmp_path, special=["<|endoftext|>", "<stop>"], config={"eos_token": value, "bos_token": None})
    assert load_tokenizer(path, eos=None, bos="none").eos_id == 257
    assert load_tokenizer(path, eos="<|endoftext|>", bos="none").eos_id == 256, "--eos decides before that"
    path = write(tmp_path, special=["<|endoftext|>", "<stop>"], config={"eos_token": None})
    assert load_tokenizer(path, eos=None, bos="none").eos_id == 256, "no token named is none named"


def test_eos_in_digits_is_a_token_first_and_an_id_otherwise(tmp_path: Path) -> None:
    """`--eos 7` of a vocabulary that has an entry "7" means that entry."""
    path = write(tmp_path, special=["<|endoftext|>"], plain=["300"])
    assert load_tokenizer(path, eos="300", bos="none").eos_id == 256
    info = load_tokenizer(path, eos="257", bos="none")
    assert (info.eos_id, info.eos_is_special) == (257, True)
    assert load_tokenizer(path, eos="id:257", bos="none") == info
    with pytest.raises(ConfigError, match=r"neither a token nor the id of a token.*go up to 257"):
        load_tokenizer(path, eos="id:300", bos="none")  # the token of that name is 256
    for missing in ("258", "<eos>", "", "-1", "٣", "9" * 30):
        with pytest.raises(ConfigError, match=r"neither a token nor the id of a token.*go up to 257"):
            load_tokenizer(path, eos=missing, bos="none")


def test_a_tokenizer_without_a_known_eos_is_refused_by_name(tmp_path: Path) -> None:
    """Without EOS the documents would run into each other."""
    with pytest.raises(ConfigError, match=r"none of <\|endoftext\|> .* </s> in its vocabulary.*--eos"):
        load_tokenizer(write(tmp_path, special=["<pad>"]), eos=None, bos="none")
    path = write(tmp_path, special=["<|endoftext|>"], config={"eos_token": "<gone>"})
    with pytest.raises(ConfigError, match=r"tokenizer_config\.json names the eos_token '<gone>'.*--eos"):
        load_tokenizer(path, eos=None, bos="none")


@pytest.mark.parametrize("name", BOS_NAMES)
def test_bos_is_found_only_when_asked_for(tmp_path: Path, name: str) -> None:
    """`--bos none` must never put a token into the stream."""
    path = write(tmp_path, special=["</s>", name])
    assert load_tokenizer(path, eos=None, bos="document").bos_id == 257
    assert load_tokenizer(path, eos=None, bos="none").bos_id is None


def test_bos_of_tokenizer_config_decides_and_its_absence_is_refused(tmp_path: Path) -> None:
    """A BOS that is guessed wrong changes every document."""
    path = write(tmp_path, special=["<s>", "</s>", "<go>"], config={"bos_token": {"content": "<go>"}})
    assert load_tokenizer(path, eos=None, bos="document").bos_id == 258
    path = write(tmp_path, special=["<s>", "</s>"], config={"bos_token": "<gone>"})
    with pytest.raises(ConfigError, match=r"names the bos_token '<gone>'.*--bos none"):
        load_tokenizer(path, eos=None, bos="document")
    path = write(tmp_path, special=["</s>"], config={})
    with pytest.raises(ConfigError, match=r"known to begin a document.*--bos none"):
        load_tokenizer(path, eos=None, bos="document")
    with pytest.raises(ConfigError, match="--bos 'batch' is unknown"):
        load_tokenizer(path, eos=None, bos="batch")


@pytest.mark.parametrize("config", ["{", "[]", '{"eos_token": 7}', '{"eos_token": {"content": ["a"]}}', "\xff"])
def test_a_broken_tokenizer_config_is_named(tmp_path: Path, config: str) -> None:
    """It decides about EOS, so it is not passed over."""
    path = write(tmp_path, special=["<|endoftext|>"])
    (tmp_path / "tokenizer_config.json").write_bytes(config.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"tokenizer_config\.json"):
        load_tokenizer(path, eos=None, bos="none")


BPE = {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}
SHORT_MERGE = {
    "type": "BPE",
    "vocab": {"a": 0, "b": 9},
    "merges": ["a b"],
    "continuing_subword_prefix": "much too long",
}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"\x0a\x09\x08<unk>",  # a SentencePiece model
        b'{"model": "BPE"}',
        b'{"model": {}}',
        b'{"model": {"type": "BPE", "vocab": {"\\ud800": 0}, "merges": []}}',
        b"[" * 100_000,
        json.dumps({"model": {**BPE, "vocab": {"a": -1}}}).encode(),
        json.dumps({"model": {**BPE, "merges": ["a z"]}}).encode(),
        json.dumps({"model": {**BPE, "type": "Magic"}}).encode(),
        json.dumps({"model": SHORT_MERGE}).encode(),  # panics in Rust
        json.dumps({"model": BPE, "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(("}}}).encode(),
        json.dumps({"model": {"type": "BPE", "vocab": {}, "merges": []}}).encode(),
    ],
)
def test_a_corrupt_tokenizer_is_refused_in_a_sentence_that_names_it(tmp_path: Path, content: bytes) -> None:
    """Neither a traceback nor a Rust panic, which would pass every `except Exception`."""
    file = tmp_path / "tokenizer.json"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"tokenizer\.json.*\.$"):
        load_tokenizer(str(file), eos=None, bos="none")


def test_a_missing_tokenizer_is_refused(tmp_path: Path) -> None:
    """A folder without a tokenizer.json, and a path that is not there."""
    for path in (tmp_path, tmp_path / "gone.json"):
        with pytest.raises(ConfigError, match="does not exist"):
            load_tokenizer(str(path), eos=None, bos="none")


def test_a_model_that_makes_special_tokens_from_text_is_refused(tmp_path: Path) -> None:
    """A page with `</s>` in it would end a document there; unknown text may become `<unk>`."""
    pieces = [("<unk>", 0.0), ("</s>", 0.0), *((c, -3.0) for c in "▁ab<>/s")]
    unigram = Tokenizer(models.Unigram(pieces, unk_id=0))
    words = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1, "a": 2}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    for tokenizer, kind in ((unigram, "Unigram"), (words, "WordLevel")):
        tokenizer.add_special_tokens(["</s>"])
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        with pytest.raises(ConfigError, match=rf"'</s>' in a document would become .* 1, because the {kind}"):
            load_tokenizer(str(tmp_path), eos=None, bos="none")
    words.pre_tokenizer = pre_tokenizers.Whitespace()  # splits `</s>` before the model sees it
    words.add_special_tokens([AddedToken("<unk>", special=True)])
    words.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(str(tmp_path), eos=None, bos="none").eos_id == 1


def test_the_id_of_a_byte_is_its_value() -> None:
    """`bytes` in any tokenizers library: 0 to 255 and 256 for the end, and it decodes."""
    tokenizer = Tokenizer.from_str(byte_tokenizer())
    text = "".join(map(chr, range(0x250))) + "的🦄 it's\n\n  x"
    ids = tokenizer.encode(text).ids
    assert ids == list(text.encode())
    assert tokenizer.decode(ids) == text
    assert tokenizer.get_vocab_size() == 257
    assert tokenizer.token_to_id("<|endoftext|>") == 256


def test_a_trained_tokenizer_has_the_size_asked_for_and_round_trips() -> None:
    """The default of a build without --tokenizer."""
    texts = ["the cat sat on the mat, it's the <|endoftext|> end\n"] * 20 + ["的的的 🦄"]
    tokenizer = Tokenizer.from_str(train_tokenizer(texts, 270))
    assert tokenizer.get_vocab_size() == 270
    assert tokenizer.token_to_id("<|endoftext|>") == 0
    assert all(tokenizer.token_to_id(c) is not None for c in pre_tokenizers.ByteLevel.alphabet())
    tokenizer.encode_special_tokens = True
    for text in [*texts[-2:], " leading", "\x00\x7f never seen ǅ"]:
        assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_the_least_trained_tokenizer_is_the_bytes_and_eos() -> None:
    """257 entries leave no room for a merge; no text at all leaves none either."""
    assert Tokenizer.from_str(train_tokenizer(["aaaa aaaa"], 257)).get_vocab_size() == 257
    assert Tokenizer.from_str(train_tokenizer([], 8192)).get_vocab_size() == 257


def test_endless_words_neither_stall_training_nor_become_tokens() -> None:
    """Base64, DNA and lines of `=` are endless words; training takes as long as merges times their length."""
    texts = ["=" * 1_000_000, " " * 1_000_000, "的" * 300_000, "ACGT" * 200_000, "the cat sat on the mat"]
    tokenizer = Tokenizer.from_str(train_tokenizer(texts, 400))
    assert tokenizer.get_vocab_size() > 280
    assert 64 <= max(map(len, tokenizer.get_vocab())) <= 3 * 128
    assert json.loads(tokenizer.to_str())["pre_tokenizer"]["type"] == "ByteLevel", "encoding cuts nothing"


TRAIN = """
import sys, sysconfig
from pathlib import Path
from pipeline.tokenizer import train_tokenizer
folder = Path(sysconfig.get_path("stdlib"))
texts = [path.read_text("utf-8") for path in sorted((folder / "asyncio").glob("*.py"))]
sys.stdout.buffer.write(train_tokenizer(texts, 2000).encode())
"""


def test_training_gives_the_same_bytes_on_any_number_of_threads() -> None:
    """Otherwise no two machines would build the same dataset from the same corpus."""
    outputs = []
    for threads in ("1", "2", "4"):
        env = {**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONPATH": str(Path(__file__).parents[2])}
        env["TOKENIZERS_PARALLELISM"] = "true"
        run = subprocess.run([sys.executable, "-c", TRAIN], env=env, capture_output=True, check=True)
        outputs.append(run.stdout)
    assert json.loads(outputs[0])["model"]["merges"], "nothing was trained"
    assert outputs[0] == outputs[1] == outputs[2]


def test_what_tokenizer_accepts(tmp_path: Path) -> None:
    """The three forms, and a file that hides behind the name of one."""
    assert parse_tokenizer_spec("train:8192") == ("train", 8192)
    assert parse_tokenizer_spec("train:257") == ("train", 257)
    assert parse_tokenizer_spec("bytes") == ("bytes", None)
    assert parse_tokenizer_spec(str(tmp_path)) == ("file", str(tmp_path))
    assert parse_tokenizer_spec(f"{tmp_path}/../{tmp_path.name}") == ("file", f"{tmp_path}/../{tmp_path.name}")


@pytest.mark.parametrize("spec", ["gpt2", "openai-community/gpt2", "", "train", "Bytes", "a\0b", "x" * 5000])
def test_a_name_that_is_no_path_is_told_what_is_accepted(spec: str) -> None:
    """A Hub name is the first thing that people try."""
    with pytest.raises(ConfigError, match=r"no such file or folder.*tokenizer\.json.*hf:ORG.*train:N.*bytes") as error:
        parse_tokenizer_spec(spec)
    looks_like_one = spec in ("gpt2", "openai-community/gpt2", "train", "Bytes")
    assert (f"`hf:{spec}` takes it from the Hub" in str(error.value)) == looks_like_one


@pytest.mark.parametrize("spec", ["train:", "train:8k", "train:-1", "train:1.5", "train:٣٠٠", "train: 300"])
def test_a_vocabulary_size_must_be_a_whole_number(spec: str) -> None:
    """int() would take some of these."""
    with pytest.raises(ConfigError, match="must be a whole number"):
        parse_tokenizer_spec(spec)


@pytest.mark.parametrize("size", [0, 256, 1_048_577, 10**12])
def test_an_impossible_vocabulary_size_is_refused_before_training(size: int) -> None:
    """The trainer would abort the process on the largest of these."""
    with pytest.raises(ConfigError, match=r"at least 257.*at most 1048576"):
        parse_tokenizer_spec(f"train:{size}")
    with pytest.raises(ConfigError, match=f"of {size} entries"):
        train_tokenizer(["text"], size)
