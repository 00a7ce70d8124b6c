"""A build whose token store and dataset lie in a real object store: the same bytes as on a disk, whatever happens."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import pipeline.files.lease
from curriculum.errors import BuildError
from new_text import grow, new_texts, write_texts
from pipeline.cli import main
from pipeline.extend import extend
from pipeline.files.address import dataset_files
from pipeline.files.lease import LEASE_NAME, Pace
from pipeline.files.storage_options import storage_options
from pipeline.longer_plan import Extent
from pipeline.option_sources import load_options
from pipeline.progress import Silent
from remote.store_build import FEW, At, build_few, files_below, objects_below, write_corpus
from remote.swift_server import WRITER_SECRET, SwiftServer, installed

s3fs = pytest.importorskip("s3fs")
INSTALLS = installed
ROOT = Path(__file__).parents[2]
QUICK = Pace(renew=2.0, watch=8.0, settle=0.2)


@pytest.fixture(scope="module")
def client(swift: SwiftServer) -> Any:
    client = s3fs.S3FileSystem(**swift.options, skip_instance_cache=True)
    client.mkdir("built")
    return client


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("texts") / "corpus")


@pytest.fixture(scope="module")
def local(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same build on a disk; its store lies beside it."""
    out = tmp_path_factory.mktemp("local") / "ds"
    build_few(corpus, out, {})
    return out


@pytest.fixture(autouse=True)
def quick_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.files.lease, "PACE", QUICK)


def assert_equal(client: Any, prefix: str, local: Path) -> None:
    """Every object of dataset and store, and none besides."""
    assert objects_below(client, prefix) == files_below(local)
    assert objects_below(client, f"{prefix}.store") == files_below(local.with_name("ds.store"))


@pytest.mark.parametrize("stage", ["encode", "cut"])
def test_a_server_that_is_killed_and_restarted_changes_nothing(
    swift: SwiftServer, client: Any, corpus: Path, local: Path, stage: str
) -> None:
    """An outage of a few seconds in the middle of each stage; objects equal those of a local build byte for byte."""
    restarts = []

    def outage() -> None:
        swift.kill()
        restarts.append(threading.Timer(2.0, swift.start))
        restarts[0].start()

    progress = At(stage, outage)
    build_few(corpus, f"s3://built/{stage}", swift.options, progress)
    restarts[0].join()
    assert progress.has_acted
    assert_equal(client, f"built/{stage}", local)
    if stage == "cut":
        assert build_few(corpus, f"s3://built/{stage}", swift.options).already_finished


