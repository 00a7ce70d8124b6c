"""Run the training of one probe as a process, follow its log, and end it as soon as nothing after it counts.

In:  what to run (`Training`: words with placeholders; a shell is not involved), its values, limits, `stop_now`.
Out: `Trained`: the evaluations, how many steps were trained, and whether it was ended early.
Guarantee: when this returns or raises, the process and what it has started have ended; when this process is killed,
too (`guard.py`). A training that fails, hangs, ends too early, or writes no log that can be judged is a `BuildError`
that says so and shows the end of what it has printed, all of which stays in a file.

    training_command("python train.py --data {dataset} --steps {steps} --log {log}").words
    -> ("python", "train.py", "--data", "{dataset}", "--steps", "{steps}", "--log", "{log}")
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from curriculum.errors import BuildError, ConfigError
from curriculum.printable import printable_text
from pipeline.tuning import guard
from pipeline.tuning.candidate import Evaluation
from pipeline.tuning.probe_log import WANTED, ProbeLog

NEEDED = ("dataset", "steps", "log")
"""Placeholders without which a training cannot be a probe."""
PLACEHOLDERS = {
    "dataset": "folder of the dataset",
    "steps": "number of steps to train",
    "log": "file to write the log to",
    "out": "empty folder for checkpoints, removed after the probe",
    "decay_tokens": "tokens of the full training, over which the learning rate decays",
    "lr_warmup_steps": "steps of the warmup of the learning rate",
    "validate_every": "steps from one validation to the next, at most",
}
PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
GRACE_SECONDS = 35.0
"""torchrun gives its workers 30 seconds to end."""
POLL_SECONDS = 0.05
SHOWN_LINES, SHOWN_BYTES = 20, 16_384


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """What is run for every probe."""

    name: str
    """for sentences"""
    words: tuple[str, ...]
    """the program and its arguments, with placeholders"""

    def filled(self, values: Mapping[str, object]) -> list[str]:
        """With the values of one probe."""
        return [PLACEHOLDER.sub(lambda found: str(values.get(found[1], found[0])), word) for word in self.words]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How long a probe may take."""

    stall_seconds: float = 600.0
    """without a new line in its log; start and compilation included"""
    total_seconds: float | None = None
    """None for as long as it goes on"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """How a training went."""

    evaluations: tuple[Evaluation, ...]
    num_steps: int
    stopped_early: bool


def training_command(template: str) -> Training:
    """A command line as a training.

    Raises:
        ConfigError: it cannot be split into words, lacks a placeholder, has an unknown one, or no such program exists.
    """
    known = "; ".join(f"{{{name}}}: {what}" for name, what in PLACEHOLDERS.items())
    try:
        words = tuple(shlex.split(template))
    except ValueError as error:
        raise ConfigError(f"train_cmd is {template!r}, which a shell could not read either: {error}.") from None
    found = [name for word in words for name in PLACEHOLDER.findall(word)]
    unknown = [name for name in found if name not in PLACEHOLDERS]
    if unknown:
        raise ConfigError(f"train_cmd has {{{unknown[0]}}}, which stands for nothing. There are {known}.")
    missing = [name for name in NEEDED if name not in found]
    if missing:
        raise ConfigError(f"train_cmd has no {{{missing[0]}}}. It needs {{dataset}}, {{steps}} and {{log}} ({known}).")
    if shutil.which(words[0]) is None:
        raise ConfigError(
            f"train_cmd begins with {words[0]!r}, which is no program that can be run. It is run without a shell: for "
            f"`cd`, pipes or variables give a script, or bash -c '...'."
        )
    return Training(name="the train command", words=words)


def train(
    training: Training,
    values: Mapping[str, object],
    *,
    num_steps: int,
    log: Path,
    output: Path,
    limits: Limits,
    stop_now: Callable[[Evaluation], bool],
) -> Trained:
    """Run a training to its end, or until `stop_now` says True.

    Args:
        training: what to run.
        values: of its placeholders.
        num_steps: that it is to train.
        log: where it writes its log; there must be nothing yet.
        output: for what it prints.
        limits: how long it may take.
        stop_now: is told each evaluation as it comes.

    Raises:
        BuildError: it failed, hung, ended too early, or its log cannot be judged.
    """
    reader = ProbeLog(where=str(log), num_steps=num_steps)
    with _running(training.filled(values), output) as process:
        try:
            last = _follow(process, log, reader, limits, stop_now)
        except BuildError as error:
            raise BuildError(f"{error} {_printed(output)}") from None
        code = process.poll()
    if last is None and not reader.is_beyond:
        _require_whole(training.name, code, reader, log, output)
    steps = sorted(step for step in reader.evaluations if last is None or step <= last.step)
    return Trained(
        evaluations=tuple(reader.evaluations[step] for step in steps),
        num_steps=reader.steps_trained,
        stopped_early=last is not None and reader.steps_trained < num_steps,
    )


@contextmanager
def _running(command: list[str], output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The process of the guard; the command has ended with the block."""
    guarded = [sys.executable, "-I", "-S", str(guard.__file__), str(GRACE_SECONDS), *command]
    with output.open("wb") as file:
        process = subprocess.Popen(
            guarded, stdin=subprocess.PIPE, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    assert process.stdin is not None
    try:
        yield process
    finally:
        process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS + 5)
        process.kill()


