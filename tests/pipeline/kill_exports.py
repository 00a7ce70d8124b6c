"""Export a small dataset, killed or with a full disk at its n-th effect, for many n; then run it again and compare.

Started by test_export.py: `kill_exports.py FOLDER FORMAT`. Counting and forked attempts are as in kill_everywhere.py;
writes at a place in a file are effects too. Prints one JSON object: number of effects, and what was wrong after which.
"""

from __future__ import annotations

import errno
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

import pyarrow.parquet  # noqa: F401 - an export imports it when it needs it
from kill_everywhere import Effects

from curriculum.errors import BuildError
from packed_dataset import write_packed_dataset
from pipeline.build import build
from pipeline.export import Export, export_dataset
from pipeline.exporters import exporter
from pipeline.option_sources import load_options
from pipeline.progress import Silent

ATTEMPTS = 20
"""Kills, and as many failures between them."""


class AllEffects(Effects):
    """Files that are filled at places of their own are allocated and written; SIGKILL comes in the middle."""

    names = (*Effects.names, "ftruncate")

    def install(self) -> None:
        super().install()
        pwrite = os.pwrite

        def counted(handle: int, data: memoryview, start: int) -> int:
            self.step(lambda: pwrite(handle, data[: len(data) // 2], start))
            return pwrite(handle, data, start)

        os.pwrite = counted  # type: ignore[assignment]


class Failing(AllEffects):
    """From the n-th effect on the disk is full."""

    def step(self, partial: Callable[[], object] | None = None) -> None:
        self.count += 1
        if self.fatal is not None and self.count >= self.fatal:
            if partial is not None:
                partial()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def attempt(dataset: Path, out: Path, to: str, effects: Effects) -> int:
    """Export in a forked process; the number of effects, -1 if it was killed, -2 if it ended with a sentence."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        effects.install()
        code = 0
        try:
            export_dataset(str(dataset), str(out), Export(to=to), workers=1, progress=Silent(), overwrite=False)
        except BuildError as error:
            code = 3 if str(error).endswith("continues where it stopped.") else 4
        os.write(write_end, str(effects.count).encode())
        os._exit(code)
    os.close(write_end)
    _, status = os.waitpid(child, 0)
    count = os.read(read_end, 20)
    os.close(read_end)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return -1
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, 3), f"exit {code}"
    return int(count) if code == 0 else -2


def snapshot(out: Path) -> dict[str, str]:
    """Digest of every file."""
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main(folder: Path, to: str) -> None:
    """Try `ATTEMPTS` places."""
    dataset, out = folder / "dataset", folder / "out"
    if to == "megatron":
        options: dict[str, Any] = {"tokenizer": "bytes", "start_length": 8, "max_length": 16, "steps": 30, "workers": 1}
        (folder / "a.txt").write_text("A text that is read again and again. " * 200)
        corpus = {"corpus": (str(folder / "a.txt"),), "out": str(dataset), "batch_rows": 2, "shard_bytes": 400}
        build(load_options(None, {**options, **corpus}), Silent())
    else:
        dataset.mkdir()
        write_packed_dataset(dataset)
    exporter(to)
    gc.collect()
    gc.freeze()
    total = attempt(dataset, out, to, AllEffects(None))
    expected = snapshot(out)
    wrong: dict[str, str] = {}
    stride = total // ATTEMPTS
    for fatal in range(1, total + 1, stride):
        for effects in (AllEffects(fatal), Failing(fatal + stride // 2)):
            shutil.rmtree(out, ignore_errors=True)
            ended, name = attempt(dataset, out, to, effects), f"{type(effects).__name__} {effects.fatal}"
            if ended >= 0 and fatal + stride <= total:
                wrong[name] = "nothing happened"
            if (out / "export.json").exists():
                left = {path: digest for path, digest in snapshot(out).items() if not path.startswith(".export")}
                if left != expected:
                    wrong[name] = "export.json was there too early"
            attempt(dataset, out, to, AllEffects(None))
            if snapshot(out) != expected:
                wrong[name] = "other bytes after the rerun"
    print(json.dumps({"effects": total, "wrong": wrong}))  # noqa: T201 - the result


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
