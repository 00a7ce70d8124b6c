"""Counts what a process does to the disk, and kills it there.

In:  the number of the effect to die at.   Out: that death, or the count.
An effect is a new file or folder, a write, rename or removal; a kill at a write leaves half of its data behind.
"""

from __future__ import annotations

import builtins
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pipeline.publish

THREADS = 4
"""Shards settle in threads, which may make one folder twice: the number of effects differs by a few."""


class Effects:
    """Counts effects; kills the process at number `fatal`."""

    names: tuple[str, ...] = ("replace", "unlink", "rmdir", "mkdir")

    def __init__(self, fatal: int | None) -> None:
        self.fatal = fatal
        self.count = 0

    def step(self, partial: Callable[[], object] | None = None) -> None:
        self.count += 1
        if self.count == self.fatal:
            if partial is not None:
                partial()
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        for name in self.names:
            setattr(os, name, self._counted(getattr(os, name)))
        pipeline.publish.open = self._open  # type: ignore[attr-defined]

    def _counted(self, effect: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            self.step()
            return effect(*args, **kwargs)

        return run

    def _open(self, path: Path, mode: str, buffering: int) -> Any:
        self.step()
        file = builtins.open(path, mode, buffering=buffering)  # noqa: SIM115 - `Aside` closes it
        effects = self

        class Counting:
            def write(self, data: memoryview) -> int:
                effects.step(lambda: file.write(data[: len(data) // 2]))
                return file.write(data)

            def fileno(self) -> int:
                return file.fileno()

            def close(self) -> None:
                file.close()

        return Counting()
