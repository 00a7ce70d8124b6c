"""Both backends give the same ids for any text, whatever else the tokenizer.json asks for."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from curriculum.errors import ConfigError
from gpt2 import gpt2_tokenizer_json
from pipeline import backends
from pipeline.backends import FastokensEncoder, ReferenceEncoder, encode_documents, open_encoder, split_pieces
from pipeline.hostile import hostile_texts
from pipeline.tokenizer import TokenizerInfo, byte_tokenizer, load_tokenizer, train_tokenizer

KINDS = ("gpt2", "trained", "bytes", "large", "added")
EOT = "<|endoftext|>"


def large_tokenizer() -> Tokenizer:
    """More than 65,536 entries, all reached by merges: every pair of bytes, and " the" as the last one, 65792."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [(a, b) for a in letters for b in letters] + [("Ġt", "he")]
    vocab = {entry: i for i, entry in enumerate(dict.fromkeys([*letters, *(a + b for a, b in merges)]))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([EOT])
    return tokenizer


def added_tokenizer() -> Tokenizer:
    """A normalizer, and added tokens that do match in text because they are not special."""
    tokenizer = Tokenizer.from_str(byte_tokenizer())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.add_tokens(
        ["<user>", AddedToken("<tool>", lstrip=True, rstrip=True), AddedToken("cat", single_word=True)]
    )
    return tokenizer


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Kind of tokenizer -> tokenizer.json."""
    folder = tmp_path_factory.mktemp("tokenizers")
    texts = {
        "trained": train_tokenizer([Path(backends.__file__).read_text("utf-8"), *hostile_texts().values()], 1500),
        "bytes": byte_tokenizer(),
        "large": large_tokenizer().to_str(),
        "added": added_tokenizer().to_str(),
    }
    for kind, text in texts.items():
        (folder / f"{kind}.json").write_text(text, "utf-8")
    return {kind: str(folder / f"{kind}.json") for kind in texts} | {"gpt2": str(gpt2_tokenizer_json(folder))}


def info_of(path: str) -> TokenizerInfo:
    return load_tokenizer(path, eos=None, bos="none")


@lru_cache
def decoder_of(path: str) -> Tokenizer:
    """The tokenizer as its users load it, which decodes what the backends encoded."""
    return Tokenizer.from_file(path)


def assert_equal(left: tuple[Any, Any], right: tuple[Any, Any]) -> None:
    for one, other in zip(left, right, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


odd_pieces = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.sampled_from(
        [*" \n\t\r'’sStTlLaé0_<|>\0\u200d\u0301\ufeff\u2028的🦄", EOT, " the", "<user>", " <tool> ", " cat"]
    ),
)
odd_text = st.lists(odd_pieces, max_size=20).map("".join)


@settings(deadline=None, max_examples=60)
@given(texts=st.lists(odd_text, max_size=8))
@pytest.mark.parametrize("kind", KINDS)
def test_both_backends_give_equal_ids_that_decode_to_the_text(
    paths: dict[str, str], kind: str, texts: list[str]
) -> None:
    """The bytes of a dataset must not depend on the backend."""
    reference, fast = (open_encoder(paths[kind], name) for name in ("tokenizers", "fastokens"))
    ids, lengths = reference.encode(texts)
    assert (ids.dtype, lengths.dtype, lengths.shape) == (np.uint32, np.int64, (len(texts),))
    assert lengths.sum() == len(ids)
    assert_equal((ids, lengths), fast.encode(texts))
    if kind != "added":  # it normalizes, so that its text does not come back
        split = np.split(ids, np.cumsum(lengths)[:-1]) if texts else []
        assert [decoder_of(paths[kind]).decode(part.tolist(), skip_special_tokens=False) for part in split] == texts
        assert decoder_of(paths[kind]).token_to_id(EOT) not in ids


@pytest.mark.parametrize("backend", ["tokenizers", "fastokens"])
def test_special_tokens_in_a_text_are_text(paths: dict[str, str], backend: str) -> None:
    """A web page about language models must not end documents."""
    encoder = open_encoder(paths["bytes"], backend)
    ids, lengths = encoder.encode([EOT, f"a{EOT} b", ""])
    assert ids.tolist() == list(f"{EOT}a{EOT} b".encode())
    assert lengths.tolist() == [13, 16, 0]
    ids, _ = open_encoder(paths["gpt2"], backend).encode([EOT])
    assert ids.tolist() == [27, 91, 437, 1659, 5239, 91, 29]  # <| end of text |>
    ids, _ = open_encoder(paths["added"], backend).encode([f"<user>{EOT}"])
    assert ids.tolist() == [257, *b" <|endoftext|>"], "an added token that is not special still matches"


@pytest.mark.parametrize("backend", ["tokenizers", "fastokens"])
def test_nothing_in_the_file_adds_cuts_or_randomizes_tokens(tmp_path: Path, backend: str) -> None:
    """Files saved after fine-tuning hold truncation, padding, a BOS template; BPE dropout gives other ids each time."""
    tokenizer = Tokenizer.from_str(train_tokenizer(["abab abab abab"] * 9, 264))
    plain, altered = tmp_path / "plain.json", tmp_path / "altered.json"
    tokenizer.save(str(plain))
    tokenizer.add_special_tokens(["<s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A <s>", special_tokens=[("<s>", 264)])
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=50, pad_id=7)
    content = json.loads(tokenizer.to_str())
    content["model"]["dropout"] = 0.9
    altered.write_text(json.dumps(content), "utf-8")
    texts = ["abab abab ab" * 9, "", "a"]
    wanted = open_encoder(str(plain), backend).encode(texts)
    assert 20 < len(wanted[0]) < 80, "merges are at work, and more than 4 tokens come out"
    for _ in range(3):
        assert_equal(open_encoder(str(altered), backend).encode(texts), wanted)


def test_large_ids_survive(paths: dict[str, str]) -> None:
    """Ids above 65,535 need four bytes all the way."""
    info = info_of(paths["large"])
    assert (info.vocab_size, info.eos_id, info.dtype) == (256 + 65536 + 1 + 1, 65793, "uint32")
    for backend in ("tokenizers", "fastokens"):
        assert open_encoder(paths["large"], backend).encode([" the"])[0].tolist() == [65792]


def test_pieces_are_cut_before_newlines_and_between_characters() -> None:
    """The rule of docs/format.md, literally; another cut gives other ids."""
    assert split_pieces("ab\ncd\nefghij", 4) == ["ab", "\ncd", "\nefg", "hij"]
    assert split_pieces("abcd\nef", 4) == ["abcd", "\nef"], "a newline at the border itself counts"
    assert split_pieces("abcde\nf", 4) == ["abcd", "e\nf"], "a newline behind the border does not"
    assert split_pieces("a\nb\nc\nd", 4) == ["a\nb", "\nc\nd"], "the last newline, not the first"
    assert split_pieces("\nabcdef", 4) == ["\nabc", "def"], "a piece that begins with a newline is not cut there again"
    assert split_pieces("a的的", 6) == ["a的", "的"]
    assert split_pieces("🦄🦄", 4) == ["🦄", "🦄"]
    assert split_pieces("abcd", 4) == ["abcd"]
    assert split_pieces("", 4) == [""]
    with pytest.raises(ValueError, match="4 is the least"):
        split_pieces("abcd", 3)


@settings(deadline=None)
@given(text=st.text(st.sampled_from("a\né的🦄"), max_size=40), limit=st.integers(4, 20))
def test_pieces_make_up_the_text_and_none_is_too_long_or_could_be_longer(text: str, limit: int) -> None:
    """Written with characters instead of bytes: the longest prefix that fits, cut back to its last newline."""
    pieces = split_pieces(text, limit)
    assert "".join(pieces) == text
    rest = text
    for piece in pieces[:-1]:
        assert 0 < len(piece.encode()) <= limit
        fits = max(n for n in range(len(rest) + 1) if len(rest[:n].encode()) <= limit)
        newlines = [n for n in range(1, fits + 1) if rest[n : n + 1] == "\n"]
        assert piece == rest[: newlines[-1] if newlines else fits]
        rest = rest[len(piece) :]
    assert len(pieces[-1].encode()) <= limit


def test_a_text_just_above_the_border_is_two_pieces() -> None:
    """The border of the format is 16 MiB of UTF-8, not of characters."""
    text = "é" * (8 << 20)
    assert split_pieces(text) == [text]
    assert [len(piece) for piece in split_pieces("a" + text)] == [8 << 20, 1]


@settings(deadline=None)
@given(texts=st.lists(st.text(st.sampled_from("ab \né的"), max_size=30), max_size=6), limit=st.integers(4, 30))
@pytest.mark.parametrize("backend", ["tokenizers", "fastokens"])
def test_a_document_in_pieces_has_one_length(paths: dict[str, str], backend: str, texts: list[str], limit: int) -> None:
    """Slow path: each piece encoded alone. EOS is put where the lengths say that documents end."""
    encoder = open_encoder(paths["trained"], backend)
    ids, lengths = encode_documents(encoder, texts, piece_bytes=limit)
    slow = [[i for piece in split_pieces(text, limit) for i in encoder.encode([piece])[0].tolist()] for text in texts]
    assert ids.tolist() == [i for part in slow for i in part]
    assert lengths.tolist() == [len(part) for part in slow]
    assert (ids.dtype, lengths.dtype) == (np.uint32, np.int64)


def test_a_document_with_a_newline_at_the_cut_has_the_ids_of_the_whole(paths: dict[str, str]) -> None:
    """For GPT-2's word rule such a cut is no cut: a word never runs over a single newline before a letter."""
    text = "\n".join(["some words of a line,"] * 50)
    encoder = open_encoder(paths["gpt2"], "fastokens")
    assert_equal(encode_documents(encoder, [text], piece_bytes=100), encode_documents(encoder, [text]))


def test_batches_of_the_reference_do_not_change_ids(paths: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory is 145 bytes per byte of text, so it is fed little by little."""
    texts = ["one two", "", "three " * 40, "x", "", "y"]
    whole = ReferenceEncoder(paths["gpt2"]).encode(texts)
    monkeypatch.setattr(backends, "REFERENCE_BATCH_CHARS", 8)
    assert_equal(ReferenceEncoder(paths["gpt2"]).encode(texts), whole)


def test_a_backend_that_fails_on_one_batch_is_answered_by_the_reference(paths: dict[str, str]) -> None:
    """A regex limit on one odd document after hours of work must not stop the build, nor change its ids."""

    class Failing:
        def encode_batch_flat(self, texts: list[str], **_: bool) -> tuple[bytes, bytes]:
            raise RuntimeError("match limit exceeded")

    encoder = FastokensEncoder(paths["gpt2"])
    texts = ["it's", f" {EOT}", ""]
    wanted = encoder.encode(texts)
    encoder._tokenizer = Failing()
    assert_equal(encoder.encode(texts), wanted)


def test_an_encoder_is_loaded_once_and_again_when_its_file_changes(tmp_path: Path) -> None:
    """Loading GPT-2 takes 0.4 s; but a second build in this process may have another tokenizer in the same place."""
    file = tmp_path / "tokenizer.json"
    file.write_text(byte_tokenizer(), "utf-8")
    first = open_encoder(str(file), "tokenizers")
    assert open_encoder(str(file), "tokenizers") is first
    file.write_text(train_tokenizer(["aa aa aa"] * 9, 260), "utf-8")
    assert len(open_encoder(str(file), "tokenizers").encode(["aa"])[0]) == 1
    file.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        open_encoder(str(file), "tokenizers")
