"""Samples of a corpus as files of the token store, between tasks and whoever sent them.

In:  a JSON value.   Out: the name of a file in the store; from the name, the value.
Guarantee: no text travels through an engine: workers may be on other machines, and are sent names only. A sample that
is gone is an error, never an empty one: a tokenizer would be trained on other documents and nobody would see it.

    keep_sample(store, [["03", "a text"]])      "aside/sample-5f0c...json"
"""

from __future__ import annotations

import secrets
from typing import Any

import orjson

from curriculum.errors import BuildError
from pipeline.files.contract import Files
from pipeline.layout import write_bytes
from pipeline.store_names import STORE_ASIDE


def keep_sample(store: Files, sample: Any) -> str:
    """Write a sample; the caller removes it."""
    name = f"{STORE_ASIDE}/sample-{secrets.token_hex(8)}.json"
    write_bytes(store, name, orjson.dumps(sample))
    return name


def read_sample(store: Files, name: str) -> Any:
    """A sample that was kept.

    Raises:
        BuildError: it is gone.
    """
    kept = store.read(name)
    if kept is None:
        raise BuildError(f"{store.address(name)}: vanished while it was needed. Run the same command again.")
    return orjson.loads(kept)
