"""Datasets to and from a real object store: the same files, through dropped connections, kills and a full bucket."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import curriculum
import pipeline.files.lease as lease
from curriculum.errors import BuildError, DataError
from curriculum.manifest import load_manifest
from pipeline.files.lease import Pace
from pipeline.files.storage_options import storage_options
from pipeline.sharing.contents import shards_of
from pipeline.sharing.store_place import StorePlace
from remote.cutting_proxy import CuttingProxy
from remote.stalling_proxy import StallingProxy
from remote.swift_server import SwiftServer, installed
from still_clock import StillClock
from travels import content, pull, push, travelling

s3fs = pytest.importorskip("s3fs")
INSTALLS = installed
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def client(swift: SwiftServer) -> Any:
    client = s3fs.S3FileSystem(**swift.options, skip_instance_cache=True)
    client.mkdir("shared")
    return client


@pytest.fixture(autouse=True)
def quick_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "PACE", StillClock().pace())


@pytest.fixture
def place(client: Any, swift: SwiftServer, request: pytest.FixtureRequest) -> StorePlace:
    """A prefix of its own for each test."""
    name = "".join(each if each.isalnum() else "-" for each in request.node.name)
    return StorePlace(f"s3://shared/{name}", storage_options(swift.options))


def through(place: StorePlace, swift: SwiftServer, port: int) -> StorePlace:
    """The same place, asked through a proxy."""
    return StorePlace(place.where, storage_options(swift.options_at(port)))


def at(place: StorePlace, client: Any) -> dict[str, bytes]:
    """Every object of a place, by the client of the store."""
    client.invalidate_cache()
    start = place.where.removeprefix("s3://")
    return {name.removeprefix(f"{start}/"): client.cat_file(name) for name in client.find(start)}


def test_there_and_back(
    tiny: Path, longer: Path, place: StorePlace, client: Any, swift: SwiftServer, tmp_path: Path
) -> None:
    """Only what is missing moves, both ways; trainers read from there; an extension adds what is new."""
    assert push(tiny, place, steps="0-3").complete is False
    push(tiny, place)
    assert at(place, client) == travelling(tiny)
    assert push(tiny, place).files == ()
    np.testing.assert_array_equal(
        curriculum.open(place.where, storage_options=swift.options)[15].tokens, curriculum.open(tiny)[15].tokens
    )
    pull(place, tmp_path, phases="0")
    np.testing.assert_array_equal(curriculum.open(tmp_path)[0].tokens, curriculum.open(tiny)[0].tokens)
    pull(place, tmp_path)
    assert content(tmp_path) == travelling(tiny)
    parents = {shard.path for shard in shards_of(load_manifest(tiny))}
    moved = [push(longer, place), pull(place, tmp_path)]
    for each in moved:
        assert parents.isdisjoint(file.name for file in each.files)
    assert at(place, client) == content(tmp_path) == travelling(longer)
    with pytest.raises(BuildError, match="an extension of"):
        push(tiny, place)


def test_compressed(tiny: Path, place: StorePlace, swift: SwiftServer, tmp_path: Path) -> None:
    """Read in place they are refused by what they are; pulled they are plain."""
    push(tiny, place, compress=True)
    with pytest.raises(DataError, match=r"only as .zst, because the dataset was pushed with --compress"):
        _ = curriculum.open(place.where, storage_options=swift.options)[0]
    pull(place, tmp_path)
    assert content(tmp_path) == travelling(tiny)


def test_connections_cut_in_the_middle(
    long_dataset: Path, place: StorePlace, client: Any, swift: SwiftServer, tmp_path: Path
) -> None:
    """Of an object of 2.6 MB, sent and fetched: each time at another byte, at last it passes, and is right."""
    for run in (lambda cut: push(long_dataset, cut), lambda cut: pull(cut, tmp_path)):
        proxy = CuttingProxy(swift.port, cuts=[300, 700, 5_000, 120_000, 1_000_000, 2_500_000])
        try:
            run(through(place, swift, proxy.port))
        finally:
            proxy.close()
        assert proxy.cuts == []
        assert proxy.num_cut >= 5
    assert at(place, client) == content(tmp_path) == travelling(long_dataset)


def curriculum_command(swift: SwiftServer, port: int, *arguments: str) -> subprocess.Popen[str]:
    """A command in a process of its own, with the store behind a port."""
    options = json.dumps(swift.options_at(port)["client_kwargs"]["region_name"])
    settings = [f"client_kwargs.region_name={options}", f"endpoint_url=http://127.0.0.1:{port}"]
    settings += ["key=test:tester", "secret=testing"]
    flags = [part for setting in settings for part in ("--storage-option", setting)]
    command = [sys.executable, "-m", "pipeline.cli", *arguments, *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("direction", ["push", "pull"])
def test_killed_in_the_middle(
    long_dataset: Path, place: StorePlace, client: Any, swift: SwiftServer, tmp_path: Path, direction: str
) -> None:
    """Neither the store nor the folder shows a dataset then; the same command goes on, and says what it moved."""
    ends = [str(long_dataset), place.where] if direction == "push" else [place.where, str(tmp_path / "back")]
    if direction == "pull":
        push(long_dataset, place)
    proxy = StallingProxy(swift.port)
    proxy.pass_bytes = 800_000 if direction == "pull" else 3_000  # of answers: a push gets few
    try:
        child = curriculum_command(swift, proxy.port, direction, *ends)
        deadline = time.monotonic() + 60
        while proxy.pass_bytes >= 0 and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        assert child.returncode == -signal.SIGKILL
    finally:
        proxy.close()
    found = at(place, client) if direction == "push" else content(tmp_path / "back")
    assert "manifest.json" not in found
    child = curriculum_command(swift, swift.port, direction, *ends, "--json")
    out, err = child.communicate(timeout=120)
    assert child.returncode == 0, err
    assert json.loads(out)["complete"] is True
    found = at(place, client) if direction == "push" else content(tmp_path / "back")
    assert found == travelling(long_dataset)


def test_a_full_bucket(tiny: Path, client: Any, swift: SwiftServer) -> None:
    """One sentence, at once; with room again the same command ends what it began."""
    client.mkdir("narrow")
    place = StorePlace("s3://narrow/ds", storage_options(swift.options))
    swift.limit("narrow", 4_000)
    with pytest.raises(BuildError, match=r"the store is full, a quota is used up.*run the same command again"):
        push(tiny, place)
    assert "manifest.json" not in at(place, client)
    swift.limit("narrow", None)
    push(tiny, place)
    assert at(place, client) == travelling(tiny)


def test_a_wrong_secret_and_a_missing_bucket(tiny: Path, place: StorePlace, swift: SwiftServer, tmp_path: Path) -> None:
    """Refused in a sentence that does not repeat the secret."""
    wrong = StorePlace(place.where, storage_options({**swift.options, "secret": "hunter2hunter2"}))
    for run in (lambda: push(tiny, wrong), lambda: pull(wrong, tmp_path / "x")):
        with pytest.raises(BuildError, match="refuses access") as refused:
            run()
        assert "hunter2" not in str(refused.value)
    with pytest.raises(BuildError, match="no such"):
        push(tiny, StorePlace("s3://no-such-bucket/ds", storage_options(swift.options)))
    with pytest.raises(DataError, match=r"not a curriculum dataset, it has no manifest\.json"):
        pull(place, tmp_path / "x")


SLEEPING = """
import json, os, signal, sys, time
from pathlib import Path
import pipeline.files.lease as lease
from pipeline.files.storage_options import storage_options
from pipeline.sharing.store_place import StorePlace
from travels import push

