"""A process between a tune and what it trains with: it sees to it that nothing goes on when the tune is gone.

In:  `python guard.py SECONDS COMMAND ...`, and a pipe on standard input that nothing is written to.
Out: the exit code of the command, 128 and the number of the signal that ended it, or 127 if it cannot be started.
Guarantee: when the pipe closes (the tune has closed it, or was killed in whatever way), or at SIGTERM, the command and
all that it has started get SIGTERM, then, those that live after `SECONDS`, SIGKILL. What a command that has ended
leaves behind in its process group is killed, too. Nothing but the standard library is loaded: 20 ms.

    tune -- pipe --> guard (a session of its own) --> command (a process group of its own) --> its workers
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress

POLL_SECONDS = 0.05
CANNOT_START = 127
"""As shells say it."""


def main() -> int:
    """Run the command to its end, or to ours."""
    grace_seconds, command = float(sys.argv[1]), sys.argv[2:]
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, frame: None)  # a command gets the default again
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0)
    except OSError as error:
        sys.stderr.write(f"{command[0]}: cannot be started: {error.strerror}\n")
        return CANNOT_START
    while child.poll() is None:
        ready, _, _ = select.select([0, woken], [], [])
        if 0 in ready or set(os.read(woken, 64)) - {signal.SIGCHLD}:
            _end(child, grace_seconds)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _end(child: subprocess.Popen[bytes], grace_seconds: float) -> None:
    """SIGTERM, and SIGKILL for what is still there after the grace: torchrun's workers have sessions of their own, and
    only torchrun itself ends them in time."""
    family = {pid: began for pid in (child.pid, *_descendants(child.pid)) if (began := _began(pid))}
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    _send(signal.SIGTERM, family)  # those that the command itself has not ended
    while _living(family) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    _send(signal.SIGKILL, family)
    child.kill()
    child.wait()


def _send(number: signal.Signals, family: dict[int, bytes]) -> None:
    for pid in _living(family):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _living(family: dict[int, bytes]) -> list[int]:
    return [pid for pid, began in family.items() if _began(pid) == began]


def _descendants(pid: int) -> list[int]:
    """Children, their children, and so on, where /proc tells them."""
    found: list[int] = []
    with suppress(OSError), os.scandir(f"/proc/{pid}/task") as threads:
        for thread in threads:
            with open(f"{thread.path}/children") as file:
                found += map(int, file.read().split())
    return found + [each for child in found for each in _descendants(child)]


def _began(pid: int) -> bytes:
    """When a process began, which tells it from another one of its number; empty for none that runs, or without /proc.

    One that has ended may be there for long, until somebody counts it.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state, *fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return b""
    return b"" if state in (b"Z", b"X") else fields[18]


if __name__ == "__main__":
    sys.exit(main())
