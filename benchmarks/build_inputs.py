"""What every tool of the build benchmark is given: the same real text in one file and in parts, and GPT-2's tokenizer.

In:  a folder, MB of this machine's text or a .jsonl file, the number of workers.   Out: `Inputs`.
Guarantee: no document holds `<|endoftext|>`: as text it is an id of its own for most tools and plain characters for us.
Documents with it are left out and counted. The parts put together are the file, in its order.

    FOLDER/text/NN.jsonl         what real_text.py writes
    FOLDER/whole/corpus.jsonl    one file, for tools that read one
    FOLDER/parts/0.jsonl 1.jsonl one per worker, nearly equal, for a tool that deals whole files to its workers
    FOLDER/gpt2/tokenizer.json + tokenizer_config.json
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from peer_ranges import line_borders
from real_text import write_corpus

SPECIAL = "<|endoftext|>"


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """Paths as text, so that they go through JSON to other environments."""

    corpus: str
    """the one file"""
    parts: str
    """folder of one file per worker"""
    tokenizer: str
    """tokenizer.json"""
    documents: int
    text_bytes: int
    left_out: int
    """documents with the text of the special token"""


def prepare(folder: Path, source: Path | int, workers: int) -> Inputs:
    """Write what is not there yet."""
    text = folder / "text"
    folder.mkdir(exist_ok=True)
    if isinstance(source, int):
        write_corpus(text, source)
    files = sorted(text.glob("*.jsonl")) if isinstance(source, int) else [source]
    found = _join(files, folder / "whole" / "corpus.jsonl", str(source))
    corpus, parts = folder / "whole" / "corpus.jsonl", folder / "parts"
    if len(list(parts.glob("*.jsonl"))) != workers or sum(p.stat().st_size for p in parts.iterdir()) != _size(corpus):
        _split(corpus, parts, workers)
    return Inputs(corpus=str(corpus), parts=str(parts), tokenizer=str(_gpt2(folder / "gpt2")), **found)


def _join(files: list[Path], to: Path, asked: str) -> dict[str, int]:
    note = to.with_name("contents.json")
    if note.exists() and (found := json.loads(note.read_bytes())).pop("asked") == asked:
        return dict(found)
    to.parent.mkdir(parents=True, exist_ok=True)
    found = {"documents": 0, "text_bytes": 0, "left_out": 0}
    with to.open("wb") as out:
        for path in files:
            for line in path.open("rb"):
                if SPECIAL.encode() in line:
                    found["left_out"] += 1
                    continue
                out.write(line)
                found["documents"] += 1
                found["text_bytes"] += len(json.loads(line)["text"].encode())
    note.write_text(json.dumps({**found, "asked": asked}))
    return found


def _split(corpus: Path, parts: Path, count: int) -> None:
    parts.mkdir(exist_ok=True)
    for old in parts.iterdir():
        old.unlink()
    with corpus.open("rb") as file:
        for number, (start, stop) in enumerate(pairwise(line_borders(str(corpus), count))):
            file.seek(start)
            (parts / f"{number}.jsonl").write_bytes(file.read(stop - start))


def _size(path: Path) -> int:
    return path.stat().st_size


def _gpt2(folder: Path) -> Path:
    """`transformers` wants a folder that says what kind of tokenizer it holds."""
    from gpt2 import gpt2_tokenizer_json

    folder.mkdir(exist_ok=True)
    names = dict.fromkeys(("bos_token", "eos_token", "unk_token"), SPECIAL)
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 10**9, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return gpt2_tokenizer_json(folder)