class Sleeping(StorePlace):
    def send(self, names, folder, advance):
        if names[0].startswith(sys.argv[4]):
            os.kill(os.getpid(), signal.SIGSTOP)
        super().send(names, folder, advance)

def clock():
    return time.monotonic() + (3600 if Path(sys.argv[5]).exists() else 0)

lease.PACE = lease.Pace(renew=0.01, settle=0.05, clock=clock)  # it will be stopped while it renews its lease
place = Sleeping(sys.argv[2], storage_options(json.loads(sys.argv[3])))
try:
    push(Path(sys.argv[1]), place, overwrite=True)
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.mark.parametrize("before", ["phases/", "manifest.json"])
def test_a_push_that_slept_and_was_overtaken(
    tiny: Path,
    other: Path,
    place: StorePlace,
    client: Any,
    swift: SwiftServer,
    tmp_path: Path,
    before: str,
) -> None:
    """A laptop that was closed in the middle: what another one has pushed meanwhile is not touched any more."""
    morning = tmp_path / "morning"
    command = [sys.executable, "-c", SLEEPING, str(other), place.where, json.dumps(swift.options), before, str(morning)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    child = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert os.WIFSTOPPED(os.waitpid(child.pid, os.WUNTRACED)[1])
        push(tiny, place, overwrite=True)
        morning.touch()
    finally:
        child.send_signal(signal.SIGCONT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 1
    assert f"BuildError: {place.where}: another build or push has taken this place (unknown), because for" in err
    there = at(place, client)
    there.pop(lease.LEASE_NAME, None)  # if it slept in the middle of a renewal: the next one sees that it is dead
    assert there == travelling(tiny)


def test_two_pushes_at_once(
    tiny: Path, other: Path, place: StorePlace, client: Any, swift: SwiftServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two jobs of one script: the second is refused, and the first is whole."""
    monkeypatch.setattr(lease, "PACE", Pace(renew=0.2, settle=0.05))
    with place.held():
        child = curriculum_command(swift, swift.port, "push", str(other), place.where, "--overwrite")
        assert f"{place.where}: another build or push is writing there" in child.communicate(timeout=60)[1]
        assert child.returncode == 1
    push(tiny, place)
    assert at(place, client) == travelling(tiny)
