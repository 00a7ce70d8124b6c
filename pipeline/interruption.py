"""SIGTERM, SIGINT and SIGHUP end a command tidily, and soon.

In:  a block of the main thread.
Out: at the first signal `Interrupted` is raised in the block, wherever it is. At the second, or when the block has not
ended 5 seconds after the first, the process ends at once.
Guarantee: nothing is lost either way, since a build can be killed at any moment. A signal that was ignored when the
command began stays ignored: `nohup curriculum build` outlives its terminal.

    kill -TERM PID           "interrupted by SIGTERM. Run the same command again to continue.", exit code 143
    Ctrl-C                   the same with SIGINT, exit code 130; once more: exit code 130 at once
    continued_by(sentence)   what is said in place of the second sentence from then on
    interrupt_main(error)    from another thread: what the error says, exit code 1, also where the block does not end
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from curriculum.printable import printable_text

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_SECONDS = 5.0
"""A tokenizer may be busy in native code for so long that no exception reaches it."""
SAME_SIGNAL_SECONDS = 0.3
"""`timeout` and many wrappers send a signal to the process and to its group: the second copy is no second wish."""
_BLOCK_ENDED = 0
_reason: Exception | None = None
"""Why this process interrupts itself."""
AGAIN = "Run the same command again to continue."
_continued_by = AGAIN


class Interrupted(KeyboardInterrupt):
    """A signal asks this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self._continued_by = _continued_by

    @property
    def exit_code(self) -> int:
        """As shells count: 128 and the number of the signal."""
        return 128 + self.number

    def __str__(self) -> str:
        return f"interrupted by {signal.Signals(self.number).name}. {self._continued_by}"


def continued_by(sentence: str) -> None:
    """How this command is continued if it is interrupted from now on, where the same would not do it."""
    global _continued_by
    _continued_by = sentence


def interrupt_main(error: Exception) -> None:
    """Interrupt the main thread, which is to raise the error; if it does not in time, its sentence is the last word."""
    global _reason
    _reason = error
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def interruption_behind(error: BaseException) -> Interrupted | None:
    """The signal that an error hides: `shutil.rmtree`, interrupted while it closes a file, closes it twice and fails.

    None if this process interrupted itself: then the error says why.
    """
    behind: BaseException | None = error
    while behind is not None and not isinstance(behind, Interrupted):
        behind = behind.__cause__ or behind.__context__
    return None if _reason is not None else behind


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Raise `Interrupted` in the block at the first signal; elsewhere than in the main thread nothing is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    global _reason, _continued_by
    _reason, _continued_by = None, AGAIN
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    watch = threading.Thread(target=_watch, args=(read_end,), name="signals", daemon=True)
    watch.start()
    before = {s: signal.signal(s, _raise_once()) for s in SIGNALS if signal.getsignal(s) is not signal.SIG_IGN}
    wakeup_before = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.write(write_end, bytes([_BLOCK_ENDED]))
        watch.join()
        os.close(write_end)
        os.close(read_end)


_raised = False


def _raise_once() -> Any:
    """A handler: the second signal must not cut the tidying short, `_watch` sees to it."""
    global _raised
    _raised = False

    def handle(number: int, frame: Any) -> None:
        global _raised
        if not _raised:
            _raised = True
            raise Interrupted(number)

    return handle


def _watch(read_end: int) -> None:
    """In a thread, since the main thread may be in native code: end the process at the second signal or too late."""
    first_at: float | None = None
    number = int(signal.SIGINT)
    while True:
        left = None if first_at is None else max(0.0, first_at + GRACE_SECONDS - time.monotonic())
        if not select.select([read_end], [], [], left)[0]:
            _end_at_once(number)
        for number in os.read(read_end, 1):
            if number == _BLOCK_ENDED:
                return
            if number not in SIGNALS:
                continue
            if first_at is None:
                first_at = time.monotonic()
            elif time.monotonic() - first_at > SAME_SIGNAL_SECONDS:
                _end_at_once(number)


def _end_at_once(number: int) -> None:
    show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # a bar hides it
    reason, exit_code = (Interrupted(number), 128 + number) if _reason is None else (_reason, 1)
    sentence = printable_text(str(reason))  # the names in it may be somebody else's
    with suppress(OSError):
        os.write(2, f"{show_cursor}curriculum: {sentence}\n".encode())
    os._exit(exit_code)
