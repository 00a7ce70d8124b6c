"""A backend that gives one wrong id anywhere is found out before it writes a token; the verdict is remembered."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, normalizers

from curriculum.errors import BuildError, ConfigError
from gpt2 import gpt2_tokenizer_json
from pipeline import backends, trust
from pipeline.backends import ReferenceEncoder, open_encoder
from pipeline.build import BuildResult, build
from pipeline.hostile import code_point_texts, hostile_texts
from pipeline.option_sources import load_options
from pipeline.progress import Terminal
from pipeline.tokenizer import TokenizerInfo, byte_tokenizer, load_tokenizer, train_tokenizer
from pipeline.trust import choose_backend

EOT = "<|endoftext|>"


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Kind of tokenizer -> tokenizer.json."""
    folder = tmp_path_factory.mktemp("tokenizers")
    (folder / "bytes.json").write_text(byte_tokenizer(), "utf-8")
    (folder / "trained.json").write_text(train_tokenizer(["the cat sat on the mat"] * 9, 300), "utf-8")
    kinds = {kind: str(folder / f"{kind}.json") for kind in ("bytes", "trained")}
    return kinds | {"gpt2": str(gpt2_tokenizer_json(folder))}


def info_of(path: str) -> TokenizerInfo:
    return load_tokenizer(path, eos=None, bos="none")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or leaves verdicts in the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "curriculum"


