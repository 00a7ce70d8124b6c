"""What can go wrong with the training of a probe, in sentences.

In:  how long it took, its exit code, its log, what it printed.   Out: nothing, or a `BuildError`.
Guarantee: the sentence says what was found, what is needed and what to do; below it is the end of what was printed.
Who has trained and validated the last step and does not end has done what was asked for.

    exit code 139, 12 of 100 steps      The train command failed with exit code 139 (SIGSEGV), with 12 of 100 steps ...
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from curriculum.errors import BuildError, ConfigError
from curriculum.printable import printable_text, shown
from pipeline.tuning.probe_log import WANTED, ProbeLog

SHOWN_LINES, SHOWN_BYTES = 20, 16_384


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How long a probe may take."""

    stall_seconds: float = 600.0
    """without a new line in its log; start and compilation included"""
    total_seconds: float | None = None
    """None for as long as it goes on"""

    def __post_init__(self) -> None:
        """Refuse what is no time, before anything is tokenized and trained.

        Raises:
            ConfigError: names the value and what is allowed.
        """
        for name, flag in (("stall_seconds", "--stall-timeout"), ("total_seconds", "--probe-timeout")):
            value = getattr(self, name)
            if value is None and name == "total_seconds":
                continue
            if not isinstance(value, int | float) or not value > 0:
                raise ConfigError(f"{name} is {shown(value)} ({flag}); give a number of seconds above 0.")


END_SECONDS = 10.0
"""For a training that is through to end by itself; it may be writing a checkpoint, which nobody needs."""


def has_done_all(limits: Limits, still: float, reader: ProbeLog) -> bool:
    """Whether a training that still runs need not be waited for: its last steps may yet be validated, or not at all."""
    patience = END_SECONDS if reader.is_validated_at_end else limits.stall_seconds
    return reader.is_at_end and still > min(patience, limits.stall_seconds)


def require_time(limits: Limits, total: float, still: float, reader: ProbeLog) -> None:
    so_far = f"after {reader.steps_trained:,} of {reader.num_steps:,} steps"
    if limits.total_seconds is not None and total > limits.total_seconds:
        raise BuildError(
            f"The probe was ended {so_far}: it took longer than {limits.total_seconds:g} seconds. Allow more with "
            f"--probe-timeout, or make probes shorter."
        )
    if still > limits.stall_seconds:
        raise BuildError(
            f"The probe was ended {so_far}: {reader.where} got no new line for {limits.stall_seconds:g} seconds. See "
            f"where the training hangs, or allow more with --stall-timeout."
        )


def require_whole(name: str, code: int, reader: ProbeLog, log: Path, output: Path) -> None:
    """Refuse a training that has ended by itself, and whose log does not say how it went to the last step.

    A log with a line for every so many steps may end some steps early, but not that of a crash.
    """
    is_complete = reader.is_at_end if code else reader.is_complete
    if is_complete and reader.evaluations:
        return
    so_far = f"{reader.steps_trained:,} of {reader.num_steps:,} steps in its log"
    if code:
        because = f" ({_signal(code)})" if code > 128 else ""
        reason = f"{name} failed with exit code {code}{because}, with {so_far}."
        if reader.steps_trained:
            reason += ' If it ends itself where training diverges, let it write that step with "loss": NaN before.'
    elif not log.is_file():
        reason = f"{name} ended without an error and without a log: there is no {log}. Write into {{log}} {WANTED}."
    elif not reader.num_lines:
        reason = (
            f"{name} ended without an error, and {log} has no whole line. Write into {{log}} {WANTED}. If it went on "
            f"from a checkpoint of an earlier try, let it keep its checkpoints in {{out}}, which is empty."
        )
    elif not reader.is_complete:
        reason = f"{name} ended without an error, but with {so_far}. Let it train {{steps}} steps of {{dataset}}."
    else:
        reason = (
            f"{log} has {reader.num_lines:,} lines with {', '.join(list(reader.keys)[:12])}, and no validation. Write "
            f"into {{log}} {WANTED}."
        )
    raise BuildError(f"{reason[0].upper()}{reason[1:]} {printed(output)}")


def _signal(code: int) -> str:
    try:
        return signal.Signals(code - 128).name
    except ValueError:
        return f"signal {code - 128}"


def printed(output: Path) -> str:
    """The end of what it has printed, as a sentence and lines below it."""
    try:
        with output.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - SHOWN_BYTES))
            lines = [line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    except OSError as error:
        return f"What it printed is gone: it has removed or replaced {output} ({error.strerror})."
    if not lines:
        return "It printed nothing."
    last = [printable_text(line) for line in lines[-SHOWN_LINES:]]
    return "\n    ".join([f"What it printed is in {output}, at the end:", *last])
