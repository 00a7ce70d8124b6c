"""The text of ids, by the tokenizer.json of a dataset that somebody else may have made.

In:  the tokenizer.json of a dataset and its digest in the manifest; ids.   Out: text.
Guarantee: time and memory are bounded, and a tokenizer that fails is a sentence. Of the file only the entries and the
decoder are used: its model and whatever else prepares text for encoding is never built, which would take minutes or
end the process (a Unigram model recurses once per character of its longest entry). A decoder may replace text by more
text, one after the other, or search it with an expression that takes for ever: such are refused before they decode.
An id without an entry is shown as such: a row never looks shorter than it is.

    open_tokenizer(files, manifest).decode([104, 105, 60000])      "hi<id 60000>"
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from curriculum.errors import DataError
from curriculum.manifest import Manifest
from curriculum.printable import one_line
from curriculum.regular_file import read_regular
from pipeline.backends import is_backend_failure
from pipeline.files.contract import Files

if TYPE_CHECKING:
    from tokenizers.decoders import Decoder

TOKENIZER = "tokenizer.json"
DECODERS = frozenset(
    ("BPEDecoder", "ByteFallback", "ByteLevel", "CTC", "Fuse", "Metaspace", "Replace", "Sequence", "Strip", "WordPiece")
)
"""What `tokenizers` calls them. It takes some without a name too, by their other keys."""
MAX_DECODERS = 16
MAX_GROWTH = 64
"""So many times longer all replacements of a decoder together may make a text; real ones replace a character by one."""
MAX_STRIPPED = 64
MAX_CHARACTERS = 64 << 20
"""Of a decoded text, at most: of the entries that are joined, times what a decoder may make of each character."""
_NO_MODEL = {"type": "WordLevel", "vocab": {}, "unk_token": ""}


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignTokenizer:
    """Decodes ids."""

    entries: Mapping[int, str]
    """of the vocabulary and of the added tokens, by id"""
    special: frozenset[int]
    """ids of special added tokens"""
    decoder: Decoder | None
    """makes text of entries; None: they stand with spaces between"""
    growth: int
    """characters that it may make of one"""
    where: str
    """of the file, for messages"""

    def id_to_token(self, id: int) -> str:
        """The entry of the vocabulary, or `<id 60000>` where there is none."""
        entry = self.entries.get(id)
        return f"<id {id}>" if entry is None else entry

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """The text of some ids, `<id 60000>` of one without an entry.

        Args:
            ids: all in the range of uint32.
            skip_special_tokens: leave those out.

        Raises:
            DataError: it would be absurdly long, or the tokenizer cannot.
        """
        left_out = self.special if skip_special_tokens else ()
        ids = [id for id in ids if id not in left_out]
        entries = [self.id_to_token(id) for id in ids]
        if sum(map(len, entries)) * self.growth > MAX_CHARACTERS:
            raise self._unusable(f"a row could have more than {MAX_CHARACTERS:,} characters")
        if self.decoder is None:
            return " ".join(entries)
        try:
            if all(id in self.entries for id in ids):
                return self.decoder.decode(entries)
            stretches = groupby(zip(ids, entries, strict=True), key=lambda pair: pair[0] in self.entries)
            return "".join(
                self.decoder.decode(texts) if is_known else "".join(texts)  # no decoder touches `<id 60000>`
                for is_known, pairs in stretches
                for texts in ([entry for _, entry in pairs],)
            )
        except BaseException as error:
            if not is_backend_failure(error):
                raise
            raise self._unusable(error) from error

    def _unusable(self, why: object) -> DataError:
        return DataError(f"{self.where}: cannot be used to decode rows: {one_line(why)}. Copy it again.")


def open_tokenizer(files: Files, manifest: Manifest) -> ForeignTokenizer:
    """The tokenizer of a dataset.

    Raises:
        DataError: it is missing, another one than the manifest says, or cannot be used.
    """
    import orjson
    from tokenizers import Tokenizer

    where = files.address(TOKENIZER)
    try:
        content = read_regular(files.local(TOKENIZER))
        if hashlib.sha256(content).hexdigest() != manifest.tokenizer.sha256:
            raise ValueError("it is not the one of the manifest, its sha256 differs")
        top = orjson.loads(content)
        if not isinstance(top, dict):
            raise ValueError("it is no JSON object")
        growth = _growth(top.get("decoder"))
        entries, special = entries_of(top)
        # What was checked is what is loaded: another parser might take the other one of two equal keys.
        bare: dict[str, Any] = {"version": "1.0", "model": _NO_MODEL, "decoder": top.get("decoder"), "added_tokens": []}
        decoder = Tokenizer.from_str(orjson.dumps(bare).decode()).decoder
        return ForeignTokenizer(entries=entries, special=special, decoder=decoder, growth=growth, where=where)
    except FileNotFoundError:
        raise DataError(f"{where}: is missing, and rows cannot be decoded without it. Copy it again.") from None
    except BaseException as error:  # `tokenizers` raises plain Exception for a file that it cannot parse, or panics
        if isinstance(error, DataError) or not is_backend_failure(error):
            raise
        raise DataError(f"{where}: cannot be used to decode rows: {one_line(error)}. Copy it again.") from error


def entries_of(top: dict[str, Any]) -> tuple[dict[int, str], frozenset[int]]:
    """Every entry of a tokenizer.json by the id that `tokenizers` gives it, and the ids of special ones.

    An added token has the id of the model's entry of that text; else the next one free. Its own `id` is not looked at.
    """
    model = top.get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocab, list):  # Unigram: [entry, score]
        ids = {entry: number for number, (entry, _) in enumerate(vocab)}
        entries = {number: entry for number, (entry, _) in enumerate(vocab)}
    elif isinstance(vocab, dict):
        ids, entries = dict(vocab), {number: entry for entry, number in vocab.items()}
    else:
        raise ValueError("its model has no vocabulary")
    if not set(map(type, ids.values())) <= {int} or not set(map(type, entries.values())) <= {str}:
        raise ValueError("its vocabulary has ids that are no integers, or entries that are no text")
    following, special_texts = len(vocab), set[str]()
    for token in top.get("added_tokens") or []:
        content = token["content"]
        if not isinstance(content, str):
            raise ValueError("an added token is no text")
        if not content:
            continue
        if content not in ids:
            ids[content], following = following, following + 1
        entries[ids[content]] = content
        if token.get("special") is True:
            special_texts.add(content)
    return entries, frozenset(id for id, entry in entries.items() if entry in special_texts)


def _growth(top: Any) -> int:
    """Into how many characters a decoder may turn one; one whose work is out of proportion is refused."""
    growth, number, waiting = 1, 0, [top]
    while waiting:
        decoder = waiting.pop()
        if decoder is None:
            continue
        number += 1
        if not isinstance(decoder, dict) or number > MAX_DECODERS:
            raise ValueError(f"its decoder is none, or of more than {MAX_DECODERS} steps")
        if decoder.get("type") not in DECODERS:
            raise ValueError(f"its decoder has a step of no known type, expected one of {', '.join(sorted(DECODERS))}")
        waiting += list(decoder.get("decoders") or [])
        if decoder["type"] == "Replace" or "pattern" in decoder:
            if "String" not in decoder.get("pattern", {}):
                raise ValueError("its decoder has a regular expression, which may take for ever")
            growth *= 1 + len(str(decoder.get("content", "")))
        elif decoder["type"] in ("BPEDecoder", "CTC"):  # an empty suffix or delimiter stands at every character
            growth *= 2
        for key in ("start", "stop"):
            if not -MAX_STRIPPED <= int(decoder.get(key) or 0) <= MAX_STRIPPED:
                raise ValueError(f"its decoder takes off {decoder[key]} characters")
    if growth > MAX_GROWTH:
        raise ValueError(f"its decoder makes a text up to {growth} times longer")
    return growth
