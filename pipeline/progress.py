"""Progress of long stages on stderr: a bar with rate and ETA on a terminal, now and then a line anywhere else.

In:  the stages of a job.   Out: for people, on stderr; stdout belongs to results. In a log, where a bar
would be thousands of lines, a line comes at most every 30 s, and none of a stage that is shorter.

    with progress.stage("encode", total=31_000_000, unit="B") as advance:
        advance(8_000_000)                    in a log, after 30 s: encode 8.0 of 31.0 MB, 266.7 kB/s, 0:01:26 left
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Protocol

from curriculum.printable import printable_text

Advance = Callable[[int], None]
LINE_SECONDS = 30.0
PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


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
    """Bars on a terminal, lines in a log."""

    def stage(self, name: str, *, total: int, unit: str) -> AbstractContextManager[Advance]:
        """A bar that vanishes when the stage ends, if stderr is a terminal; else lines."""
        return _bar(name, total, unit) if sys.stderr.isatty() else lines(self.say, name, total, unit)

    def say(self, message: str) -> None:
        """One line on stderr."""
        sys.stderr.write("\n".join(map(printable_text, message.split("\n"))) + "\n")
        sys.stderr.flush()


class Once:
    """Says no line twice: for jobs that look at the same corpus again and again."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._said: set[str] = set()

    def stage(self, name: str, *, total: int, unit: str) -> AbstractContextManager[Advance]:
        """As it is shown."""
        return self._progress.stage(name, total=total, unit=unit)

    def say(self, message: str) -> None:
        """One line, if it is new."""
        if message not in self._said:
            self._said.add(message)
            self._progress.say(message)


@contextmanager
def _nothing() -> Iterator[Advance]:
    yield lambda amount: None


@contextmanager
def lines(
    say: Callable[[str], None], name: str, total: int, unit: str, clock: Callable[[], float] = time.monotonic
) -> Iterator[Advance]:
    """A line when the stage advances and the last one is 30 s old; its rate is that of the time between them.

    What comes within the first second was done by an earlier run, and is in no rate.
    """
    began = line_at = clock()
    done = then = 0

    def advance(amount: int) -> None:
        nonlocal done, then, line_at
        done, now = done + amount, clock()
        if now - began < 1:
            then = done
        elif now - line_at >= LINE_SECONDS:
            rate = (done - then) / (now - line_at)
            left = f", {timedelta(seconds=round((total - done) / rate))} left" if rate else ""
            say(f"{name} {_of(done, total, unit)}, {_of(rate, rate, unit)}/s{left}")
            then, line_at = done, now

    yield advance


def _of(amount: float, total: float, unit: str) -> str:
    """`8.0 of 31.0 MB`; one number where both are the same."""
    size, prefix = next((each for each in PREFIXES if each[0] <= total), PREFIXES[-1])
    each = [f"{value / size:,.1f}" if prefix else f"{value:.3g}" for value in dict.fromkeys((amount, total))]
    return f"{' of '.join(each)} {prefix}{unit}".rstrip()


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
