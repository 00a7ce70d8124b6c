"""Is it this tokenizer? Sampled documents are decoded and encoded again, and should give the ids that are stored.

In:  a tokenizer, and some documents of the corpus as they are stored.   Out: `TokenizerCheck`: figures and oddities.
Guarantee: the same documents give the same verdict; nothing of the corpus is changed by it. Documents are cut at
special tokens (which text never gives) and compared from their beginning, so that no window starts inside a word.
What is compared is followed by 16 more ids, so that a cut in the middle of a character changes nothing that counts.

    stored     464 2068 7586 | 50256     decoded "The quick brown"     encoded again   464 2068 7586     3 of 3
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

import numpy as np

from curriculum.errors import BuildError
from pipeline.backends import load_reference
from pipeline.tokenized.id_array import Ids
from pipeline.tokenizer import TokenizerInfo

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MIN_SAME = 0.98
"""The right tokenizer gives back 100.0 % of the ids of real text. A wrong one gives back more than one would think,
since most of its tokens, put together to nonsense, are still found again: ids of a BPE of 8,192 entries read as
GPT-2's 92 %, those of a BPE of 4,000 read by one of 4,400 that was trained on the same text 97 %. Read by one of
4,080 it is 99.7 %: not noticed."""
COMPARED_TOKENS = 256
LOOKAHEAD_TOKENS = 16
MOST = 0.9


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerCheck:
    """What sampled documents say of a tokenizer."""

    documents: int
    compared_ids: int
    same_ids: int
    remarks: tuple[str, ...]
    """sentences about BOS and EOS where they are not expected"""
    foreign_eos: str | None
    """the special token that nearly all documents end with, if it is not the EOS"""
    eos: str

    @property
    def share(self) -> float:
        """Of the compared ids that come back."""
        return self.same_ids / self.compared_ids if self.compared_ids else 1.0

    def summary(self) -> str:
        """The figures in a sentence."""
        return (
            f"Tokenizer check: {self.same_ids:,} of {self.compared_ids:,} ids ({100 * self.share:.1f} %) in "
            f"{self.documents:,} documents come back when they are decoded and encoded again."
        )


def check_tokenizer(tokenizer: TokenizerInfo, documents: Sequence[Ids]) -> TokenizerCheck:
    """Decode and encode the beginnings of documents.

    Args:
        documents: ids [tokens] of each, all below the vocabulary's size, as they are stored.
    """
    reference = load_reference(tokenizer.path)
    special = {number: token.content for number, token in reference.get_added_tokens_decoder().items() if token.special}
    special.setdefault(tokenizer.eos_id, reference.id_to_token(tokenizer.eos_id) or str(tokenizer.eos_id))
    compared = same = 0
    for document in documents:
        for piece in _text_pieces(document, special):
            count = min(len(piece), COMPARED_TOKENS)
            compared += count
            same += _num_same(reference, piece, count)
    return TokenizerCheck(
        documents=len(documents),
        compared_ids=compared,
        same_ids=same,
        remarks=tuple(_remarks(tokenizer, documents, special)),
        eos=special[tokenizer.eos_id],
        foreign_eos=_foreign_eos(tokenizer, documents, special),
    )


def require_tokenizer(check: TokenizerCheck, tokenizer_name: str) -> None:
    """Refuse a tokenizer that is the wrong one.

    Raises:
        BuildError: with the figures, and how to go on anyway.
    """
    anyway = "If it is the right one all the same, go on with --tokenizer-check warn."
    if check.share < MIN_SAME:
        raise BuildError(
            f"The tokenizer {tokenizer_name} does not give these ids back: of {check.compared_ids:,} ids in "
            f"{check.documents:,} sampled documents, {check.same_ids:,} ({100 * check.share:.1f} %) are the same "
            f"after decoding and encoding again, and {100 * MIN_SAME:.0f} % should be. The corpus was written with "
            f"another one: name that with --tokenizer. {anyway} (Ids of BPE dropout do not come back, nor do those "
            f"of a tokenizer whose decoder loses text.)"
        )
    if check.foreign_eos is not None:
        raise BuildError(
            f"Nearly all of {check.documents:,} sampled documents end with {check.foreign_eos!r}, and the EOS of "
            f"the build is {check.eos!r}, which would be put after it. Name the token that ends documents with "
            f"--eos. {anyway}"
        )


def _text_pieces(document: Ids, special: dict[int, str]) -> Iterator[list[int]]:
    """Runs of ids without a special token, at most `COMPARED_TOKENS` ids of them (and those after, to look ahead)."""
    left = COMPARED_TOKENS
    numbers = document[: 4 * COMPARED_TOKENS].tolist()
    piece: list[int] = []
    for number in [*numbers, None]:
        if number is not None and number not in special:
            piece.append(number)
        elif piece:
            yield piece[: left + LOOKAHEAD_TOKENS]
            left -= len(piece)
            piece = []
        if left <= 0:
            return


def _num_same(reference: Tokenizer, ids: list[int], count: int) -> int:
    """How many of the first `count` ids come back, in order."""
    text = reference.decode(ids, skip_special_tokens=False)
    again = reference.encode(text, add_special_tokens=False).ids
    if again[:count] == ids[:count]:
        return count
    blocks = SequenceMatcher(None, ids, again, autojunk=False).get_matching_blocks()
    return sum(max(0, min(block.a + block.size, count) - block.a) for block in blocks)


def _remarks(tokenizer: TokenizerInfo, documents: Sequence[Ids], special: dict[int, str]) -> Iterator[str]:
    filled = [document for document in documents if len(document)]
    begin = Counter(int(document[0]) for document in filled)
    for number, count in begin.most_common(1):
        if number in special and number not in (tokenizer.bos_id, tokenizer.eos_id) and count > MOST * len(filled):
            yield (
                f"{count:,} of {len(filled):,} sampled documents begin with {special[number]!r}, which stays a "
                f"token of their text. If it is their BOS, --bos document says so."
            )
    inside = sum(_holds_inside(document, tokenizer.eos_id) for document in filled)
    if inside > len(filled) / 10:
        yield (
            f"{inside:,} of {len(filled):,} sampled documents hold the EOS {special[tokenizer.eos_id]!r} inside: "
            f"they may be packed rows of several documents, and no border is known where it stands. --tokenized "
            f"raw cuts at each EOS."
        )


def _holds_inside(document: Ids, eos_id: int) -> bool:
    """Between other ids: padding with EOS at the end is none."""
    others = np.flatnonzero(document != eos_id)
    return len(others) > 0 and bool((document[1 : int(others[-1])] == eos_id).any())


def _foreign_eos(tokenizer: TokenizerInfo, documents: Sequence[Ids], special: dict[int, str]) -> str | None:
    ends = Counter(int(document[-1]) for document in documents if len(document))
    for number, count in ends.most_common(1):
        if number in special and number != tokenizer.eos_id and count > MOST * ends.total():
            return special[number]
    return None
