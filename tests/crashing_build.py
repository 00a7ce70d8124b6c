"""Small builds in this process that are interrupted in a stage.

with pytest.raises(Interrupted):
    build(load_options(None, {**OPTIONS, ...}), Crash("cut"))
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.interruption import Interrupted
from pipeline.progress import Silent

OPTIONS: dict[str, Any] = {
    "start_length": 8,
    "max_length": 64,
    "batch_rows": 8,
    "shuffle_window": 3_000,
    "unit_bytes": 10_000,
    "backend": "tokenizers",
    "workers": 1,
}


class Crash(Silent):
    """Interrupts a build after the first task of a stage."""

    def __init__(self, stage: str) -> None:
        self.at = stage

    @contextmanager
    def stage(self, name: str, *, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        """As `Silent`, but for the one stage."""
        calls = 0

        def advance(amount: int) -> None:
            nonlocal calls
            calls += amount > 0
            if name == self.at and calls == 1:
                raise Interrupted(15)

        yield advance


def write_lines(path: Path, texts: list[str]) -> None:
    """A .jsonl file."""
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
