"""What lies in a dataset's folder may be no file at all: pipes block, devices have no end, links lead elsewhere."""

from __future__ import annotations

import inspect
import os
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import curriculum
from curriculum.errors import DataError
from curriculum.regular_file import read_regular
from forged_shards import last_shard, read_manifest
from hostile_dataset import is_sentence, run_limited
from pipeline.cli import main
from pipeline.summary import _bytes_below, summarize

KINDS = {
    "pipe": "is a named pipe",
    "device": "is a device",
    "folder": "is a folder",
    "pipe behind a link": "named pipe",
}


@pytest.fixture
def dataset(small_dataset: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return shutil.copytree(small_dataset, tmp_path / "dataset")


def put(path: Path, kind: str) -> None:
    """Something else in place of a file."""
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        os.mkfifo(path.with_name("pipe"))
        path.symlink_to("pipe")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["manifest.json", "tokenizer.json", "a shard"])
def test_what_is_no_file_is_refused_without_waiting_for_it(dataset: Path, name: str, kind: str) -> None:
    shard = last_shard(read_manifest(dataset))["path"]
    put(dataset / (shard if name == "a shard" else name), kind)
    command = ["cat", str(dataset), "--step", "0"] if name == "tokenizer.json" else ["verify", str(dataset), "--quick"]
    outcome = CliRunner().invoke(main, command)
    assert outcome.exit_code == 1
    assert KINDS[kind] in outcome.stderr
    assert is_sentence(outcome.stderr.rstrip("\n"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_build_log_that_is_no_file_is_none(dataset: Path, kind: str) -> None:
    put(dataset / "build-log.json", kind)
    (dataset / ".build").mkdir()
    os.mkfifo(dataset / ".build" / "request.json")
    outcome = CliRunner().invoke(main, ["inspect", str(dataset)])
    assert outcome.exit_code == 0
    assert "build " not in outcome.stdout


def test_a_dataset_of_a_hub_cache_is_read_through_its_links(dataset: Path, tmp_path: Path) -> None:
    """`snapshot_download` makes a folder of links to files that are named by their digest."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0a1b"
    blobs.mkdir()
    for path in [path for path in dataset.rglob("*") if path.is_file()]:
        link = snapshot / path.relative_to(dataset)
        link.parent.mkdir(parents=True, exist_ok=True)
        blob = blobs / str(len(list(blobs.iterdir())))
        path.rename(blob)
        link.symlink_to(os.path.relpath(blob, link.parent))
    reader = curriculum.open(snapshot, check=True)
    assert reader[0].tokens.shape == (8, 9)
    assert CliRunner().invoke(main, ["verify", str(snapshot), "--workers", "1"]).exit_code == 0
    assert CliRunner().invoke(main, ["cat", str(snapshot), "--step", "0"]).exit_code == 0


def test_a_link_to_a_secret_shows_nothing_of_it(dataset: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2 " * 1000)
    for name in ("manifest.json", "build-log.json", last_shard(read_manifest(dataset))["path"], "tokenizer.json"):
        copy = shutil.copytree(dataset, tmp_path / name.replace("/", "-"))
        (copy / name).unlink()
        (copy / name).symlink_to(secret)
        for command in (["inspect"], ["verify", "--quick"], ["cat", "--step", "0"]):
            outcome = CliRunner().invoke(main, [command[0], str(copy), *command[1:]])
            assert "hunter2" not in outcome.stdout + outcome.stderr


def test_a_device_without_an_end_is_not_read(dataset: Path) -> None:
    """As a user runs it, with an end to its memory."""
    put(dataset / "manifest.json", "device")
    outcome = run_limited("inspect", str(dataset))
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert "is a device, expected a file" in outcome.stderr


def test_a_file_above_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.touch()
    os.truncate(path, 1 << 40)  # without a block of its own
    with pytest.raises(DataError, match=r"1,099,511,627,776 bytes, expected 268,435,456 at most"):
        read_regular(path)
    path.write_bytes(b"12345")
    assert read_regular(path, 5) == b"12345"
    with pytest.raises(DataError, match="5 bytes, expected 4 at most"):
        read_regular(path, 4)


def test_folders_nested_by_the_thousand_are_counted(dataset: Path) -> None:
    """By recursion, `inspect` would end in a traceback; here sixty are enough, for folders that others can remove."""
    before = summarize(dataset).bytes_on_disk
    inside = dataset.joinpath(*["a"] * 60)
    inside.mkdir(parents=True)
    (inside / "file").write_bytes(b"12345")
    depth, limit = len(inspect.stack()), sys.getrecursionlimit()
    sys.setrecursionlimit(depth + 50)
    try:
        assert _bytes_below(dataset) == before + 5
    finally:
        sys.setrecursionlimit(limit)