def _follow(
    process: subprocess.Popen[bytes],
    log: Path,
    reader: ProbeLog,
    limits: Limits,
    stop_now: Callable[[Evaluation], bool],
) -> Evaluation | None:
    """Read the log until the process has ended, or up to the evaluation at which `stop_now` said True."""
    began = changed = time.monotonic()
    position, has_ended = 0, False
    while not has_ended and not reader.is_beyond:
        has_ended = process.poll() is not None  # first: what it has written before is read below
        data = _from(log, position)
        position += len(data)
        found = reader.take(data) + (reader.end() if has_ended else [])
        last = next(filter(stop_now, found), None)
        if last is not None:
            return last
        now = time.monotonic()
        changed = now if data else changed
        if not has_ended:
            _require_time(limits, now - began, now - changed, reader)
            with suppress(subprocess.TimeoutExpired):
                process.wait(POLL_SECONDS)
    return None


def _from(log: Path, position: int) -> bytes:
    """What was appended."""
    with suppress(FileNotFoundError), log.open("rb") as file:
        file.seek(position)
        return file.read()
    return b""


def _require_time(limits: Limits, total: float, still: float, reader: ProbeLog) -> None:
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


def _require_whole(name: str, code: int | None, reader: ProbeLog, log: Path, output: Path) -> None:
    """Refuse a training that has ended by itself, and whose log does not say how it went to the last step."""
    if reader.is_complete and reader.evaluations:
        return
    so_far = f"{reader.steps_trained:,} of {reader.num_steps:,} steps in its log"
    if code:
        because = f" ({_signal(code)})" if code > 128 else ""
        reason = f"{name} failed with exit code {code}{because}, with {so_far}."
    elif not log.is_file():
        reason = f"{name} ended without an error and without a log: there is no {log}. Write into {{log}} {WANTED}."
    elif not reader.num_lines:
        reason = f"{name} ended without an error, and {log} has no whole line. Write into {{log}} {WANTED}."
    elif not reader.is_complete:
        reason = f"{name} ended without an error, but with {so_far}. Let it train {{steps}} steps of {{dataset}}."
    else:
        reason = (
            f"{log} has {reader.num_lines:,} lines with {', '.join(list(reader.keys)[:12])}, and no validation. Write "
            f"into {{log}} {WANTED}."
        )
    raise BuildError(f"{reason[0].upper()}{reason[1:]} {_printed(output)}")


def _signal(code: int) -> str:
    try:
        return signal.Signals(code - 128).name
    except ValueError:
        return f"signal {code - 128}"


def _printed(output: Path) -> str:
    """The end of what it has printed, as a sentence and lines below it."""
    with output.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - SHOWN_BYTES))
        lines = [line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    if not lines:
        return "It printed nothing."
    last = [printable_text(line) for line in lines[-SHOWN_LINES:]]
    return "\n    ".join([f"What it printed is in {output}, at the end:", *last])
