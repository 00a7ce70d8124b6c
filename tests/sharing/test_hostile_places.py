"""A place that lies: nothing leaves the folder, nothing fills the disk, nothing is believed."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from curriculum.errors import BuildError, CurriculumError, DataError
from curriculum.manifest import canonical_json, content_id, load_manifest
from pipeline.progress import Advance
from pipeline.sharing.contents import shards_of
from pipeline.sharing.folder_place import FolderPlace
from remote.http_store import HttpStore, files_of
from travels import Broken, content, pull, push, travelling


def forge(place: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Rewrite the manifest of a place, with an id that fits."""
    value = json.loads((place / "manifest.json").read_bytes())
    change(value)
    value["id"] = content_id({key: each for key, each in value.items() if key != "id"})
    (place / "manifest.json").write_bytes(canonical_json(value))


PATHS = (
    "../escaped.arrow",
    "/tmp/escaped.arrow",
    "phases/../../escaped.arrow",
    "phases\\..\\escaped.arrow",
    "manifest.json",
    "tokenizer.json",
    "README.md",
    ".pull/manifest.json",
    ".git/hooks/post-checkout",
    ".bashrc",
    "phases",
    "phases/x.sh",
    "elsewhere/x.arrow",
)


@pytest.mark.parametrize("path", PATHS)
def test_paths_that_no_build_writes(tiny: Path, tmp_path: Path, path: str) -> None:
    """Refused before the folder is made."""
    there = tmp_path / "there"
    shutil.copytree(tiny, there)
    forge(there, lambda value: value["phases"][1]["shards"][0].update(path=path))
    with pytest.raises(DataError, match=r"(?i)do not trust"):
        pull(there, tmp_path / "back")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["there"]


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("phases/a.arrow", "phases/a.arrow", "two shards"),
        ("phases/a.arrow", "phases/A.arrow", "two shards"),
        ("phases/a.arrow", "phases/a.arrow/b.arrow", "expected the name of a shard"),
        ("phases/A.arrow/b.arrow", "phases/a.arrow", "expected the name of a shard"),
    ],
)
def test_two_shards_in_one_place(tiny: Path, tmp_path: Path, first: str, second: str, said: str) -> None:
    """One would be overwritten by the other, or be where its folder should be."""
    there = tmp_path / "there"
    shutil.copytree(tiny, there)

    def change(value: dict[str, Any]) -> None:
        value["phases"][0]["shards"][0]["path"] = first
        value["phases"][1]["shards"][0]["path"] = second

    forge(there, change)
    with pytest.raises(DataError, match=f"{said}|twice"):
        pull(there, tmp_path / "back")


class Lying(FolderPlace):
    """Says of every file what is wanted to be heard, and sends more."""

    def __init__(self, folder: Path, claims: Mapping[str, int]) -> None:
        super().__init__(folder)
        self.claims = claims

    def sizes(self) -> dict[str, int]:
        return {**super().sizes(), **self.claims}


def test_a_file_that_does_not_end(tiny: Path, tmp_path: Path) -> None:
    """Not one byte more than was said is written: a terabyte would fill the disk before its digest is looked at."""
    there = tmp_path / "there"
    push(tiny, there)
    shard = shards_of(load_manifest(tiny))[0]
    os.truncate(there / shard.path, 1 << 40)  # sparse
    with pytest.raises(DataError, match=f"{shard.path}: had .* bytes and changed"):
        pull(Lying(there, {shard.path: shard.num_bytes}), tmp_path / "back")
    assert sum(map(len, content(tmp_path / "back").values())) < 1 << 20


@pytest.mark.parametrize("name", ["manifest.json", "manifest.json.sig", "tokenizer.json"])
def test_small_files_that_are_not_small(tiny: Path, tmp_path: Path, name: str) -> None:
    """Read into memory, so at most what they may have."""
    there = tmp_path / "there"
    push(tiny, there)
    (there / name).touch()
    os.truncate(there / name, 1 << 40)
    with pytest.raises(DataError, match=r"Do not trust it|more than"):
        pull(there, tmp_path / "back")


def test_a_pipe_in_place_of_a_file(tiny: Path, tmp_path: Path) -> None:
    """It would be waited for, for ever."""
    there = tmp_path / "there"
    push(tiny, there)
    shard = shards_of(load_manifest(tiny))[0].path
    (there / shard).unlink()
    os.mkfifo(there / shard)
    with pytest.raises(DataError, match="is not there"):
        pull(there, tmp_path / "back")
    (there / "manifest.json").unlink()
    os.mkfifo(there / "manifest.json")
    with pytest.raises(CurriculumError):
        pull(there, tmp_path / "other")


class Changing(FolderPlace):
    """Fetches damaged bytes the first so many times."""

    def __init__(self, folder: Path, times: int) -> None:
        super().__init__(folder)
        self.times = times
        self.fetched: list[str] = []

    def fetch(self, sizes: Mapping[str, int], folder: Path, advance: Advance) -> None:
        super().fetch(sizes, folder, advance)
        self.fetched += sizes
        if self.times:
            self.times -= 1
            for name in sizes:
                (folder / name).write_bytes(bytes(sizes[name]))


