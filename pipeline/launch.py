"""Start one training script under torchrun, wait for it, and leave nothing behind.

In:  a module, its arguments, a number of processes, where its log goes.   Out: nothing; or an error that ends with what
the script printed.
Guarantee: when `run_to_end` returns or raises, the launcher and its workers have ended: first SIGTERM, which torchrun
passes on, then SIGKILL for each by its id. No port is fixed; GPUs are hidden.

    run_to_end(Launch(module="curriculum.examples.train_torch", world_size=2, ...), Silent())
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import curriculum
from curriculum.doctor import LOG_VARIABLE
from curriculum.errors import CurriculumError
from pipeline.progress import Advance, Progress

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 35
"""torchrun gives its workers 30 seconds to end."""
_SHOWN_LINES = 25


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """One start of a training script."""

    name: str
    """for people"""
    module: str
    arguments: tuple[str, ...]
    world_size: int
    folder: Path
    """working directory; what the script prints goes there too"""
    log: Path
    """folder of the doctor's log"""
    num_calls: int
    """micro-batches that each rank will record, for the progress bar"""
    timeout_seconds: float


def run_to_end(launch: Launch, progress: Progress) -> None:
    """Run the script.

    Raises:
        CurriculumError: it failed, or took longer than `timeout_seconds`.
    """
    printed = launch.log.with_suffix(".stderr")
    with open(printed, "wb") as errors, open(launch.log.with_suffix(".stdout"), "wb") as output:
        process = subprocess.Popen(
            _command(launch),
            cwd=launch.folder,
            env=_environment(launch),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
        try:
            with _exit_on_sigterm(), progress.stage(launch.name, total=launch.num_calls, unit="") as advance:
                code = _wait(process, launch, advance)
        finally:
            _end(process)
    if code is None:
        raise CurriculumError(
            f"{launch.name} did not end within {launch.timeout_seconds:.0f} seconds and was stopped; give --timeout "
            f"more, or see where it hangs. It printed {_tail(printed)}"
        )
    if code:
        raise CurriculumError(f"{launch.name} failed with exit code {code}. It printed {_tail(printed)}")


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """A scheduler ends a job so; Python would end at once, without `finally`, and leave the workers running."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _command(launch: Launch) -> list[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    return [*torchrun, str(launch.world_size), "-m", launch.module, *launch.arguments]


def _environment(launch: Launch) -> dict[str, str]:
    """The caller's, on CPUs; the same package in the workers as here, installed or not."""
    package = str(Path(curriculum.__file__).parents[1])
    inherited = os.environ.get("PYTHONPATH")
    on_cpu = {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu", "JAX_PLATFORMS": "cpu", "ACCELERATE_USE_CPU": "true"}
    defaults = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    return {
        **defaults,
        **{name: value for name, value in os.environ.items() if name not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")},
        **on_cpu,
        LOG_VARIABLE: str(launch.log),
        "PYTHONPATH": f"{package}{os.pathsep}{inherited}" if inherited else package,
    }


def _wait(process: subprocess.Popen[bytes], launch: Launch, advance: Advance) -> int | None:
    """Exit code, or None after too long."""
    deadline = time.monotonic() + launch.timeout_seconds
    shown = 0
    while time.monotonic() < deadline:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(_POLL_SECONDS)
        with suppress(FileNotFoundError):  # no batch yet
            recorded = (launch.log / "rank-00000.jsonl").read_bytes().count(b"\n")
            advance(recorded - shown)
            shown = recorded
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the launcher and its workers, if they run; workers are sessions of their own."""
    if process.poll() is not None:
        return
    workers = _children(process.pid)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_SECONDS)
        return
    for group in (*workers, process.pid):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    process.wait()


def _children(pid: int) -> tuple[int, ...]:
    """Process ids of the direct children, where /proc tells them."""
    try:
        return tuple(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()))
    except OSError:
        return ()


def _tail(path: Path) -> str:
    """The end of what the workers printed, before torchrun's own report of their failure."""
    lines = path.read_text("utf-8", "replace").splitlines()
    ends = [i for i, line in enumerate(lines) if "failed (exitcode:" in line or "sending process" in line.lower()]
    shown = lines[: ends[0]] if ends and ends[0] else lines
    kept = [_printable(line) for line in shown[-_SHOWN_LINES:] if line.strip()]
    return "\n    ".join(["last:", *kept]) if kept else "nothing."


def _printable(line: str) -> str:
    """Colours and cursor movements of the workers' messages must not reach the terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in line)
