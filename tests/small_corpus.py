"""The small real corpus that most tests build, and what a test asks of a dataset built from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from curriculum.reader import Reader


def real_texts() -> list[str]:
    """122 documents of real text: modules of the `json`, `email` and `asyncio` packages of the standard library, cut
    into pieces of very different lengths, some with text that looks like a special token."""
    import asyncio
    import email

    files = [path for package in (json, email, asyncio) for path in sorted(Path(package.__file__).parent.glob("*.py"))]
    texts = []
    for number, path in enumerate(files):
        text = path.read_text("utf-8")
        size = 200 + 977 * number % 4000
        texts += [text[start : start + size] for start in range(0, min(len(text), 3 * size), size)]
    texts[3] += "<|endoftext|> is only text here <|endoftext|>"
    texts[5] = texts[6]  # a duplicate
    return [*texts[:120], "", "é"]


def dataset_files(root: Path) -> list[str]:
    """Every file of a dataset that two equal builds must share byte for byte."""
    names = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
    return sorted(name for name in names if name != "build-log.json")


def read_rows(reader: Reader) -> np.ndarray[Any, Any]:
    """The stream that a segment-mode dataset was cut from: rows laid back by offset, each checked against the next."""
    rows = [
        row
        for step in range(len(reader))
        for row in zip(reader[step].offset.tolist(), reader[step].tokens, strict=True)
    ]
    rows.sort(key=lambda row: row[0])
    position, last = 0, rows[0][1][0]
    pieces = []
    for offset, tokens in rows:
        assert offset == position
        assert tokens[0] == last
        pieces.append(tokens[:-1])
        position, last = position + len(tokens) - 1, tokens[-1]
    return np.concatenate([*pieces, [last]])


def expected_documents(corpus: Path) -> list[bytes]:
    """UTF-8 of every non-empty document of the small corpus."""
    return [text.encode() for text in real_texts() if text]
