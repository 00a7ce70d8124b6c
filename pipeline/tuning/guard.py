"""A process between a tune and what it trains with: it sees to it that nothing goes on when the tune is gone.

In:  `python guard.py SECONDS COMMAND ...`, and a pipe on standard input that nothing is written to.
Out: the exit code of the command, 128 and the number of the signal that ended it, or 127 if it cannot be started.
Guarantee: when the pipe closes (the tune has closed it, or was killed in whatever way), or at SIGTERM, the command and
all that it has started get SIGTERM, then, those that live after `SECONDS`, and what they start meanwhile, SIGKILL; so
does what a command that has ended leaves behind. On Linux that is all of its descendants, whatever session they are in;
elsewhere its process group. If the guard is killed by SIGKILL, the tune kills its session (`kill_session`); if both
are, the command goes on. Nothing but the standard library is loaded.

    tune -- pipe --> guard (a session of its own) --> command (a process group of its own) --> its workers
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress

POLL_SECONDS = 0.05
KILL_SECONDS = 3.0
"""For what begins others as fast as they are killed, or cannot be killed where it waits."""
CANNOT_START = 127
"""As shells say it."""
SET_CHILD_SUBREAPER = 36
"""Of Linux' prctl: who has lost its parent becomes our child, not that of process 1."""


def main() -> int:
    """Run the command to its end, or to ours."""
    grace_seconds, command = float(sys.argv[1]), sys.argv[2:]
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
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
    _end_rest(_family(child.pid), time.monotonic() + grace_seconds)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _end(child: subprocess.Popen[bytes], grace_seconds: float) -> None:
    """SIGTERM, and SIGKILL for what is still there after the grace: torchrun's workers have sessions of their own, and
    only torchrun itself ends them in time."""
    family = _family(child.pid)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    _end_rest(family | _family(child.pid), deadline)  # those that the command itself has not ended
    child.kill()
    child.wait()


def _end_rest(family: dict[int, bytes], deadline: float) -> None:
    _send(signal.SIGTERM, family)
    while _living(family) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    _send(signal.SIGKILL, family)
    deadline = time.monotonic() + KILL_SECONDS
    while (born := _alive(_descendants(os.getpid()))) and time.monotonic() < deadline:
        _send(signal.SIGKILL, born)
        time.sleep(POLL_SECONDS)


def kill_session(session: int) -> None:
    """Kill the processes of a session and their descendants, where /proc tells them: what a killed guard has left."""
    members = []
    with suppress(OSError), os.scandir("/proc") as running:
        members = [int(one.name) for one in running if one.name.isdigit() and _session(one.name) == session]
    _send(signal.SIGKILL, _alive([*members, *(each for pid in members for each in _descendants(pid))]))


def _session(pid: str) -> int | None:
    fields = _stat(pid)
    return int(fields[3]) if fields else None


def _family(child: int) -> dict[int, bytes]:
    """All descendants, those of a command that has ended too; when each began."""
    return _alive([child, *_descendants(os.getpid())])


def _alive(pids: list[int]) -> dict[int, bytes]:
    return {pid: began for pid in pids if (began := _began(pid))}


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
    fields = _stat(pid)
    return b"" if not fields or fields[0] in (b"Z", b"X") else fields[19]


def _stat(pid: int | str) -> list[bytes]:
    """State, parent, group, session and so on."""
    with suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()
    return []


if __name__ == "__main__":
    sys.exit(main())
