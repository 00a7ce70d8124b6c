"""Which tokenizer made the ids, and where it came from, as the manifest says it.

In:  the object `tokenizer` of `manifest.json`, possibly damaged or hostile.   Out: `TokenizerEntry`.
Guarantee: the digest is one, EOS and BOS lie in the vocabulary, a name of the Hub is a name and its revision a commit.

    {"vocab_size": 8192, "eos_id": 8192, ...}   ->   DataError: ... eos_id is 8192, not below vocab_size 8192.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from curriculum.errors import DataError
from curriculum.json_object import JsonObject
from curriculum.printable import shown


@dataclass(frozen=True, kw_only=True, slots=True)
class HubOrigin:
    """A repository of the Hugging Face Hub at a commit."""

    name: str
    revision: str
    """40 hexadecimal digits"""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerEntry:
    """Identity of the tokenizer; `tokenizer.json` lies beside the manifest."""

    vocab_size: int
    """1 + the largest id, added tokens included"""
    bos_id: int | None
    eos_id: int
    sha256: str
    hub: HubOrigin | None = None
    """where it was taken from; None, and no key, of a file. For people: `sha256` says which tokenizer it is"""

    def to_json(self) -> dict[str, Any]:
        """The object of the manifest."""
        return {name: value for name, value in asdict(self).items() if name != "hub" or value is not None}


def read_tokenizer(o: JsonObject) -> TokenizerEntry:
    """Types, ranges and keys.

    Raises:
        DataError: names the first value that is not allowed.
    """
    entry = TokenizerEntry(
        vocab_size=o.integer("vocab_size", least=1, most=2**32),
        bos_id=None if o.value("bos_id") is None else o.integer("bos_id"),
        eos_id=o.integer("eos_id"),
        sha256=o.string("sha256"),
        hub=_hub_origin(o.object("hub")) if "hub" in o.raw else None,
    )
    o.no_others()
    if not re.fullmatch(r"[0-9a-f]{64}", entry.sha256):
        raise DataError(f"{o.where}: sha256 is {shown(entry.sha256)}, expected 64 digits, 0 to 9 and a to f.")
    for name, token in (("eos_id", entry.eos_id), ("bos_id", entry.bos_id)):
        if token is not None and token >= entry.vocab_size:
            raise DataError(f"{o.where}: {name} is {token}, not below vocab_size {entry.vocab_size}.")
    return entry


def _hub_origin(o: JsonObject) -> HubOrigin:
    origin = HubOrigin(name=o.string("name"), revision=o.string("revision"))
    o.no_others()
    if not re.fullmatch(r"[0-9A-Za-z_][\w.-]{0,95}(/[\w.-]{1,96})?", origin.name, re.ASCII):
        raise DataError(f"{o.where}: name is {origin.name[:80]!r}, expected a repository such as org/name.")
    if not re.fullmatch(r"[0-9a-f]{40}", origin.revision):
        raise DataError(f"{o.where}: revision is {origin.revision[:80]!r}, expected 40 digits, 0 to 9 and a to f.")
    return origin
