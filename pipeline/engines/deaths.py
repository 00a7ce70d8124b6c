"""Why a worker process died, as far as the system tells, and what to do about it.

In:  its exit code, and how many processes the kernel had killed for want of memory before.   Out: one sentence or two.

    -9, and one kill more than before    A worker process was killed (SIGKILL) by the kernel for want of memory ...
    -11                                  A worker process crashed (SIGSEGV) ...
"""

from __future__ import annotations

import signal
from pathlib import Path

CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)
AGAIN = "Run the same command again to continue"


def why(exit_code: int | None, *, oom_kills_before: int | None, lower: str) -> str:
    """What ended a worker process.

    Args:
        exit_code: negative for a signal, as `multiprocessing` says it; None if it cannot be known.
        oom_kills_before: what `count_oom_kills` said when the workers began.
        lower: the options whose smaller values need less memory, a finished clause.
    """
    if exit_code is None or exit_code >= 0:
        # 128 and a signal: our own handler of SIGTERM.
        if exit_code == 128 + signal.SIGTERM:
            return f"A worker process was ended by SIGTERM, by a person or a job manager. {AGAIN}."
        return f"A worker process died with exit code {exit_code} before its task was done. {AGAIN}."
    if -exit_code == signal.SIGKILL:
        return f"A worker process was killed (SIGKILL), {_by_whom(oom_kills_before)}. {AGAIN}; {lower}."
    name = _name(-exit_code)
    if -exit_code == signal.SIGBUS:
        return (
            f"A worker process died of {name}: a file that it had mapped was cut short or could not be read from its "
            f"disk (the kernel's log tells). Leave corpus and store alone while a build runs. {AGAIN}."
        )
    if -exit_code in CRASHES:
        return (
            f"A worker process crashed ({name}) in native code, that of a tokenizer, of pyarrow or of Python. {AGAIN}; "
            f"if it crashes once more, --backend tokenizers does without the fast tokenizer."
        )
    return f"A worker process was ended by {name}. {AGAIN}."


def _by_whom(oom_kills_before: int | None) -> str:
    now = count_oom_kills()
    if now is None or oom_kills_before is None:
        return "most likely by the kernel for want of memory"
    if now > oom_kills_before:
        return f"by the kernel for want of memory (kills it counted since this began: {now - oom_kills_before:,})"
    return "though the kernel counts no kill for want of memory: a person or a job manager may have done it"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def count_oom_kills(system: Path = Path("/")) -> int | None:
    """Processes that the kernel has killed for want of memory in the cgroup of this process, or, where that is not to
    be read, on this machine; None where nobody can tell."""
    cgroup = next((line[3:] for line in _lines(system / "proc/self/cgroup") if line.startswith("0::")), "/")
    for counters in (system / f"sys/fs/cgroup{cgroup}" / "memory.events", system / "proc/vmstat"):
        counts = [int(line.split()[1]) for line in _lines(counters) if line.startswith("oom_kill ")]
        if counts:
            return counts[0]
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
