"""Faults of the machine, injected for real: full disks, failing reads, two builds at once, files swapped while read."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crashing_build import OPTIONS, write_lines
from curriculum.errors import BuildError
from pipeline.build import build
from pipeline.documents import read_unit
from pipeline.inputs import find_inputs, split_units
from pipeline.option_sources import load_options
from pipeline.progress import Silent
from running_build import ROOT, dataset_bytes, end, start, wait_for, workers_of
from small_corpus import real_texts


def test_a_second_build_is_refused_in_every_stage_and_a_worker_may_be_killed(
    slowly_built: Path, tmp_path: Path
) -> None:
    """Into the same folder, or into the same store from another: refused, naming the folder that is held. Then the
    first loses a worker, says so, and continues to the bytes of an undisturbed build."""
    (tmp_path / "corpus").symlink_to(slowly_built / "corpus")
    first = start(tmp_path)
    for stage in ("start", "encode", "cut"):
        wait_for(tmp_path, stage, first)
        os.killpg(first.pid, signal.SIGSTOP)
        for out, held in (("out", "out"), ("other", "out.store")):
            own = {"corpus": (str(tmp_path / "corpus"),), "out": str(tmp_path / out), "tokenizer": "bytes"}
            options = load_options(None, {**own, "store": str(tmp_path / "out.store")})
            with pytest.raises(BuildError, match=rf"/{re.escape(held)}: another process is writing there"):
                build(options, Silent())
        os.killpg(first.pid, signal.SIGCONT)
        if stage == "encode":
            os.kill(workers_of(first)[0], signal.SIGKILL)
            code, said = end(first)
            assert code == 1
            assert re.fullmatch(r"curriculum: A worker process was killed \(SIGKILL\), .*--unit-bytes.*\.\n", said)
            first = start(tmp_path)
    code, said = end(first)
    assert code == 0, said
    assert dataset_bytes(slowly_built) == dataset_bytes(tmp_path)


@pytest.mark.parametrize("full", ["out", "store"])
def test_a_disk_that_fills_up_is_read_only_and_is_enlarged(tmp_path: Path, full: str) -> None:
    """A small tmpfs where the system lets us mount one (root, or a user namespace), else a limit of the size of files:
    one sentence each time, then the bytes of a build that had space."""
    (tmp_path / "corpus").mkdir()
    write_lines(tmp_path / "corpus" / "a.jsonl", real_texts()[:60])
    (tmp_path / full).mkdir()
    sizes = ["--max-length=64", "--start-length=8", "--shuffle-window=20000", "--unit-bytes=40000", "--workers=1"]
    command = [sys.executable, "-m", "pipeline.cli", "build", str(tmp_path / "corpus"), "--tokenizer=bytes", *sizes]
    places = [f"--out={tmp_path / 'out' / 'd'}", f"--store={tmp_path / 'store' / 's'}", "--backend=tokenizers"]
    script = [sys.executable, str(Path(__file__).with_name("fill_a_disk.py")), str(tmp_path / full)]
    script += [str(tmp_path / "kept"), str(tmp_path / "out" / "d"), *command, *places]
    namespace = ["unshare", "--mount", *([] if os.getuid() == 0 else ["--user", "--map-root-user"])]
    may_mount = subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode == 0
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = [*(namespace if may_mount else []), *script]
    done = subprocess.run(run, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.splitlines()
    refused = [line for line in said if line.startswith("1 curriculum: ")]
    assert len(refused) >= 3, said
    for line in refused:
        assert re.search(
            rf"^1 curriculum: {tmp_path}/{full}.*(Free space|No space left|File too large|Read-only)", line
        )
    assert not any("Traceback" in line for line in said)
    own = {"corpus": (str(tmp_path / "corpus"),), "out": str(tmp_path / "fresh"), "tokenizer": "bytes", "workers": 1}
    build(load_options(None, {**own, "max_length": 64, "start_length": 8, "shuffle_window": 20_000}), Silent())
    assert _files(tmp_path / "kept") == _files(tmp_path / "fresh")


def _files(root: Path) -> dict[str, bytes]:
    files = [path for path in root.rglob("*") if path.is_file() and path.name != "build-log.json"]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_reads_that_fail_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO for real: the memory of a process cannot be read at address 0. EIO from a part of the store: by its file."""
    (tmp_path / "corpus").mkdir()
    write_lines(tmp_path / "corpus" / "a.jsonl", real_texts()[:40])
    own: dict[str, Any] = {"corpus": (str(tmp_path / "corpus"),), "out": str(tmp_path / "out"), "tokenizer": "bytes"}
    broken = tmp_path / "corpus" / "b.txt"
    broken.symlink_to("/proc/self/mem")
    with pytest.raises(BuildError, match=r"b\.txt cannot be read \(Input/output error\)"):
        build(load_options(None, {**OPTIONS, **own}), Silent())
    broken.unlink()

    class Broken:
        def __init__(self, path: Path, *how: Any, **more: Any) -> None:
            self.file = open(path, *how, **more)  # noqa: SIM115 - closed by __exit__
            self.breaks = str(path).endswith(".tokens")

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *error: object) -> None:
            self.file.close()

        def seek(self, start: int) -> None:
            self.file.seek(start)

        def readinto(self, out: memoryview) -> int:
            if self.breaks:
                raise OSError(5, "Input/output error")
            return self.file.readinto(out)

    with monkeypatch.context() as patched:
        patched.setattr("pipeline.files.disk.open", Broken, raising=False)
        with pytest.raises(BuildError, match=r"\.tokens: Input/output error\. Run the same command again"):
            build(load_options(None, {**OPTIONS, **own}), Silent())
    build(load_options(None, {**OPTIONS, **own}), Silent())


def write_as(path: Path, texts: list[str]) -> None:
    """The texts in the format that the ending names."""
    if path.suffix == ".txt":
        path.write_text("\n".join(texts))
    elif path.suffix == ".parquet":
        pq.write_table(pa.table({"text": texts}), path, row_group_size=4, compression=None)
    else:
        data = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
        path.write_bytes(gzip.compress(data, mtime=0, compresslevel=0) if path.suffix == ".gz" else data)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet", "a.txt"])
def test_a_file_swapped_while_it_is_read_stops_the_build(tmp_path: Path, name: str) -> None:
    """Even by one of equal size and time: else half of a dataset would come from each of the two."""
    path = tmp_path / name
    write_as(path, ["abc " * 500] * 20)
    state = path.stat()
    (unit,) = split_units(find_inputs([str(path)]).files, 1 << 20)
    records = read_unit(unit)
    next(records)
    write_as(tmp_path / f"other-{name}", ["xyz " * 500] * 20)
    (tmp_path / f"other-{name}").replace(path)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert path.stat().st_size == state.st_size
    with pytest.raises(BuildError, match="changed while being read"):
        list(records)


def test_durations_are_measured_with_a_clock_that_never_jumps() -> None:
    """Rates, time left, retries and timeouts: `time.time` follows the clock of the wall, which people and NTP set."""
    for path in (ROOT / "pipeline").rglob("*.py"):
        assert "time.time(" not in path.read_text(), path