@pytest.fixture
def few_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that takes no time, for tests of what is made of its outcome."""
    few = [(first, text) for first, text in code_point_texts() if first in (0, 0x600)]
    monkeypatch.setattr(trust, "code_point_texts", lambda: iter(few))
    monkeypatch.setattr(trust, "hostile_texts", lambda: {"contractions": "it's", "special": f"a{EOT}b"})


def test_fastokens_is_trusted_after_the_whole_check(paths: dict[str, str], own_cache: Path) -> None:
    """The real check over all hostile texts and code points passes without a warning, and is remembered."""
    warnings: list[str] = []
    assert choose_backend(info_of(paths["gpt2"]), ["some text", "", "的"], warn=warnings.append) == "fastokens"
    assert warnings == []
    (verdict,) = own_cache.iterdir()
    assert json.loads(verdict.read_text("utf-8"))["difference"] is None


class Lying:
    """A backend that gives another id whenever `marker` is in a text."""

    name = "fastokens"
    version = "9.9"

    def __init__(self, path: str, marker: str) -> None:
        self.reference = ReferenceEncoder(path)
        self.marker = marker

    def encode(self, texts: list[str]) -> tuple[Any, Any]:
        ids, lengths = self.reference.encode(texts)
        for text, stop in zip(texts, np.cumsum(lengths), strict=True):
            if self.marker in text:
                ids[stop - 1] += 1
        return ids, lengths


@pytest.fixture
def lie(monkeypatch: pytest.MonkeyPatch, few_texts: None) -> Callable[[str], None]:
    """Replace fastokens by a backend that is wrong about texts with a marker in them."""

    def replace(marker: str) -> None:
        monkeypatch.setitem(backends.OPENERS, "fastokens", lambda path: Lying(path, marker))

    return replace


@pytest.mark.parametrize(
    ("marker", "named"),
    [
        ("it's", r"on the hostile text 'contractions' fastokens gives id 116 at token 3 where tokenizers gives id 115"),
        ("\u0661", r"on the code point U\+0661 fastokens gives id 11 at token \d+ where tokenizers gives id 10"),
        ("a<|endoftext|>b\n", r"on the added token '<\|endoftext\|>' fastokens gives"),
        (
            "only here",
            r"on text 2 of the corpus sample fastokens gives id 102 at token 8 where tokenizers gives id 101",
        ),
    ],
)
def test_a_lying_backend_is_found_out_and_named(
    paths: dict[str, str], lie: Callable[[str], None], marker: str, named: str
) -> None:
    """One wrong id anywhere sends the build to the reference, whether the verdict is new or remembered."""
    lie(marker)
    info, sample = info_of(paths["bytes"]), ["fine", "also fine", "only here"]
    for _ in range(2):
        warnings: list[str] = []
        assert choose_backend(info, iter(sample), warn=warnings.append) == "tokenizers"
        assert len(warnings) == 1
        with pytest.raises(BuildError, match=named):
            choose_backend(info, sample, warn=warnings.append, wanted="fastokens")
        assert len(warnings) == 1, "no warning where the build stops"
        assert re.search(named, warnings[0])


def test_the_reference_is_taken_unchecked_when_wanted(paths: dict[str, str], lie: Callable[[str], None]) -> None:
    """`--backend tokenizers` needs no check and no fast backend."""
    lie("it's")
    assert choose_backend(info_of(paths["bytes"]), [], warn=pytest.fail, wanted="tokenizers") == "tokenizers"
    for call in (
        lambda: choose_backend(info_of(paths["bytes"]), [], warn=pytest.fail, wanted="turbo"),
        lambda: open_encoder(paths["bytes"], "turbo"),
    ):
        with pytest.raises(ConfigError, match="no tokenizer backend 'turbo'; use one of tokenizers, fastokens"):
            call()


def test_a_backend_with_broken_lengths_is_not_trusted(
    paths: dict[str, str], monkeypatch: pytest.MonkeyPatch, few_texts: None
) -> None:
    """The right ids with documents that end elsewhere are wrong too."""

    class Shifted(Lying):
        def encode(self, texts: list[str]) -> tuple[Any, Any]:
            ids, lengths = self.reference.encode(texts)
            return ids, np.concatenate([lengths[:-1] + 1, lengths[-1:]])

    monkeypatch.setitem(backends.OPENERS, "fastokens", lambda path: Shifted(path, ""))
    warnings: list[str] = []
    assert choose_backend(info_of(paths["bytes"]), [], warn=warnings.append) == "tokenizers"
    assert "do not add up" in warnings[0]


def test_a_tokenizer_that_fastokens_does_not_support_falls_back(tmp_path: Path) -> None:
    """NFKC is not in fastokens 0.3.5; the build goes on, slower."""
    tokenizer = Tokenizer.from_str(byte_tokenizer())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Strip()])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    info = info_of(str(tmp_path))
    warnings: list[str] = []
    assert choose_backend(info, ["text"], warn=warnings.append) == "tokenizers"
    assert "because fastokens does not load" in warnings[0]
    assert warnings[0].endswith(".")
    with pytest.raises(BuildError, match="does not load"):
        choose_backend(info, ["text"], warn=pytest.fail, wanted="fastokens")


def test_the_warning_names_the_file_that_was_given(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not its copy in the token store, whose name is a digest."""
    tokenizer = Tokenizer.from_str(byte_tokenizer())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Strip()])
    tokenizer.save(str(tmp_path / "given.json"))
    given = str(tmp_path / "given.json")
    options = {"corpus": (str(corpus),), "tokenizer": given, "out": str(tmp_path / "out"), "workers": 1}
    build(load_options(None, {**options, "max_length": 64}), Terminal())
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if "slow reference backend" in line]
    assert warning.startswith(f"Encoding {given} with the slow")
    assert f"because fastokens does not load {given}:" in warning
    assert "out.store" not in warning


def test_a_verdict_is_remembered_per_tokenizer_and_version(
    paths: dict[str, str], own_cache: Path, monkeypatch: pytest.MonkeyPatch, few_texts: None
) -> None:
    """Two seconds once, not at every build; a new version of a backend is checked anew."""
    info = info_of(paths["bytes"])
    choose_backend(info, [], warn=pytest.fail)
    monkeypatch.setattr(trust, "hostile_texts", lambda: pytest.fail("checked again"))
    assert choose_backend(info, ["x"], warn=pytest.fail) == "fastokens"
    with pytest.raises(pytest.fail.Exception, match="checked again"):
        choose_backend(info_of(paths["trained"]), [], warn=pytest.fail)
    monkeypatch.setattr(trust, "CHECK_VERSION", trust.CHECK_VERSION + 1)
    with pytest.raises(pytest.fail.Exception, match="checked again"):
        choose_backend(info, [], warn=pytest.fail)
    assert len(list(own_cache.iterdir())) == 1, "no temporary file stays behind"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b'{"difference": null}', b"moved", b"number"])
