"""Push or pull a tiny dataset, killed at its n-th effect on the disk, for every n; look what is visible; run it again.

Started by tests/sharing/test_killed_transfers.py as a process of its own: `kill_transfers.py FOLDER
SCENARIO...`. FOLDER holds the datasets `tiny`, `longer` (an extension of it), `other`, and `packed`, a place with
compressed shards of the first. Each attempt is a forked copy of this process, as in kill_everywhere.py. Prints one JSON
object: number of effects, and what was wrong after which of them.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from effects import THREADS, Effects

import pipeline.sharing.frames  # noqa: F401 - a pull imports it when it needs it
from curriculum.manifest import FILE_NAME, load_manifest
from pipeline.sharing.contents import shards_of
from pipeline.sharing.folder_place import FolderPlace
from travels import content, pull, push, travelling

SCENARIOS: dict[str, tuple[Callable[..., Any], str, str | None, dict[str, Any]]] = {
    # push or pull; what; what is at its end before; options.
    "pull": (pull, "tiny", None, {}),
    "pull-packed": (pull, "packed", None, {}),
    "pull-extension": (pull, "longer", "tiny", {}),
    "pull-other": (pull, "other", "tiny", {"overwrite": True}),
    "push": (push, "tiny", None, {}),
    "push-extension": (push, "longer", "tiny", {}),
    "push-other": (push, "other", "tiny", {"overwrite": True}),
}


def prepare(folder: Path, before: str | None) -> Path:
    """The end as the transfer finds it."""
    end = folder / "end"
    shutil.rmtree(end, ignore_errors=True)
    if before is not None:
        shutil.copytree(folder / before, end, ignore=shutil.ignore_patterns("build-log.json"))
    return end


def run(folder: Path, scenario: str, fatal: int | None) -> int:
    """Move in a forked process; its number of effects, or -1 if it was killed."""
    transfer, what, _, options = SCENARIOS[scenario]
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        effects = Effects(fatal)
        effects.install()
        _transfer(transfer, folder / what, folder / "end", options)
        os.write(write_end, str(effects.count).encode())
        os._exit(0)
    os.close(write_end)
    _, status = os.waitpid(child, 0)
    count = os.read(read_end, 20)
    os.close(read_end)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return -1
    assert os.waitstatus_to_exitcode(status) == 0, "the transfer failed: see stderr"
    return int(count)


def _transfer(transfer: Callable[..., Any], what: Path, end: Path, options: dict[str, Any]) -> None:
    """One file at a time, so that effects come in one order."""
    if transfer is pull:
        pull(FolderPlace(what, at_once=1), end, **options)
    else:
        push(what, FolderPlace(end, at_once=1), **options)


def visible_fault(end: Path, datasets: list[Path]) -> str:
    """What a reader would stumble over now; "" if it finds a whole dataset, or none."""
    if not (end / FILE_NAME).exists():
        return ""
    if all((end / FILE_NAME).read_bytes() != (dataset / FILE_NAME).read_bytes() for dataset in datasets):
        return "another manifest"
    for shard in shards_of(load_manifest(end)):
        path = end / shard.path
        if not path.exists():
            return f"no {path}"
        if hashlib.sha256(path.read_bytes()).hexdigest() != shard.sha256:
            return f"damaged {path}"
    return ""


def damaged(end: Path, datasets: list[Path]) -> str:
    """A shard that is in place and is none of the datasets', manifest or not."""
    for path in end.rglob("*.arrow"):
        name = path.relative_to(end)
        if name.parts[0] in ("phases", "validation"):
            data = path.read_bytes()
            if all(not (dataset / name).exists() or data != (dataset / name).read_bytes() for dataset in datasets):
                return f"damaged {path}"
    return ""


def main(folder: Path, scenario: str) -> dict[str, Any]:
    """Try every effect of a scenario."""
    _, what, before, _ = SCENARIOS[scenario]
    datasets = [folder / name for name in ("tiny", "longer", "other")]
    end = prepare(folder, before)
    total = run(folder, scenario, None)
    expected = content(end)
    assert expected == travelling(folder / ("tiny" if what == "packed" else what))
    wrong = {}
    for fatal in range(1, total + 1):
        prepare(folder, before)
        if run(folder, scenario, fatal) != -1:
            if fatal < total - THREADS:
                wrong[fatal] = "the transfer was not killed"
            continue
        fault = visible_fault(end, datasets) or damaged(end, datasets)
        run(folder, scenario, None)
        if content(end) != expected:
            fault = f"the run after it ended differently; {fault}"
        if fault:
            wrong[fatal] = fault
    return {"effects": total, "wrong": wrong}


if __name__ == "__main__":
    gc.collect()
    gc.freeze()
    results = {scenario: main(Path(sys.argv[1]), scenario) for scenario in sys.argv[2:]}
    print(json.dumps(results))  # noqa: T201 - the result
