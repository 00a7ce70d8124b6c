"""EOS and BOS of stored documents by the rule, in every small case; and what the check of the tokenizer compares."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from pipeline.backends import ReferenceEncoder
from pipeline.tokenized.check import check_tokenizer
from pipeline.tokenized.id_array import IdBlock
from pipeline.tokenized.plain import plain_documents
from pipeline.tokenizer import TokenizerInfo, byte_tokenizer, load_tokenizer

EOS, BOS, WORD = 0, 1, 2
DOCUMENTS = [list(ids) for length in range(5) for ids in product((EOS, BOS, WORD), repeat=length)]


def by_the_rule(document: list[int], bos: int | None) -> tuple[list[int], int]:
    """The text of a document, and the empty documents that it counts as; one step after the other."""
    text, num_eos = list(document), 0
    while text and text[-1] == EOS:
        text.pop()
        num_eos += 1
    if bos is not None and text and text[0] == bos:
        text.pop(0)
    return text, max(num_eos - 1, 0) + (not text)


@pytest.mark.parametrize("bos", [None, BOS, EOS])
@pytest.mark.parametrize("dtype", ["uint8", "int64"])
def test_every_short_document_in_every_company(bos: int | None, dtype: str) -> None:
    """All documents of up to 4 ids of EOS, BOS and a word, alone and among all others: no border moves."""
    tokenizer = TokenizerInfo(path="", sha256="", vocab_size=3, eos_id=EOS, bos_id=bos, eos_is_special=True)
    for documents in (*([document] for document in DOCUMENTS), DOCUMENTS, DOCUMENTS[::-1], []):
        block = IdBlock(
            ids=np.array([number for document in documents for number in document], dtype),
            lengths=np.array([len(document) for document in documents], np.int64),
            positions=np.arange(100, 100 + len(documents)),
        )
        plain = plain_documents(block, tokenizer, "a.bin", "document")
        expected = [by_the_rule(document, bos) for document in documents]
        kept = [(text, 100 + place) for place, (text, _) in enumerate(expected) if text]
        found = np.split(plain.ids, np.cumsum(plain.lengths)[:-1]) if len(plain.lengths) else []
        assert [part.tolist() for part in found] == [text for text, _ in kept]
        assert plain.positions.tolist() == [position for _, position in kept]
        assert plain.empty_documents == sum(empty for _, empty in expected)
        assert plain.ids.dtype == np.uint16
        assert len(set(plain.hashes)) == len({tuple(text) for text, _ in kept})


def test_a_cut_in_the_middle_of_a_character_counts_nothing(tmp_path: Path) -> None:
    """Long documents are compared in their first 256 ids, and ids of bytes may end anywhere in a character."""
    path = tmp_path / "bytes.json"
    path.write_text(byte_tokenizer(), "utf-8")
    tokenizer = load_tokenizer(str(path), eos=None, bos="none")
    ids, _ = ReferenceEncoder(str(path)).encode(["日本語の文" * 200])
    documents = [ids[start:] for start in (0, 3, 6)] + [ids[: 256 + cut] for cut in range(16, 19)]
    check = check_tokenizer(tokenizer, documents)
    assert (check.compared_ids, check.same_ids) == (6 * 256, 6 * 256)
    broken = check_tokenizer(tokenizer, [ids[1:]])  # begins inside a character: its two bytes do not come back
    assert (broken.compared_ids, broken.same_ids) == (256, 254)


def test_special_tokens_are_not_compared(tmp_path: Path) -> None:
    """Text never gives them, so a document that holds them would never come back."""
    path = tmp_path / "bytes.json"
    path.write_text(byte_tokenizer(), "utf-8")
    tokenizer = load_tokenizer(str(path), eos=None, bos="none")
    check = check_tokenizer(tokenizer, [np.array([256, 97, 98, 256, 99, 256]), np.array([256]), np.array([], np.int64)])
    assert (check.documents, check.compared_ids, check.same_ids, check.foreign_eos) == (3, 3, 3, None)
    assert check_tokenizer(tokenizer, []).share == 1.0
