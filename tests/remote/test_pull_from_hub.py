"""pull from dataset repositories: olah gives them out over the Hub's API, without any stub."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from curriculum.errors import BuildError, DataError
from pipeline.files.retries import Patience
from remote.hub_clients import place
from remote.hub_server import HubServer, Repository
from remote.hub_stub import pointer
from remote.reading_process import ROOT
from remote.stalling_proxy import StallingProxy
from travels import flip, pull, travelling

pytest.importorskip("huggingface_hub")


@pytest.fixture(scope="module")
def repository(hub: HubServer, few_shards: Path) -> Repository:
    """A dataset at the root, and one in a folder."""
    made = hub.repository("datasets", "org/pulled")
    shutil.copytree(few_shards, made.tree, dirs_exist_ok=True)
    shutil.copytree(few_shards, made.tree / "sub" / "a[1]")
    made.commit()
    return made


def test_a_branch_that_moves_is_pulled_as_it_was(
    hub: HubServer, repository: Repository, few_shards: Path, tmp_path: Path
) -> None:
    """The commit is taken once: shards of two datasets never meet."""
    head = repository.head()
    there = place(hub.endpoint, "hf://datasets/org/pulled", token=False)
    sizes = there.sizes()
    assert there.where == f"hf://datasets/org/pulled@{head}"
    shutil.rmtree(repository.tree / "phases")
    repository.commit()
    try:
        there.fetch({name: sizes[name] for name in sizes if name.startswith("phases/")}, tmp_path / "out", _nobody)
        pull(there, tmp_path / "all")
        with pytest.raises(DataError, match="is not there"):
            pull(place(hub.endpoint, "hf://datasets/org/pulled", token=False), tmp_path / "later")
    finally:
        repository.git("reset", "--quiet", "--hard", head)
    assert travelling(tmp_path / "all") == travelling(few_shards)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"phases"}


def test_a_folder_whose_name_is_a_pattern(
    hub: HubServer, repository: Repository, few_shards: Path, tmp_path: Path
) -> None:
    """`[1]` matches `1` for the library; progress is told every byte once."""
    there = place(hub.endpoint, f"hf://datasets/org/pulled@{repository.head()}/sub/a[1]", token=False)
    assert there.sizes().keys() == {*travelling(few_shards), "build-log.json"}
    told: list[int] = []
    there.fetch(there.sizes(), tmp_path / "out", told.append)
    assert sum(told) == sum(there.sizes().values())
    assert len(told) > 1
    there.fetch(there.sizes(), tmp_path / "out", told.append)
    assert travelling(tmp_path / "out") == travelling(few_shards)


def test_broken_shards_are_found(hub: HubServer, few_shards: Path, tmp_path: Path) -> None:
    broken = hub.repository("datasets", "org/broken")
    shutil.copytree(few_shards, broken.tree, dirs_exist_ok=True)
    shard = next((broken.tree / "phases").rglob("*.arrow"))
    flip(shard)
    broken.commit()
    with pytest.raises(DataError, match=f"the sha256 is never that of the manifest: .*{shard.name}"):
        pull(place(hub.endpoint, "hf://datasets/org/broken", token=False), tmp_path / "out")


def test_what_is_larger_than_announced_is_refused(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pointer says 5 kB, megabytes come: the disk is not filled, and nothing of it stays."""
    monkeypatch.setattr("pipeline.sharing.hub_download.SLACK_BYTES", 1 << 20)
    lying = hub.repository("datasets", "org/lying")
    oid = "ab" * 32
    (lying.tree / "big.arrow").write_bytes(pointer(oid, 5_000))
    lying.commit()
    stored = lying.tree / ".git" / "lfs" / "objects" / "ab" / "ab" / oid
    stored.parent.mkdir(parents=True)
    for size, said in ((4_000_000, "more bytes arrive than the 5,000 that were announced"), (6_000, "has 6,000 bytes")):
        stored.write_bytes(bytes(size))
        there = place(hub.endpoint, "hf://datasets/org/lying", token=False)
        assert there.sizes() == {"big.arrow": 5_000}
        with pytest.raises(DataError, match=said):
            there.fetch(there.sizes(), tmp_path, _nobody)
        assert not list(tmp_path.rglob("big.arrow"))


def test_what_is_not_there(hub: HubServer, repository: Repository, tmp_path: Path) -> None:
    """One sentence that says what to correct."""
    with pytest.raises(BuildError, match="the Hub has nothing of that name, or it is private and nobody is logged in"):
        pull(place(hub.endpoint, "hf://datasets/org/nothing", token=False), tmp_path / "out")
    with pytest.raises(BuildError, match="nothing of that name"):
        pull(place(hub.endpoint, "hf://datasets/org/pulled@v9", token=False), tmp_path / "out")
    there = place(hub.endpoint, "hf://datasets/org/pulled", token=False)
    with pytest.raises(DataError, match=r"has no file phases/none\.arrow"):
        there.fetch({"phases/none.arrow": 5}, tmp_path / "out", _nobody)
    with pytest.raises(DataError, match=r"manifest\.json has .* bytes, at most 10 are read"):
        there.read("manifest.json", 10)
    assert there.read("none.json", 10) is None
    with pytest.raises(DataError, match="not a curriculum dataset, it has no manifest"):
        pull(place(hub.endpoint, "hf://datasets/org/pulled/sub", token=False), tmp_path / "out")


def test_nobody_answers(tmp_path: Path) -> None:
    """Given up after the patience of first contact, with what happened."""
    impatient = Patience(seconds=0.05, first_pause=0.01)
    with pytest.raises(BuildError, match=r"hf://datasets/org/x: cannot be read: tried for .* Connect"):
        pull(place("http://127.0.0.1:1", "hf://datasets/org/x", token=False, patience=impatient), tmp_path / "out")


def test_a_killed_pull_goes_on(hub: HubServer, repository: Repository, few_shards: Path, tmp_path: Path) -> None:
    """What had arrived whole is not fetched again."""
    proxy = StallingProxy(hub.proxy.port)
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{proxy.port}",
        "HF_HOME": str(tmp_path / "hf"),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "pipeline.cli", "pull", "hf://datasets/org/pulled", str(tmp_path / "out")]
    command += ["--workers", "1"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("out/.pull/files/**/shard-*.arrow")) and time.monotonic() < deadline:
            time.sleep(0.005)
        proxy.pass_bytes = 0  # nothing more comes
        process.send_signal(signal.SIGKILL)
    proxy.close()
    arrived = {path.name for path in tmp_path.glob("out/.pull/files/**/shard-*.arrow")}
    assert arrived
    assert not (tmp_path / "out" / "manifest.json").exists()
    before = sum("/resolve/" in path and path.endswith(".arrow") for path in hub.proxy.paths)
    pull(place(hub.endpoint, "hf://datasets/org/pulled", token=False), tmp_path / "out")
    fetched = sum("/resolve/" in path and path.endswith(".arrow") for path in hub.proxy.paths) - before
    assert travelling(tmp_path / "out") == travelling(few_shards)
    num_shards = len(list(few_shards.rglob("*.arrow")))
    assert fetched <= num_shards - len(arrived)


def _nobody(amount: int) -> None:
    pass
