"""Run the training of one probe as a process, follow its log, and end it as soon as nothing after it counts.

In:  a `Training` and its values, limits, `stop_now`.
Out: `Trained`: the evaluations, how many steps were trained, and whether it was ended early.
Guarantee: when this returns or fails, the process and what it has started have ended; when this process is interrupted
or killed, they end soon after it (`guard.py`). A training that fails, hangs, ends too early, or writes no log that can
be judged is a `BuildError` (`probe_faults.py`); one that has done all and does not end is ended. All that it prints
stays in a file.

    a spike at step 40 of 300: stop_now says True     SIGTERM, Trained(evaluations=(...), num_steps=42, ...)
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from curriculum.errors import BuildError
from pipeline.progress import Advance, Progress
from pipeline.tuning import guard
from pipeline.tuning.candidate import Evaluation
from pipeline.tuning.follow_log import FollowedLog
from pipeline.tuning.probe_faults import Limits, has_done_all, printed, require_time, require_whole
from pipeline.tuning.probe_log import ProbeLog
from pipeline.tuning.train_command import Training

GRACE_SECONDS = 35.0
"""torchrun gives its workers 30 seconds to end."""
INTERRUPTED_SECONDS = 2.0
"""An interrupted command has five seconds in all (`pipeline/interruption.py`); the guard goes on without it."""
POLL_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """How a training went."""

    evaluations: tuple[Evaluation, ...]
    num_steps: int
    stopped_early: bool


def train(
    training: Training,
    values: Mapping[str, object],
    *,
    num_steps: int,
    log: Path,
    output: Path,
    limits: Limits,
    stop_now: Callable[[Evaluation], bool],
    progress: Progress,
    held: Sequence[int] = (),
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
        progress: where the steps are shown.
        held: open files, and locks that they hold, which stay with the training until it has ended, also where this
            process is killed.

    Raises:
        BuildError: it failed, hung, ended too early, or its log cannot be judged.
    """
    reader = ProbeLog(where=str(log), num_steps=num_steps)
    with (
        _running(training.filled(values), output, held) as process,
        progress.stage("train", total=num_steps, unit="") as advance,
    ):
        try:
            last = _follow(process, log, reader, limits, _Telling(stop_now, reader), advance)
        except BuildError as error:
            raise BuildError(f"{error} {printed(output)}") from None
        code = process.poll() or 0
    if last is None and not reader.is_beyond:
        require_whole(training.name, code if code >= 0 else 128 - code, reader, log, output)
    steps = sorted(step for step in reader.evaluations if last is None or step <= last.step)
    return Trained(
        evaluations=tuple(reader.evaluations[step] for step in steps),
        num_steps=reader.steps_trained,
        stopped_early=last is not None and reader.steps_trained < num_steps,
    )


@contextmanager
def _running(command: list[str], output: Path, held: Sequence[int]) -> Iterator[subprocess.Popen[bytes]]:
    """The process of the guard, which ends the command when the pipe closes; it is waited for."""
    guarded = [sys.executable, "-I", "-S", str(guard.__file__), str(GRACE_SECONDS), *command]
    with output.open("wb") as file:
        process = subprocess.Popen(
            guarded,
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=held,
        )
    assert process.stdin is not None
    patience = GRACE_SECONDS + 5
    try:
        yield process
    except KeyboardInterrupt:
        patience = INTERRUPTED_SECONDS
        raise
    finally:
        process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
        if process.returncode is not None and process.returncode < 0:  # the guard itself was killed
            guard.kill_session(process.pid)


class _Telling:
    """`stop_now`, told every step once: where a trainer goes back, it is begun anew with the steps that count."""

    def __init__(self, stop_now: Callable[[Evaluation], bool], reader: ProbeLog) -> None:
        self._stop_now, self._fresh, self._reader = stop_now, deepcopy(stop_now), reader
        self._last_step = -1

    def first_at_stop(self, found: Iterable[Evaluation]) -> Evaluation | None:
        """The first at which it says True."""
        for one in found:
            if one.step <= self._last_step:
                self._stop_now = deepcopy(self._fresh)
                for step in sorted(step for step in self._reader.evaluations if step < one.step):
                    self._stop_now(self._reader.evaluations[step])
            self._last_step = one.step
            if self._stop_now(one):
                return one
        return None


def _follow(
    process: subprocess.Popen[bytes],
    log: Path,
    reader: ProbeLog,
    limits: Limits,
    telling: _Telling,
    advance: Advance,
) -> Evaluation | None:
    """Read the log until the process has ended or need not be waited for, or up to where `stop_now` said True."""
    began = changed = time.monotonic()
    followed, rest, has_ended = FollowedLog(path=log), b"", False
    while not has_ended and not reader.is_beyond:
        has_ended = process.poll() is not None  # first: what it has written before is read below
        news = followed.look()
        reader.require_short(news.rest)
        before = reader.steps_trained
        found = reader.take(news.lines, replaces_last=news.replaces_last)
        if has_ended:
            found += reader.take(news.rest) + reader.end()
        advance(max(0, reader.steps_trained - before))
        last = telling.first_at_stop(found)
        if last is not None:
            return last
        now = time.monotonic()
        changed, rest = now if news.lines or news.rest != rest else changed, news.rest
        if not has_ended:
            if has_done_all(limits, now - changed, reader):
                return None
            require_time(limits, now - began, now - changed, reader)
            with suppress(subprocess.TimeoutExpired):
                process.wait(POLL_SECONDS)
    return None
