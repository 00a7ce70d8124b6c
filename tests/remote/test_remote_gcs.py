"""gs:// through gcsfs against an emulator of Google Cloud Storage."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest

from environments import environment, free_port, wait_for_port
from remote.http_store import files_of
from remote.reading_process import ROOT, read_elsewhere
from remote.store_build import build_few, write_corpus
from travels import content, travelling

pytest.importorskip("gcsfs")


def installed() -> Path:
    """The folder of the emulator's programs."""
    return environment("gcs", "gcp-storage-emulator==2026.7.19")


INSTALLS = installed


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    python = installed() / "python"
    port, folder = free_port(), tmp_path_factory.mktemp("gcs")
    with (folder / "log.txt").open("wb") as log:
        command = [python, python.with_name("gcp-storage-emulator"), "start", "--host", "127.0.0.1", "--in-memory"]
        process = subprocess.Popen([*command, "--port", str(port)], cwd=folder, stdout=log, stderr=log)
    try:
        wait_for_port(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait(10)


def test_batches_equal_the_local_ones(endpoint: str, long_dataset: Path, tmp_path: Path) -> None:
    """Read elsewhere: by default gcsfs asks Google's control API, over gRPC, what kind of bucket it is."""
    call(f"{endpoint}/storage/v1/b?project=p", b'{"name": "bucket"}')
    for path, data in files_of(long_dataset).items():
        call(
            f"{endpoint}/upload/storage/v1/b/bucket/o?uploadType=media&name={quote(f'ds/{path}', safe='')}",
            data,
            "application/octet-stream",
        )
    client = {"STORAGE_EMULATOR_HOST": endpoint, "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
    fetched = []
    for verify in ("auto", "ranges"):
        where = ("gs://bucket/ds", long_dataset, tmp_path)
        done = read_elsewhere(*where, verify=verify, rank=1, world_size=4, **client)
        assert done.returncode == 0, done.stderr[-3000:]
        fetched.append(int(done.stdout.split()[1]))
    assert fetched[0] == 2_653_434
    assert fetched[1] < 900_000
    done = read_elsewhere("gs://bucket/nothing", long_dataset, tmp_path, **client)
    assert "DataError: gs://bucket/nothing: not a curriculum dataset" in done.stderr.strip().splitlines()[-1]


def call(url: str, body: bytes, kind: str = "application/json") -> None:
    with urlopen(Request(url, body, {"Content-Type": kind}), timeout=30) as answer:
        assert answer.status == 200


BUILD = """
import sys
from pathlib import Path
import gcsfs
from remote.store_build import OWN, build_few, files_below
build_few(sys.argv[1], "gs://built/ds", {})
client = gcsfs.GCSFileSystem()
for prefix in ("ds", "ds.store"):
    there = {name.removeprefix(f"built/{prefix}/"): client.cat_file(name) for name in client.find(f"built/{prefix}")}
    there = {name: data for name, data in there.items() if name not in OWN}
    assert there == files_below(Path(sys.argv[2]).with_name(prefix)), prefix
"""


def test_a_build_writes_the_same_objects(endpoint: str, tmp_path: Path) -> None:
    """The path to a dataset and its store on Google Cloud Storage, against the emulator."""
    call(f"{endpoint}/storage/v1/b?project=p", b'{"name": "built"}')
    corpus = write_corpus(tmp_path / "corpus")
    build_few(corpus, tmp_path / "ds", {})
    client = {"STORAGE_EMULATOR_HOST": endpoint, "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", **client}
    command = [sys.executable, "-c", BUILD, str(corpus), str(tmp_path / "ds")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_push_and_pull(endpoint: str, tiny: Path, tmp_path: Path) -> None:
    """As people type it: shards compressed there, everything else as it is."""
    call(f"{endpoint}/storage/v1/b?project=p", b'{"name": "shared"}')
    client = {"STORAGE_EMULATOR_HOST": endpoint, "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **client}
    place, back = "gs://shared/ds", tmp_path / "back"
    for arguments in (["push", str(tiny), place, "--compress", "zstd"], ["pull", place, str(back)]):
        command = [sys.executable, "-m", "pipeline.cli", *arguments, "--storage-option", "token=anon"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    assert content(back) == travelling(tiny)
