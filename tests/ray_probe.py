"""What the Ray engine does with tasks that fail, one scenario after the other on one connection.

In:  the address of a cluster and a folder.   Out: found.json there: scenario -> what happened.

    python ray_probe.py 127.0.0.1:6379 /tmp/folder
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from curriculum.errors import BadRecordError
from pipeline.engines.ray_cluster import Places, RayWorkers, ray_workers


class Panic(BaseException):
    """As the panics of Rust libraries reach Python."""


def double(factor: int, number: int) -> int:
    """A task."""
    return factor * number


def refuse(folder: str, number: int) -> int:
    """The first task fails while the others are at work, which they say when they end."""
    if number == 0:
        time.sleep(0.5)
        raise BadRecordError("file 0, line 3: not JSON.")
    time.sleep(1.5)
    Path(folder, f"ended-{number}").touch()
    return number


def die(number: int) -> int:
    """What the kernel does for want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def die_once(folder: str, number: int) -> int:
    """The same, but the second attempt has enough."""
    try:
        Path(folder, f"died-{number}").touch(exist_ok=False)
    except FileExistsError:
        return number
    return die(number)


def panic(number: int) -> int:
    """A bug in a library."""
    raise Panic(f"index {number} out of range")


def environment(number: int) -> str | None:
    """Threads that a tokenizer would start."""
    return os.environ.get("RAYON_NUM_THREADS")


def look(folder: str, number: int) -> int:
    """How many are at work at once, this one among them."""
    here = Path(folder, f"at-work-{number}")
    here.touch()
    time.sleep(0.2)
    count = len(list(Path(folder).glob("at-work-*")))
    here.unlink()
    return count


def error_of(run: Callable[[], Any]) -> list[str]:
    """Type and text of what a run raises."""
    try:
        return ["nothing", str(run())]
    except Exception as error:
        return [type(error).__name__, str(error)]


def scenarios(workers: RayWorkers, folder: str) -> dict[str, Any]:
    """What happened in each."""

    def run(task: Callable[..., Any], shared: tuple[Any, ...], count: int) -> dict[int, Any]:
        return dict(workers.run(task, shared, [(number,) for number in range(count)]))

    found: dict[str, Any] = {}
    found["results"] = sorted(run(double, (3,), 40).items()) == [(n, 3 * n) for n in range(40)]
    found["the next run has its own"] = sorted(run(double, (5,), 40).values()) == [5 * n for n in range(40)]
    found["refuse"] = error_of(lambda: run(refuse, (folder,), 3))
    found["ended after the error"] = len(list(Path(folder).glob("ended-*")))
    time.sleep(1.5)
    found["ended later"] = len(list(Path(folder).glob("ended-*")))
    found["die"] = error_of(lambda: run(die, (), 1))  # each death is a start of Ray's worker
    found["die once"] = sorted(run(die_once, (folder,), 2)) == [0, 1]
    found["panic"] = error_of(lambda: run(panic, (), 1))
    found["threads"] = run(environment, (), 1)[0]
    workers.num_workers = 2
    found["at work at once"] = max(run(look, (folder,), 8).values())
    return found


def main(address: str, folder: str) -> None:
    """On a connection that this process has made itself."""
    import ray

    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    with ray_workers(address=None, num_workers=None, places=Places(), say=lambda line: None) as workers:
        found = scenarios(workers, folder)
    found["connected still"] = ray.is_initialized()
    Path(folder, "found.json").write_text(json.dumps(found))  # Ray prints on stdout


if __name__ == "__main__":
    import ray_probe

    ray_probe.main(*sys.argv[1:])  # as a module, so that workers can import the tasks
