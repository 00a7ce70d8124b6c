"""The rows of a fixed corpus in every mode, pinned: a change of the algorithm must not go unnoticed.

Whoever changes one of these digests changes the bytes of every dataset: raise `ALGORITHM` in pipeline/store.py. Digests
are of the columns, not of files, so that another release of pyarrow or tokenizers changes nothing here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curriculum.reader import Reader
from pipeline.build import BuildResult

Build = Callable[..., BuildResult]

GOLDEN: dict[str, tuple[dict[str, Any], str]] = {
    "segment": ({}, "e0f3f3e7d13d3d95"),
    "truncate": ({"mode": "truncate"}, "809babab1608c96c"),
    "best-fit": ({"mode": "best-fit"}, "b71cb7e043171fe2"),
    "document": ({"mode": "document", "cycles": 2}, "6d5f0a3c31ce6c8e"),
    "document-natural": ({"mode": "document", "schedule": "natural", "epochs": 2}, "2f5f9864e3c8557d"),
    "shapes": ({"max_shapes": 3, "schedule": "exponential"}, "6aa9860883ee60ce"),
}


def digest(root: Path) -> str:
    """Of the plan and of every column of every step."""
    reader = Reader(root)
    found = hashlib.sha256(reader.plan.digest().encode())
    for step in range(len(reader)):
        batch = reader[step]
        columns = [batch.tokens, *batch.doc_starts, batch.offset, batch.document]
        columns += [
            column for column in (batch.num_tokens, batch.piece_offset, batch.piece_document) if column is not None
        ]
        for column in columns:
            found.update(column.astype("<u8").tobytes())
    return found.hexdigest()[:16]


@pytest.mark.parametrize("name", GOLDEN)
def test_the_rows_of_a_fixed_corpus(name: str, build_small: Build, tmp_path: Path) -> None:
    """Equal inputs, options and seed give equal rows on every machine and in every release."""
    options, expected = GOLDEN[name]
    texts = ["".join(chr(97 + (i * j) % 26) for j in range(3 + i * 37 % 211)) for i in range(300)]
    corpus = tmp_path / "texts.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    build_small(tmp_path / "out", corpus=(str(corpus),), seed=7, **options)
    assert digest(tmp_path / "out") == expected
