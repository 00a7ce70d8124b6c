"""The store's copy of a tokenizer is believed for its bytes, not for its name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from crashing_build import OPTIONS, write_lines
from pipeline.build import prepare_plan
from pipeline.option_sources import load_options
from pipeline.progress import Silent
from pipeline.tokenized_corpus import TokenizedCorpus
from pipeline.tokenizer import byte_tokenizer
from small_corpus import real_texts


def run(place: Path, tokenizer: str) -> TokenizedCorpus:
    """Tokenize a few documents into a store of `place`."""
    if not (place / "corpus").exists():
        (place / "corpus").mkdir()
        write_lines(place / "corpus" / "a.jsonl", real_texts()[:12])
        (place / "named.json").write_text(byte_tokenizer())
    own = {
        "corpus": (str(place / "corpus"),),
        "store": str(place / "store"),
        "tokenizer": tokenizer.replace("PLACE", str(place)),
        "out": str(place / "o"),
        "workers": 1,
    }
    return prepare_plan(load_options(None, {**OPTIONS, **own}), Silent())[1]


def swapped(text: bytes) -> bytes:
    """The same tokenizer.json with the ids of `e` and `t` exchanged: it loads, and lies."""
    before, after = b'"e":101', b'"t":116'
    if before not in text:  # trained: `<|endoftext|>` and the alphabet come first
        before, after = b'"e":69', b'"t":84'
    assert before in text
    assert after in text
    e, t = before.rpartition(b":")[2], after.rpartition(b":")[2]
    return text.replace(before, b'"e":' + t).replace(after, b'"t":' + e)


@pytest.mark.parametrize("tokenizer", ["bytes", "train:300", "PLACE/named.json"])
@pytest.mark.parametrize("damage", [swapped, lambda _: b"{"], ids=["swapped", "brace"])
@pytest.mark.parametrize("parts", ["kept", "gone"])
def test_a_damaged_copy_is_written_again(tmp_path: Path, tokenizer: str, damage: object, parts: str) -> None:
    """Ids of another vocabulary under the right fingerprint would be re-used by every later build."""
    first = run(tmp_path, tokenizer)
    (copy,) = (tmp_path / "store" / "tokenizers").glob("*.json")
    good = copy.read_bytes()
    assert callable(damage)
    copy.write_bytes(damage(good))
    if parts == "gone":
        shutil.rmtree(tmp_path / "store" / "parts")
        (tmp_path / "store" / "checked.json").unlink()
    again = run(tmp_path, tokenizer)
    assert copy.read_bytes() == good
    assert again.tokenizer.sha256 == first.tokenizer.sha256
    assert [part.tokens_digest for part in again.parts] == [part.tokens_digest for part in first.parts]


@pytest.mark.parametrize("digest", [None, b"", b"0" * 64, b"\xff"])
def test_a_trained_tokenizer_without_its_digest_is_trained_again(tmp_path: Path, digest: bytes | None) -> None:
    first = run(tmp_path, "train:300")
    (beside,) = (tmp_path / "store" / "tokenizers").glob("*.sha256")
    good = beside.read_bytes()
    if digest is None:
        beside.unlink()
    else:
        beside.write_bytes(digest)
    assert run(tmp_path, "train:300").tokenizer == first.tokenizer
    assert beside.read_bytes() == good
