"""A build on a Ray cluster whose tasks say that they have begun and then wait until they are told to go on.

In:  the options of `curriculum build` or `extend`, and where to look.   Out: what the command line would print.
Guarantee: workers find the functions here by their import path; nothing of the build itself is replaced but its tasks.

    MARKS=/tmp/m python ray_driver.py build corpus --engine ray     m/encode-<node>-<pid>-<number> appears
    touch /tmp/m/go-encode                                          and becomes m/done-encode-...
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
import pipeline.extend
from pipeline.corpus_tokenizer import sample_unit
from pipeline.cut import cut_window
from pipeline.tokenize_stage import ensure_parts

WAIT_SECONDS = 100.0


def mark(stage: str, marks: str) -> None:
    """In a worker: say who is at work, and wait for the word."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    path = Path(marks, f"{stage}-{node}-{os.getpid()}-{secrets.token_hex(4)}")
    path.touch()
    end = time.monotonic() + WAIT_SECONDS
    while not Path(marks, f"go-{stage}").exists() and time.monotonic() < end:
        time.sleep(0.02)
    path.rename(path.with_name(f"done-{path.name}"))


def gated(stage: str, task: Callable[..., Any], marks: str, *values: Any) -> Any:
    """A task of a stage when it is time."""
    mark(stage, marks)
    return task(*values)


class Gated:
    """`workers.run` whose tasks wait, and the most bytes that one of them sent and got; the engine is real."""

    def __init__(self, workers: Any, marks: str) -> None:
        self._workers, self._marks = workers, marks
        self._sizes: dict[str, int] = {}
        self.prepare = workers.prepare

    def run(self, task: Callable[..., Any], shared: tuple[Any, ...], arguments: Any) -> Any:
        stage = {sample_unit: "sample", ensure_parts: "encode", cut_window: "cut"}.get(task)
        name = task.__name__
        if stage is not None:
            task, shared = gated, (stage, task, self._marks, *shared)
        for number, result in self._workers.run(task, shared, arguments):
            sent = len(pickle.dumps((shared, arguments[number], result)))
            self._sizes[name] = max(sent, self._sizes.get(name, 0))
            Path(self._marks, "sizes.json").write_text(json.dumps(self._sizes))
            yield number, result


def main() -> None:
    """The command line with tasks that wait."""
    from contextlib import contextmanager

    from pipeline.cli import main as command_line

    real = pipeline.build.open_workers

    @contextmanager
    def watched(*args: Any, **kwargs: Any) -> Any:
        with real(*args, **kwargs) as workers:
            yield Gated(workers, os.environ["MARKS"])

    pipeline.build.open_workers = pipeline.extend.open_workers = watched
    command_line()


if __name__ == "__main__":
    import ray_driver

    ray_driver.main()  # as a module, so that workers can import the tasks
