"""Progress of long stages on stderr: a bar with rate and ETA on a terminal, nothing anywhere else.

In:  the stages of a job.   Out: for people, on stderr; stdout belongs to results.

    with progress.stage("encode", total=31_000_000, unit="B") as advance:
        advance(8_000_000)
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """Where stages report to."""

    def stage(self, name: str, *, total: int, unit: str) -> AbstractContextManager[Advance]:
        """A stage of `total` units; the block is given a function that advances it."""

    def say(self, message: str) -> None:
        """One line for people: what was chosen, found or skipped."""


class Silent:
    """Reports nothing; for libraries and tests."""

    def stage(self, name: str, *, total: int, unit: str) -> AbstractContextManager[Advance]:
        """A stage nobody watches."""
        return _nothing()

    def say(self, message: str) -> None:
        """Say nothing."""


class Terminal:
    """Bars on a terminal; lines of text everywhere."""

    def stage(self, name: str, *, total: int, unit: str) -> AbstractContextManager[Advance]:
        """A bar that vanishes when the stage ends, if stderr is a terminal."""
        return _bar(name, total, unit) if sys.stderr.isatty() else _nothing()

    def say(self, message: str) -> None:
        """One line on stderr."""
        sys.stderr.write(message + "\n")
        sys.stderr.flush()


@contextmanager
def _nothing() -> Iterator[Advance]:
    yield lambda amount: None


@contextmanager
def _bar(name: str, total: int, unit: str) -> Iterator[Advance]:
    from rich import progress as bars  # 60 ms, only where somebody looks
    from rich.console import Console

    amounts = bars.DownloadColumn() if unit == "B" else bars.MofNCompleteColumn()
    rate = bars.TransferSpeedColumn() if unit == "B" else bars.TaskProgressColumn(show_speed=True)
    columns = [
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        amounts,
        rate,
        bars.TimeRemainingColumn(),
    ]
    with bars.Progress(*columns, console=Console(stderr=True), transient=True) as watched:
        task = watched.add_task(name, total=total)
        yield lambda amount: watched.advance(task, amount)
