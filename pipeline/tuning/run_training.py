"""Run the training of one probe as a process, follow its log, and end it as soon as nothing after it counts.

In:  a `Training` and its values, limits, `stop_now`.
Out: `Trained`: the evaluations, how many steps were trained, and whether it was ended early.
Guarantee: when this returns or fails, the process and what it has started have ended; when this process is interrupted
or killed, they end soon after it (`guard.py`). A training that fails, hangs, ends too early, or writes no log that can
be judged is a `BuildError` (`probe_faults.py`); one that has done all and does not end is ended. All that it prints
stays in a file.

    a spike at step 40 of 300: stop_now says True     SIGTERM, Trained(evaluations=(... 40), num_steps=42, ...)
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from math import isfinite
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
    """up to the one at which it was ended"""
    num_steps: int
    """trained in all: those until it had ended, too"""
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
        stop_now: is told each evaluation as it comes, by rising step. Where the log went back, a deep copy of it is
            told those that count, from the first on: what it remembers it has to keep in itself, as `Watch` does, for a
            function's variables are not copied.
        progress: where the steps are shown.
        held: open files, and locks that they hold, which stay with the training until it has ended, also where this
            process is killed.

    Raises:
        BuildError: it failed, hung, ended too early, or its log cannot be judged.
    """
    reader, followed, told = ProbeLog(where=str(log), num_steps=num_steps), FollowedLog(path=log), _Told(stop_now)
    with (
        _running(training.filled(values), output, held) as process,
        progress.stage("train", total=num_steps, unit="") as advance,
    ):
        try:
            is_stopped = _follow(process, followed, reader, limits, told, advance)
        except BuildError as error:
            raise BuildError(f"{error} {printed(output)}") from None
        code, num_trained = process.poll() or 0, reader.steps_trained
    if is_stopped:  # it has trained on until it ended, which it may take its time for
        with suppress(BuildError):  # of a line that nothing rests on
            reader.take(followed.look(at_end=True))
        num_trained = max(num_trained, reader.steps_trained)  # who begins its log anew has trained the steps before
    if not (is_stopped or reader.is_beyond or told.has_diverged):
        require_whole(training.name, code if code >= 0 else 128 - code, reader, log, output)
    return Trained(
        evaluations=tuple(told.evaluations),
        num_steps=num_trained,
        stopped_early=is_stopped and num_trained < num_steps,
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


class _Told:
    """`stop_now`, and what it was told: evaluations by rising step. It is begun anew where others count by now."""

    def __init__(self, stop_now: Callable[[Evaluation], bool]) -> None:
        self._fresh, self._stop_now = deepcopy(stop_now), stop_now
        self.evaluations: list[Evaluation] = []

    @property
    def has_diverged(self) -> bool:
        """In the last step that it was told: a trainer may end there, though steps before it were not validated."""
        return bool(self.evaluations) and not isfinite(self.evaluations[-1].perplexity)

    def says_stop(self, counting: list[Evaluation]) -> bool:
        """Tell it those that it does not know, up to the one at which it says True."""
        if counting[: len(self.evaluations)] != self.evaluations:
            self._stop_now, self.evaluations = deepcopy(self._fresh), []
        for one in counting[len(self.evaluations) :]:
            self.evaluations.append(one)
            if self._stop_now(one):
                return True
        return False


def _follow(
    process: subprocess.Popen[bytes],
    followed: FollowedLog,
    reader: ProbeLog,
    limits: Limits,
    told: _Told,
    advance: Advance,
) -> bool:
    """Read the log until the process has ended or need not be waited for; whether `stop_now` said True before."""
    began = changed = time.monotonic()
    rest, num_shown, has_ended = b"", 0, False
    while not has_ended and not reader.is_beyond:
        has_ended = process.poll() is not None  # first: what it has written before is read below
        news = followed.look(at_end=has_ended)
        reader.take(news)
        if reader.steps_trained > num_shown:
            advance(reader.steps_trained - num_shown)
            num_shown = reader.steps_trained
        if news.lines and told.says_stop(reader.evaluations):
            return True
        now = time.monotonic()
        changed, rest = now if news.lines or news.rest != rest else changed, news.rest
        if not has_ended:
            if has_done_all(limits, now - changed, reader):
                return False
            require_time(limits, now - began, now - changed, reader)
            with suppress(subprocess.TimeoutExpired):
                process.wait(POLL_SECONDS)
    return False