def test_a_build_that_was_killed_is_continued(
    swift: SwiftServer, client: Any, corpus: Path, local: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """kill -9 after the first window, by the command line; the next run need not wait for the lease of a dead process.

    Nothing that was written or said holds the secret."""
    config = tmp_path / "few.toml"
    config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in FEW.items()))
    options = {**swift.writer_options, "client_kwargs.region_name": "us-east-1"}
    flags = [f"--storage-option={name}={value}" for name, value in options.items() if name != "client_kwargs"]
    command = ["build", str(corpus), "--config", str(config), "--out", "s3://built/killed", *flags]
    run = [sys.executable, "-m", "pipeline.cli", *command]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(run, env=environment, cwd=tmp_path, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not client.exists("built/killed/.build/windows/000000.json"):
        assert process.poll() is None
        assert time.monotonic() < deadline
        client.invalidate_cache()
    process.send_signal(signal.SIGKILL)
    _, said = process.communicate()
    assert f"killed/{LEASE_NAME}" in " ".join(client.find("built/killed"))
    assert not client.exists("built/killed/manifest.json")
    began = time.monotonic()
    main([*command, "--json"], standalone_mode=False)
    assert time.monotonic() - began < 30
    assert_equal(client, "built/killed", local)
    out, err = capfd.readouterr()
    assert json.loads(out)["dataset"] == "s3://built/killed"
    for look in (["inspect"], ["cat", "--step", "1", "--limit", "1"]):
        main([*look, "s3://built/killed", *flags, "--json"], standalone_mode=False)
        assert json.loads(capfd.readouterr().out)
    written = [*objects_below(client, "built/killed").values(), *objects_below(client, "built/killed.store").values()]
    written += [client.cat_file("built/killed/build-log.json"), said, out.encode(), err.encode()]
    assert not any(WRITER_SECRET.encode() in data for data in written)


def test_a_dataset_in_a_store_goes_on_with_new_text(
    swift: SwiftServer, client: Any, corpus: Path, local: Path, tmp_path: Path
) -> None:
    """Dataset, token store and the new text are objects; an outage in the middle. The same bytes as on a disk."""
    new = write_texts(tmp_path / "n.jsonl", new_texts())
    client.put_file(str(new), "built/new/n.jsonl")
    build_few(corpus, "s3://built/grown", swift.options)

    def outage() -> None:
        swift.kill()
        threading.Timer(2.0, swift.start).start()

    progress = At("cut", outage)
    own: dict[str, Any] = {"out": "s3://built/grown", "source": ("new=s3://built/new",), "workers": 1}
    options = {**own, "storage_option": storage_options(swift.options), "backend": "tokenizers"}
    extend(load_options(None, options), Extent(steps=20), progress)
    assert progress.has_acted
    shutil.copytree(local, tmp_path / "ds")
    grow(tmp_path / "ds", f"new={new}", steps=20, store=tmp_path / "store")
    assert objects_below(client, "built/grown") == files_below(tmp_path / "ds")
    assert extend(load_options(None, options), Extent(steps=20), Silent()).already_finished


def test_a_full_quota_ends_in_a_sentence_and_is_continued_when_it_is_raised(
    swift: SwiftServer, client: Any, corpus: Path, local: Path
) -> None:
    client.mkdir("small")
    swift.limit("small", 300_000)
    wanted = r"s3://small/q\S+: cannot be written: the store is full, a quota .*Free space or raise the quota"
    with pytest.raises(BuildError, match=wanted):
        build_few(corpus, "s3://small/q", swift.options)
    assert not client.exists(f"small/q/{LEASE_NAME}")
    swift.limit("small", None)
    build_few(corpus, "s3://small/q", swift.options)
    assert_equal(client, "small/q", local)


def test_what_cannot_work_is_said_before_anything_is_read(swift: SwiftServer, client: Any, tmp_path: Path) -> None:
    """A wrong secret, a bucket that is not there: one sentence within seconds, and the secret is not in it."""
    corpus = write_corpus(tmp_path / "corpus")
    wrong = {**swift.options, "secret": "not-the-secret"}
    unread = At("encode", lambda: pytest.fail("text was read"))
    with pytest.raises(BuildError, match=r"s3://built/w.*: the store refuses access .*--storage-option") as refused:
        build_few(corpus, "s3://built/w", wrong, unread)
    assert "not-the-secret" not in str(refused.value)
    with pytest.raises(BuildError, match=r"s3://nobody/w.*: the store has no such bucket .*Create the bucket"):
        build_few(corpus, "s3://nobody/w", swift.options, unread)


def test_two_builds_do_not_share_an_address(swift: SwiftServer, client: Any, corpus: Path) -> None:
    """The first one renews its lease, so the second sees it move; foreign objects are never touched."""
    options = storage_options(swift.options)
    refused = pytest.raises(
        BuildError, match=r"s3://built/twice: another build or push is writing there \(process \d+ on"
    )
    with dataset_files("s3://built/twice", options).held(), refused:
        build_few(corpus, "s3://built/twice", swift.options)
    assert client.find("built/twice", refresh=True) == []
    client.pipe_file("built/foreign/notes.txt", b"mine")
    with pytest.raises(BuildError, match=r"s3://built/foreign: holds 'notes.txt' and is not a curriculum dataset"):
        build_few(corpus, "s3://built/foreign", swift.options)
    assert objects_below(client, "built/foreign") == {"notes.txt": b"mine"}
