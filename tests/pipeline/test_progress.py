"""What people see of a long stage: stderr alone, and in a log few lines."""

from __future__ import annotations

import pytest

from pipeline import progress
from pipeline.progress import Once, Terminal, lines


class Clock:
    """Seconds as the test says."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def said(total: int, unit: str, steps: list[tuple[float, int]]) -> list[str]:
    """The lines of a stage that advances by so much at these seconds."""
    clock = Clock()
    heard: list[str] = []
    with lines(heard.append, "encode", total, unit, clock) as advance:
        for second, amount in steps:
            clock.now = 1000.0 + second
            advance(amount)
    return heard


def test_a_line_at_most_every_30_seconds() -> None:
    """40 GB at 400 MB/s, a task each second: three lines in 100 s, not a hundred."""
    assert said(40_000_000_000, "B", [(second, 400_000_000) for second in range(1, 101)]) == [
        "encode 12.0 of 40.0 GB, 400.0 MB/s, 0:01:10 left",
        "encode 24.0 of 40.0 GB, 400.0 MB/s, 0:00:40 left",
        "encode 36.0 of 40.0 GB, 400.0 MB/s, 0:00:10 left",
    ]


def test_short_stages_say_nothing() -> None:
    """A build of seconds stays as quiet as it was."""
    assert said(1000, "B", [(1, 500), (29.9, 500)]) == []


def test_what_an_earlier_run_did_is_no_speed() -> None:
    """90 % were there when the command began: 10 GB at 100 MB/s are left, not three seconds."""
    assert said(100_000_000_000, "B", [(0, 90_000_000_000), (30, 3_000_000_000)]) == [
        "encode 93.0 of 100.0 GB, 100.0 MB/s, 0:01:10 left"
    ]


def test_units_other_than_bytes_and_a_stage_that_stands_still() -> None:
    """Steps of a run are not bytes; and nobody knows when something ends that does not move."""
    assert said(12, "", [(40, 2), (100, 0)]) == ["encode 2 of 12, 0.05/s, 0:03:20 left", "encode 2 of 12, 0/s"]
    assert said(5_000_000, " tokens", [(50, 5_000_000)]) == ["encode 5.0 M tokens, 100.0 k tokens/s, 0:00:00 left"]


def test_in_a_log_it_is_on_stderr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where stderr is no terminal; stdout is for results."""
    monkeypatch.setattr(progress, "LINE_SECONDS", 1.0)
    with Terminal().stage("cut", total=10, unit="B") as advance:
        advance(0)
        progress.time.sleep(1.1)
        advance(5)
    heard = capsys.readouterr()
    assert heard.out == ""
    assert heard.err.startswith("cut 5 of 10 B, ")


def test_a_line_that_was_said_is_not_said_again(capsys: pytest.CaptureFixture[str]) -> None:
    """A tune plans the same corpus a dozen times; what is left out of it is news once."""
    once = Once(Terminal())
    for line in ("3 files are left out.", "probe 1", "3 files are left out.", "probe 2"):
        once.say(line)
    assert capsys.readouterr().err.splitlines() == ["3 files are left out.", "probe 1", "probe 2"]