def test_a_corrupt_verdict_is_ignored(
    paths: dict[str, str], own_cache: Path, lie: Callable[[str], None], content: bytes
) -> None:
    """A damaged cache must neither stop a build nor vouch for a backend."""
    lie("it's")
    info = info_of(paths["bytes"])
    choose_backend(info, [], warn=lambda _: None)
    (file,) = own_cache.iterdir()
    verdict = json.loads(file.read_bytes())
    forged = {
        b"moved": {**verdict, "tokenizer": "0" * 64, "difference": None},  # of another tokenizer
        b"number": {**verdict, "difference": 0},
    }
    file.write_bytes(json.dumps(forged[content]).encode() if content in forged else content)
    assert choose_backend(info, [], warn=lambda _: None) == "tokenizers"
    assert json.loads(file.read_bytes()) == verdict, "the check wrote it again"


def test_a_cache_that_cannot_be_written_costs_time_only(
    paths: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few_texts: None
) -> None:
    """Read-only homes and containers without one."""
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert choose_backend(info_of(paths["bytes"]), [], warn=pytest.fail) == "fastokens"

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("XDG_CACHE_HOME", "relative/paths/are/invalid")
    monkeypatch.setattr(Path, "home", no_home)
    assert choose_backend(info_of(paths["bytes"]), [], warn=pytest.fail) == "fastokens"


def test_the_fixed_texts_cover_what_they_say() -> None:
    """Every code point below U+32400 but surrogates, and only texts that can reach an encoder."""
    texts = dict(code_point_texts())
    everything = "".join(texts.values())
    expected = {code for code in range(0x32400) if not 0xD800 <= code < 0xE000}
    assert expected <= set(map(ord, everything))
    assert all(
        f"a{chr(code)}b {chr(code) * 2} 1{chr(code)}\n" in texts[code & ~255] for code in (0, 0x7F, 0xFFFF, 0x323FF)
    )
    for name, text in {**hostile_texts(), "all": everything}.items():
        assert text == "" or text.encode().decode() == text, name
    assert hostile_texts() == hostile_texts()
    assert any(EOT in text for text in hostile_texts().values())
    assert sum(len(text.encode()) for text in hostile_texts().values()) < 3_000_000, "the check takes 2.5 s at most"


def test_a_store_that_was_checked_is_cut_anew_without_an_encoder(
    corpus: Path,
    build_small: Callable[..., BuildResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    few_texts: None,
) -> None:
    """Another seed costs no look at the tokenizer; one more file, or another version of a backend, does."""
    copied = tmp_path / "corpus"
    shutil.copytree(corpus, copied)
    first = {"corpus": (str(copied),), "store": str(tmp_path / "store")}
    assert build_small(tmp_path / "one", **first).manifest.accounting.documents > 100

    def checked(*args: object, **kwargs: object) -> str:
        raise InterruptedError("the sample is checked")

    monkeypatch.setattr("pipeline.corpus_backend.choose_backend", checked)
    monkeypatch.setattr("pipeline.tokenize_stage.encode_unit", checked)
    build_small(tmp_path / "two", seed=1, **first)
    monkeypatch.setattr(trust, "CHECK_VERSION", trust.CHECK_VERSION + 1)
    with pytest.raises(InterruptedError, match="the sample is checked"):
        build_small(tmp_path / "three", seed=2, **first)
    monkeypatch.setattr(trust, "CHECK_VERSION", trust.CHECK_VERSION - 1)
    (copied / "more.txt").write_text("one more")
    with pytest.raises(InterruptedError, match="the sample is checked"):
        build_small(tmp_path / "three", seed=2, **first)
