"""Memory of a command and of everything that it starts, while it runs.

In:  a command line.   Out: `MemoryPeaks`: proportional set sizes, in bytes.
Guarantee: shared pages are counted once (PSS, /proc/PID/smaps_rollup), pages of mapped files too; what is gone between
two looks, 50 ms apart, is missed.

    MemoryPeaks(tree=812e6, driver=190e6, worker=330e6, driver_own=90e6)     the sum, and the largest single ones
"""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

INTERVAL_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryPeaks:
    """Highest proportional set sizes in bytes, each at its own moment."""

    tree: int
    driver: int
    worker: int
    driver_own: int
    """of the driver without files and libraries, whose share grows when workers end"""


def run_watched(command: list[str], environment: dict[str, str]) -> tuple[MemoryPeaks, float]:
    """Run a command to its end; its peaks and its wall time in seconds.

    Raises:
        SystemExit: it failed.
    """
    began = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    tree = driver = worker = own = 0
    while process.poll() is None:
        sizes = {pid: pss(pid) for pid in descendants(process.pid)}
        others = [size for pid, size in sizes.items() if pid != process.pid]
        tree = max(tree, sum(sizes.values()))
        driver = max(driver, sizes.get(process.pid, 0))
        worker = max(worker, max(others, default=0))
        own = max(own, pss(process.pid, "Pss_Anon:"))
        time.sleep(INTERVAL_SECONDS)
    assert process.stderr is not None
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{process.stderr.read()[-2000:]}")
    return MemoryPeaks(tree=tree, driver=driver, worker=worker, driver_own=own), time.perf_counter() - began


def pss(pid: int, line_name: str = "Pss:") -> int:
    """Proportional set size of a process in bytes, or a part of it; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(line_name))


def descendants(root: int) -> list[int]:
    """A process and all that it started, directly or not."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - names are numbers
        if name.isdigit():
            try:
                # The second field, the command's name, may hold spaces and parentheses.
                parents[int(name)] = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found