def test_what_was_damaged_on_the_way_is_fetched_again(tiny: Path, tmp_path: Path) -> None:
    """Twice; then it is damaged there."""
    pull(Changing(tiny, times=2), tmp_path / "back")
    assert content(tmp_path / "back") == travelling(tiny)
    with pytest.raises(DataError, match="fetched 3 times, the sha256 is never that of the manifest") as refused:
        pull(Changing(tiny, times=3), tmp_path / "other")
    assert "more" in str(refused.value)


def test_nothing_but_what_the_manifest_names_is_asked_for(tiny: Path, tmp_path: Path) -> None:
    """Whatever else lies there."""
    there = tmp_path / "there"
    push(tiny, there)
    (there / "phases" / "extra.arrow").write_bytes(b"x" * 1000)
    place = Changing(there, times=0)
    pull(place, tmp_path / "back")
    assert sorted(place.fetched) == sorted(shard.path for shard in shards_of(load_manifest(tiny)))
    assert content(tmp_path / "back") == travelling(tiny)


def test_a_store_that_sends_more_than_was_asked(tiny: Path, tmp_path: Path) -> None:
    """Any web server with the right listing would do; ours ignores ranges."""

    class Greedy(FolderPlace):
        def fetch(self, sizes: Mapping[str, int], folder: Path, advance: Advance) -> None:
            super().fetch(sizes, folder, advance)
            for name in sizes:
                os.truncate(folder / name, sizes[name] + 1)

    with pytest.raises(DataError, match="never that of the manifest"):
        pull(Greedy(tiny), tmp_path / "back")
    assert not any(name.endswith(".arrow") for name in content(tmp_path / "back"))


def test_a_place_that_fails_at_any_file(tiny: Path, tmp_path: Path) -> None:
    """The order is kept: nobody finds a manifest before what it names; the next run goes on."""
    shards = {shard.path for shard in shards_of(load_manifest(tiny))}
    for after in range(len(shards) + 3):
        there, back = tmp_path / f"there{after}", tmp_path / f"back{after}"
        with pytest.raises(BuildError, match="the network is gone"):
            push(tiny, Broken(there, after))
        found = content(there)
        assert "manifest.json" not in found
        assert all(data == (tiny / name).read_bytes() for name, data in found.items() if name != ".push.json")
        moved = push(tiny, there)
        assert shards - set(found) == {file.name for file in moved.files if file.phase is not None}
        assert content(there) == travelling(tiny)
        if after < len(shards):
            with pytest.raises(BuildError, match="the network is gone"):
                pull(Broken(tiny, after), back)
            assert "manifest.json" not in content(back)
        pull(tiny, back)
        assert content(back) == travelling(tiny)


def test_from_a_web_server_that_lists_nothing(tiny: Path, tmp_path: Path) -> None:
    """Not "pushed in part": it cannot be told."""
    store = HttpStore(files_of(tiny))
    try:
        with pytest.raises(DataError, match="no list of files, as of a web server without an index"):
            pull(store.url, tmp_path / "back")
    finally:
        store.close()
    assert not (tmp_path / "back").exists()


def test_from_a_web_server_with_an_index(tiny: Path, tmp_path: Path) -> None:
    """Whoever has a folder and Python can share: the index tells no sizes, so they are asked for."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    push(tiny, tmp_path / "there")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "there")))
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    serving.start()
    try:
        pull(f"http://127.0.0.1:{server.server_address[1]}", tmp_path / "back")
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
    assert content(tmp_path / "back") == travelling(tiny)


@pytest.mark.parametrize("name", ["README.md", "schedule.svg", "tokenizer.json"])
def test_a_sparse_file_in_a_folder_takes_no_memory(tiny: Path, tmp_path: Path, name: str) -> None:
    """20 GB that take no room on a disk: a push would read them whole, or send them for hours."""
    folder = shutil.copytree(tiny, tmp_path / "theirs")
    os.truncate(folder / name, 20 << 30)
    with pytest.raises(DataError, match=f"{name}: .*21,474,836,480 bytes, expected [0-9,]+ at most"):
        push(folder, tmp_path / "there")
    assert not (tmp_path / "there" / "manifest.json").exists()


@pytest.mark.parametrize("name", ["README.md", "schedule.svg", "manifest.json.sig", "build-log.json"])
def test_links_in_a_folder_send_no_secret(tiny: Path, tmp_path: Path, name: str) -> None:
    """Somebody pushes on what a stranger gave him as a folder: these files have no digest, so no link is followed."""
    here, secret = tmp_path / "here", tmp_path / "id_ed25519"
    shutil.copytree(tiny, here)
    secret.write_text("-----BEGIN OPENSSH PRIVATE KEY-----")
    (here / name).unlink(missing_ok=True)
    (here / name).symlink_to(secret)
    if name == "build-log.json":
        with pytest.raises(DataError, match=r"build-log\.json: is not there, or a link"):
            push(here, tmp_path / "there", build_log=True)
    else:
        push(here, tmp_path / "there")
    for path in (tmp_path / "there").rglob("*"):
        assert path.is_dir() or b"PRIVATE KEY" not in path.read_bytes()
    if name in ("README.md", "schedule.svg"):
        assert (tmp_path / "there" / name).read_bytes() == (tiny / name).read_bytes()
