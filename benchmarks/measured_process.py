"""One command, measured from its start to its exit.

In:  a command, its environment, how many CPUs it may use.   Out: `Measured`.
Guarantee: what earlier runs wrote is on the disk before the clock starts, so that nobody pays for somebody else. CPU
seconds are of the process and all descendants, those included that it leaves behind (a fork server, say): they are
waited for after the clock has stopped. Memory is that of all of them together.

    run([sys.executable, "-c", "pass"], cpus=1, log=Path("log"))      Measured(seconds=0.02, cpu_seconds=0.02, ...)
"""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from build_speed import PeakMemory, on_cpus

PR_SET_CHILD_SUBREAPER = 36
"""Linux: orphans among our descendants become our children, so that what they used is known when they end."""
ORPHAN_SECONDS = 20
"""They get so long to notice that they are orphans."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What one run took."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    exit_code: int


def run(
    command: list[str], *, cpus: int, log: Path, cwd: Path | None = None, environment: dict[str, str] | None = None
) -> Measured:
    """Run a command; what it says goes to the end of `log`."""
    os.sync()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with log.open("ab") as said:
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            preexec_fn=on_cpus(cpus),
        )
        with PeakMemory(process.pid) as memory:
            process.wait()
            seconds = time.perf_counter() - began
    _wait_for_orphans()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Measured(
        seconds=seconds,
        cpu_seconds=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        peak_bytes=memory.peak_bytes,
        exit_code=process.returncode,
    )


def _wait_for_orphans() -> None:
    stop = time.monotonic() + ORPHAN_SECONDS
    while time.monotonic() < stop:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            time.sleep(0.01)
    raise SystemExit("A measured command left processes behind that do not end: look for them with ps and end them.")


def bytes_in(folder: Path) -> int:
    """Size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
