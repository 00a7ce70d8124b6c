"""Small builds into a store, and what a test asks of them.

Swift takes 50 to 200 ms for a request on two busy cores, so these builds write about twenty objects.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.build import BuildResult, build
from pipeline.files.storage_options import storage_options
from pipeline.option_sources import load_options
from pipeline.progress import Advance, Silent
from small_corpus import real_texts

FEW: dict[str, Any] = {
    "tokenizer": "bytes",
    "backend": "tokenizers",
    "schedule": "doubling",
    "start_length": 32,
    "max_length": 64,
    "batch_rows": 8,
    "shuffle_window": 80_000,
    "shard_bytes": 1 << 20,
    "unit_bytes": 80_000,
    "validation_tokens": 2_000,
    "workers": 1,
}
"""Several parts, several windows, two lengths."""


class At(Silent):
    """Calls `act` once, when a stage has done a part of its work."""

    def __init__(self, stage: str, act: Callable[[], None]) -> None:
        self._stage, self._act = stage, act
        self.has_acted = False

    @contextmanager
    def stage(self, name: str, *, total: int, unit: str) -> Iterator[Advance]:
        """Watch."""

        def advance(amount: int) -> None:
            if name == self._stage and amount and not self.has_acted:
                self.has_acted = True
                self._act()

        yield advance


def write_corpus(folder: Path) -> Path:
    """Half of the real texts as one .jsonl."""
    folder.mkdir()
    lines = (json.dumps({"text": text}) + "\n" for text in real_texts()[::2])
    (folder / "a.jsonl").write_text("".join(lines), "utf-8")
    return folder


def build_few(corpus: object, out: object, options: dict[str, Any], progress: Any = None, **more: Any) -> BuildResult:
    """Build; `options` are those of the client."""
    values = {**FEW, "corpus": (str(corpus),), "out": str(out), "storage_option": storage_options(options), **more}
    return build(load_options(None, values), progress or Silent())


OWN = ("build-log.json", "checked.json")
"""Times and hosts; stamps of files."""


def files_below(folder: Path) -> dict[str, bytes]:
    """All files of a folder but what differs between equal builds."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name not in OWN)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def objects_below(client: Any, prefix: str) -> dict[str, bytes]:
    """All objects below a prefix but what differs between equal builds."""
    client.invalidate_cache()
    names = [name for name in client.find(prefix) if name.rpartition("/")[2] not in OWN]
    return {name.removeprefix(f"{prefix}/"): bytes(data) for name, data in client.cat(names).items()}
