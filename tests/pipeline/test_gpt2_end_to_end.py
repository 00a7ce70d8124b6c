"""A real corpus with the real GPT-2 tokenizer: rows laid back are the documents, each exactly once."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

import curriculum
from gpt2 import gpt2_tokenizer_json
from pipeline.build import build
from pipeline.option_sources import load_options
from pipeline.progress import Silent
from small_corpus import read_rows

EOS = 50256


@pytest.fixture(scope="module")
def package() -> Path:
    """Real sources: the email, asyncio, json, http and xml packages have 2 MB between them; one is enough here."""
    return Path(sysconfig.get_path("stdlib")) / "asyncio"


def test_rows_laid_back_by_offset_decode_to_the_documents(package: Path, tmp_path: Path) -> None:
    """Every token of every document is a target exactly once, except what accounting names."""
    tokenizer_json = gpt2_tokenizer_json(tmp_path)
    options = {
        "corpus": (str(package),),
        "tokenizer": str(tokenizer_json),
        "out": str(tmp_path / "out"),
        "max_length": 256,
        "batch_rows": 4,
        "shuffle_window": 50_000,
        "workers": 2,
        "unit_bytes": 100_000,
    }
    manifest = build(load_options(None, options), Silent()).manifest
    assert manifest.tokenizer.vocab_size == 50_257
    assert manifest.dtype == "uint16"
    stream = read_rows(curriculum.open(tmp_path / "out"))
    pieces = np.split(stream, np.flatnonzero(stream == EOS) + 1)
    reference = Tokenizer.from_file(str(tokenizer_json))
    texts = [path.read_text("utf-8") for path in sorted(package.rglob("*.py"))]
    left = {tuple(reference.encode(text, add_special_tokens=False).ids): text for text in texts if text}
    total = sum(len(ids) + 1 for ids in left)
    for piece in pieces[:-1]:
        text = left.pop(tuple(piece[:-1].tolist()))  # KeyError: no document of the corpus, or twice
        assert reference.decode(piece[:-1].tolist()) == text
    tail = tuple(pieces[-1].tolist())
    assert any(ids[: len(tail)] == tail for ids in left)
    accounting = manifest.accounting
    assert accounting.corpus_tokens == total
    assert accounting.trained_tokens == len(stream) - 1
    assert accounting.unused_tokens == total - accounting.trained_tokens
    assert accounting.context_tokens == 1
