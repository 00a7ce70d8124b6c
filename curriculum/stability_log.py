"""The log of a training run's stability: JSON lines, one object per optimizer step.

In:  values of a step, by name.   Out: a line; and from a file, the lines again.
Guarantees: a line is written whole or, by a run that was killed in it, not read; a run that resumes appends, and where
it goes back to a step, lines before count no more from that step on, so the log reads as if the run had never stopped,
and nothing that was written is lost. Lines of one step, one after the other, are one. Strict JSON: what is not finite
is written as "NaN", "Infinity", "-Infinity". What is written can be read: numbers, of numpy and tensors too, or it is
refused. What is read are numbers, whoever wrote the log. One process writes to a file at a time, where its file system
has locks. Standard library only.

    log = StabilityLog("run/stability.jsonl")
    log.write(0, seq_len=8, loss=4.0)      {"step": 0, "seq_len": 8, "loss": 4.0, "loss_ratio": null, "seconds": 0.1}
    log.write(1, seq_len=8, loss=5.0)      {"step": 1, "seq_len": 8, "loss": 5.0, "loss_ratio": 1.25, "seconds": 0.2}
    log.add(validation_loss=4.5)           the same line, and "validation_loss": 4.5 in it

Keys that this project writes, all of them optional but `step`:

    step              optimizer step, from 0
    seq_len           inputs per row
    tokens            targets trained so far, this step included (of packed rows: slots)
    loss              mean over the step's targets, nats
    loss_ratio        loss / lowest loss of the steps before; null in the first
    grad_norm         L2 norm of the gradients, before clipping
    learning_rate     of this step
    variance_l1       L1 norm of Adam's second moment over all parameters, after the step
    variance_max      its largest element
    variance_sqrt_l1, variance_sqrt_max      the same of its square root
    validation_loss   mean over held-out targets at full length, nats, after the step; only in steps that validate
    seconds           since the run began, without the time between a stop and a resume
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from numbers import Integral
from pathlib import Path
from time import monotonic
from typing import SupportsFloat
from weakref import WeakValueDictionary

from curriculum.errors import ConfigError, CurriculumError, DataError
from curriculum.loss_ratio import LossRatio
from curriculum.printable import shown
from curriculum.stability_line import Record, checked, is_object
from curriculum.stability_records import parse_records, read_log

__all__ = ["Record", "StabilityLog", "read_log"]

_BEGINNING = b'{"step": '
_OPEN: WeakValueDictionary[tuple[int, int, int], StabilityLog] = WeakValueDictionary()
"""Logs of a process that are not closed, by process id (of a fork the parent's are not its own), device and inode."""


class StabilityLog:
    """Appends lines to a file, on one process of a run."""

    def __init__(self, path: str | os.PathLike[str], *, start_step: int = 0) -> None:
        """Open the file, or begin it.

        Args:
            path: the file; folders above it are made.
            start_step: the step that is written next; lines from there on, of a run that went on after its checkpoint,
                count no more.

        Raises:
            DataError: what is there is no such log.
            CurriculumError: it cannot be written, or another process is writing there.
        """
        self.path = Path(path)
        with self._writing():
            self._open()
            try:
                self._go_on(start_step)
            except BaseException:
                self._file.close()
                raise

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and not self.path.is_file():
            raise DataError(f"{self.path}: is no file; give one, or a name that is free, to the log.")
        # Not opened to append: `add` writes the last line anew.
        self._file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")

    def _go_on(self, start_step: int) -> None:
        self._hold()
        self._ratio = LossRatio()
        seconds = 0.0
        self.next_step = 0
        """the step after the last line that counts before `start_step`: less than that where the log lacks some"""
        content = self._file.read().rstrip(b"\0")  # of some file systems, after a power cut
        whole_bytes = content.rfind(b"\n") + 1
        lacks_end = is_object(content[whole_bytes:])
        if lacks_end:
            whole_bytes = len(content)
        _require_cut_off(content[whole_bytes:], self.path)
        for record in parse_records(content, str(self.path)).records:
            if record["step"] < start_step:
                self._ratio.of(record.get("loss"))
                seconds = record.get("seconds") or seconds
                self.next_step = record["step"] + 1
        self._began = monotonic() - seconds
        self._file.truncate(whole_bytes)
        if lacks_end:
            self._file.seek(whole_bytes)
            whole_bytes += self._file.write(b"\n")
        self._start = self._stop = whole_bytes
        """bytes of the line that was written last"""
        self._last: Record | None = None

    def _hold(self) -> None:
        """Alone, until `close`; a log of this process on the same file is closed, as of a run that an error ended."""
        status = os.fstat(self._file.fileno())
        place = (os.getpid(), status.st_dev, status.st_ino)
        before = _OPEN.get(place)
        if before is not None:
            before.close()
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CurriculumError(
                f"{self.path}: another process has it open, a run or a notebook in which one failed; wait until it "
                f"ends, or give another file to the log."
            ) from None
        except OSError:
            pass  # a file system without locks: two runs in one log are then not told apart
        _OPEN[place] = self

    def write(self, step: int, **values: SupportsFloat | None) -> Record:
        """Append the line of a step; `loss_ratio` and `seconds` are added.

        Raises:
            ConfigError: the step is no integer of at least 0, or a value no number; nothing is written.
            CurriculumError: the file cannot be written.
        """
        record = self._checked({"step": step, **values})
        if "loss" in record:
            record["loss_ratio"] = self._ratio.of(record["loss"])
        record["seconds"] = round(monotonic() - self._began, 3)
        self._start = self._stop
        self._put(record)
        return record

    def add(self, **values: SupportsFloat | None) -> Record:
        """Add values to the line that was written last, but no loss, whose ratio is told when it is written.

        Raises:
            ConfigError: none was written since the log was opened, a loss is among them, or a value is no number.
            CurriculumError: the file cannot be written.
        """
        if self._last is None:
            raise ConfigError(f"{self.path}: add(...) has no line to add to; write(step, ...) one first.")
        if "loss" in values:
            raise ConfigError(f"{self.path}: add(...) takes no loss: a step has its ratio from write(step, loss=...).")
        record = self._checked({**self._last, **values})
        self._put(record)
        return record

    def _checked(self, values: dict[str, SupportsFloat | None]) -> Record:
        """As a reader will take it."""
        numbers = {key: _number(value, f"{self.path}: {key}") for key, value in values.items()}
        try:
            return checked(numbers, str(self.path))
        except DataError as error:
            raise ConfigError(str(error)) from None

    def _put(self, record: Record) -> None:
        if self._file.closed:
            raise CurriculumError(f"{self.path}: this log is closed; write to the one that was opened after it.")
        line = json.dumps({key: _strict(value) for key, value in record.items()}, allow_nan=False)
        with self._writing():
            self._file.seek(self._start)
            # Over all of a longer line that `add` writes anew. To cut the file after it would let a reader see its end.
            self._file.write(line.encode().ljust(self._stop - self._start - 1) + b"\n")
            self._file.flush()
            self._stop = self._file.tell()
        self._last = record

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CurriculumError(
                f"{self.path}: cannot be written ({error.strerror}); give another file to the log, such as with --log "
                f"of `curriculum train`, or make room."
            ) from error

    def close(self) -> None:
        """Close the file; every line is in it already."""
        with self._writing():
            if not self._file.closed:
                with suppress(OSError):  # of a file system without locks
                    fcntl.flock(self._file, fcntl.LOCK_UN)  # also for workers that were forked and have it open
                self._file.close()


def _let_go() -> None:
    """In a fork: a worker that outlives its run must not hold the run's lock, which stands by the open file."""
    null = os.open(os.devnull, os.O_RDWR)
    for log in list(_OPEN.values()):
        if not log._file.closed:
            os.dup2(null, log._file.fileno())  # what another thread was writing is written by the parent alone
            log._file.close()
    os.close(null)


os.register_at_fork(after_in_child=_let_go)


def _require_cut_off(rest: bytes, path: Path) -> None:
    """Refuse to cut what is no unfinished line of ours: a file of one line without an end may be anything."""
    if rest and not (rest.startswith(_BEGINNING) or _BEGINNING.startswith(rest)):
        raise DataError(f"{path}: ends with what no log ends with; give another file to the log.")


def _number(value: SupportsFloat | None, where: str) -> float | None:
    """Of numpy's numbers, and of tensors of one element, as Python's."""
    try:
        return value if value is None else int(value) if isinstance(value, Integral) else float(value)
    except (TypeError, ValueError, RuntimeError):
        raise ConfigError(f"{where} is {shown(value)}, which is no number.") from None


def _strict(value: float | None) -> float | str | None:
    if value is None or isinstance(value, int) or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
