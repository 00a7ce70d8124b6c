"""A build on a Ray cluster whose tasks say that they have begun and then take their time; and tasks that fail.

In:  the options of `curriculum build`, and where to look.   Out: what the command line would print.
Guarantee: workers find the functions here by their import path; nothing of the build itself is replaced but its tasks.

    MARKS=/tmp/m SECONDS=0.5 python ray_driver.py build corpus --engine ray     m/encode-<node>-<pid>-<number> appear
"""

from __future__ import annotations

import json
import os
import pickle
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pipeline.build
import pipeline.corpus
from pipeline.corpus import ensure_part, sample_unit
from pipeline.cut import cut_window


def mark(stage: str, marks: str, seconds: float) -> None:
    """In a worker: say who is at work, and let the others see it."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    path = Path(marks, f"{stage}-{node}-{os.getpid()}-{secrets.token_hex(4)}")
    path.touch()
    time.sleep(seconds)
    path.rename(path.with_name(f"done-{path.name}"))


def slowly(stage: str, task: Callable[..., Any], marks: str, seconds: float, *values: Any) -> Any:
    """A task of a stage after a while."""
    mark(stage, marks, seconds)
    return task(*values)


class Slowed:
    """`workers.run` whose tasks take longer, and the most bytes that one of them sent and got; the engine is real."""

    def __init__(self, workers: Any, marks: str, seconds: float) -> None:
        self._workers, self._marks, self._seconds = workers, marks, seconds
        self._sizes: dict[str, int] = {}
        self.prepare = workers.prepare

    def run(self, task: Callable[..., Any], shared: tuple[Any, ...], arguments: Any) -> Any:
        stage = {sample_unit: "sample", ensure_part: "encode", cut_window: "cut"}.get(task)
        if stage is None:
            yield from self._workers.run(task, shared, arguments)
            return
        shared = (stage, task, self._marks, self._seconds, *shared)
        for number, result in self._workers.run(slowly, shared, arguments):
            sent = len(pickle.dumps((shared, arguments[number], result)))
            self._sizes[stage] = max(sent, self._sizes.get(stage, 0))
            Path(self._marks, "sizes.json").write_text(json.dumps(self._sizes))
            yield number, result


def main() -> None:
    """The command line with slowed tasks."""
    from contextlib import contextmanager

    from pipeline.cli import main as command_line

    real = pipeline.build.open_workers

    @contextmanager
    def slowed(*args: Any, **kwargs: Any) -> Any:
        with real(*args, **kwargs) as workers:
            yield Slowed(workers, os.environ["MARKS"], float(os.environ["SECONDS_PER_TASK"]))

    pipeline.build.open_workers = slowed
    command_line()


if __name__ == "__main__":
    import ray_driver

    ray_driver.main()  # as a module, so that workers can import the tasks
