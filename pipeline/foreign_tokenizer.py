"""The text of ids, by the tokenizer.json of a dataset that somebody else may have made.

In:  the tokenizer.json of a dataset and its digest in the manifest; ids.   Out: text.
Guarantee: time and memory are bounded, and a tokenizer that fails is a sentence. A decoder may replace text by more
text, one after the other, or search it with an expression that takes for ever; an entry of the vocabulary may have
megabytes: such tokenizers are refused, before they decode anything.

    open_tokenizer(files, manifest).decode([104, 105])      "hi"
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from curriculum.errors import DataError
from curriculum.manifest import Manifest
from curriculum.printable import one_line
from curriculum.regular_file import read_regular
from pipeline.backends import is_backend_failure
from pipeline.files.contract import Files

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER = "tokenizer.json"
MAX_DECODERS = 16
MAX_GROWTH = 64
"""So many times longer all replacements of a decoder together may make a text; real ones replace a character by one."""
MAX_STRIPPED = 64
MAX_CHARACTERS = 64 << 20
"""Of the vocabulary's entries that are joined to one text."""


class ForeignTokenizer:
    """Decodes ids."""

    def __init__(self, tokenizer: Tokenizer, where: str) -> None:
        self._tokenizer, self._where = tokenizer, where
        self._lengths: dict[int, int] = {}

    def id_to_token(self, id: int) -> str | None:
        """The entry of the vocabulary; None for an id beyond it."""
        return self._tokenizer.id_to_token(id)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """The text of some ids; those beyond the vocabulary have none.

        Args:
            ids: all in the range of uint32.
            skip_special_tokens: leave those out.

        Raises:
            DataError: it would be absurdly long, or the tokenizer cannot.
        """
        try:
            for token in set(ids) - self._lengths.keys():
                self._lengths[token] = len(self._tokenizer.id_to_token(token) or "")
            if sum(map(self._lengths.__getitem__, ids)) > MAX_CHARACTERS:
                raise self._unusable(f"a row would have more than {MAX_CHARACTERS:,} characters")
            return self._tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)
        except BaseException as error:
            if isinstance(error, DataError) or not is_backend_failure(error):
                raise
            raise self._unusable(error) from error

    def _unusable(self, why: object) -> DataError:
        return DataError(f"{self._where}: cannot be used to decode rows: {one_line(why)}. Copy it again.")


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
        _require_bounded(orjson.loads(content))
        return ForeignTokenizer(Tokenizer.from_str(content.decode("utf-8")), where)
    except FileNotFoundError:
        raise DataError(f"{where}: is missing, and rows cannot be decoded without it. Copy it again.") from None
    except BaseException as error:  # `tokenizers` raises plain Exception for a file that it cannot parse, or panics
        if isinstance(error, DataError) or not is_backend_failure(error):
            raise
        raise DataError(f"{where}: cannot be used to decode rows: {one_line(error)}. Copy it again.") from error


def _require_bounded(top: Any) -> None:
    """Refuse a decoder whose work is out of proportion to the text."""
    if not isinstance(top, dict):
        raise ValueError("it is no JSON object")
    growth, number, waiting = 1, 0, [top.get("decoder")]
    while waiting:
        decoder = waiting.pop()
        if decoder is None:
            continue
        number += 1
        if not isinstance(decoder, dict) or number > MAX_DECODERS:
            raise ValueError(f"its decoder is none, or of more than {MAX_DECODERS} steps")
        waiting += list(decoder.get("decoders") or [])
        if decoder.get("type") == "Replace":
            if "String" not in decoder.get("pattern", {}):
                raise ValueError("its decoder has a regular expression, which may take for ever")
            growth *= 1 + len(str(decoder.get("content", "")))
        for key in ("start", "stop"):
            if not -MAX_STRIPPED <= int(decoder.get(key) or 0) <= MAX_STRIPPED:
                raise ValueError(f"its decoder takes off {decoder[key]} characters")
    if growth > MAX_GROWTH:
        raise ValueError(f"its decoder makes a text up to {growth} times longer")
