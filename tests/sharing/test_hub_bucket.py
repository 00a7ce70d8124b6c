"""Buckets of the Hub. No server of theirs can be had: a fake in this process stands in, so this proves our calls alone.

What it proves: which functions of the client are called with what, that the installed client takes such calls, and that
push and pull work with a place that answers as the client's documentation says.
"""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import pipeline.files.lease as lease
from curriculum.errors import BuildError, DataError
from pipeline.files.lease import LEASE_NAME, Pace
from pipeline.sharing.hub_address import hub_address
from pipeline.sharing.hub_bucket import HubBucket
from still_clock import StillClock
from travels import content, flip, pull, push, travelling

huggingface_hub = pytest.importorskip("huggingface_hub")


@dataclass(frozen=True)
class File:
    path: str
    size: int
    xet_hash: str = "0" * 64
    type: str = "file"


@dataclass
class FakeHub:
    """One bucket, in memory; every call is first fitted to the signature of the real one."""

    objects: dict[str, bytes] | None = None
    calls: list[str] = field(default_factory=list)
    private: bool | None = None
    failures: list[Exception] = field(default_factory=list)

    def _called(self, function: str, *args: Any, **kwargs: Any) -> dict[str, bytes]:
        inspect.signature(getattr(huggingface_hub.HfApi, function)).bind(self, *args, **kwargs)
        self.calls.append(function)
        if self.failures:
            raise self.failures.pop()
        assert args[0] == "org/bucket"
        if self.objects is None and function != "create_bucket":
            raise missing()
        return {} if self.objects is None else self.objects

    def create_bucket(self, *args: Any, **kwargs: Any) -> None:
        self._called("create_bucket", *args, **kwargs)
        if self.objects is None:
            self.objects, self.private = {}, kwargs["private"]
        assert kwargs["exist_ok"]

    def list_bucket_tree(self, *args: Any, **kwargs: Any) -> list[File]:
        objects = self._called("list_bucket_tree", *args, **kwargs)
        start = args[1] or ""
        return [File(path, len(data)) for path, data in objects.items() if path.startswith(start)]

    def get_bucket_paths_info(self, *args: Any, **kwargs: Any) -> list[File]:
        objects = self._called("get_bucket_paths_info", *args, **kwargs)
        return [File(path, len(objects[path])) for path in args[1] if path in objects]

    def batch_bucket_files(self, *args: Any, **kwargs: Any) -> None:
        objects = self._called("batch_bucket_files", *args, **kwargs)
        for source, path in kwargs.get("add", ()):
            objects[path] = source if isinstance(source, bytes) else Path(source).read_bytes()
        for path in kwargs.get("delete", ()):
            del objects[path]

    def download_bucket_files(self, *args: Any, **kwargs: Any) -> None:
        objects = self._called("download_bucket_files", *args, **kwargs)
        for file, target in args[1]:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(objects[file.path])


def missing() -> Exception:
    """What the client raises of a bucket that does not exist."""
    from huggingface_hub.utils import hf_raise_for_status, httpx

    request = httpx.Request("GET", "https://huggingface.co/api/buckets/org/bucket/tree")
    with pytest.raises(huggingface_hub.errors.BucketNotFoundError) as raised:
        hf_raise_for_status(httpx.Response(404, headers={"X-Error-Code": "RepoNotFound"}, request=request))
    return raised.value


@pytest.fixture(autouse=True)
def quick_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "PACE", StillClock().pace())


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub()
    monkeypatch.setattr("pipeline.sharing.hub_bucket.hub_api", lambda options: fake)
    return fake


def place(*, pushing: bool) -> HubBucket:
    return HubBucket(hub_address("hf://buckets/org/bucket/a"), pushing=pushing)


def test_what_is_pushed_is_pulled(hub: FakeHub, small_dataset: Path, tmp_path: Path) -> None:
    """A bucket that is missing is created; a neighbour with a name that begins alike is left alone."""
    pushed = push(small_dataset, place(pushing=True))
    assert pushed.where == "hf://buckets/org/bucket/a"
    assert hub.private is True
    assert hub.calls.count("create_bucket") == 1
    assert hub.objects is not None
    assert hub.objects == {f"a/{name}": data for name, data in travelling(small_dataset).items()}
    hub.objects["ab/manifest.json"] = b"{}"
    pull(place(pushing=False), tmp_path / "back")
    assert travelling(tmp_path / "back") == travelling(small_dataset)
    assert push(small_dataset, place(pushing=True)).files == ()


def test_a_missing_bucket_is_named(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="hf://buckets/org/bucket/a: cannot be read: the Hub has nothing of that name"):
        pull(place(pushing=False), tmp_path / "out")


def test_what_changed_meanwhile_is_refused(hub: FakeHub, small_dataset: Path, tmp_path: Path) -> None:
    """A bucket has no commits: sizes are compared before and after, digests by pull."""
    push(small_dataset, place(pushing=True))
    assert hub.objects is not None
    there = place(pushing=False)
    sizes = there.sizes()
    hub.objects["a/tokenizer.json"] += b" "
    with pytest.raises(DataError, match=r"tokenizer.json has .* bytes, and had"):
        there.fetch(sizes, tmp_path / "out", lambda _: None)
    del hub.objects["a/tokenizer.json"]
    with pytest.raises(DataError, match=r"tokenizer.json is not there, and had"):
        there.fetch(sizes, tmp_path / "out", lambda _: None)
    assert not list((tmp_path / "out").rglob("*.json"))
    with pytest.raises(DataError, match=r"manifest.json has .* bytes, at most 10 are read"):
        there.read("manifest.json", 10)
    there.remove(["README.md", "nothing"])
    assert "README.md" not in there.sizes()


def test_a_dropped_connection_is_tried_again(hub: FakeHub, small_dataset: Path) -> None:
    hub.failures.append(ConnectionResetError("reset"))
    push(small_dataset, place(pushing=True))
    assert hub.failures == []
    assert hub.calls[:2] == ["create_bucket", "create_bucket"]


def test_a_bucket_is_held_by_who_pushes_to_it(
    hub: FakeHub, tiny: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As any store, by a lease, which is no file of the dataset; who loses it sends and removes nothing more."""
    monkeypatch.setattr(lease, "PACE", Pace(renew=0.05, settle=0.0))
    push(tiny, place(pushing=True))
    there = place(pushing=True)
    with there.held():
        assert hub.objects is not None
        assert f"a/{LEASE_NAME}" in hub.objects
        assert there.sizes().keys() == travelling(tiny).keys()
        pull(place(pushing=False), tmp_path)
        with pytest.raises(BuildError, match="hf://buckets/org/bucket/a: another build or push is writing there"):
            push(other, place(pushing=True), overwrite=True)
    assert content(tmp_path) == travelling(tiny)
    before = dict(hub.objects)
    clock = StillClock()
    monkeypatch.setattr(lease, "PACE", clock.pace(renew=1_000))

    def lose(then: Callable[[], object]) -> None:
        with there.held():
            hub.batch_bucket_files("org/bucket", add=[(b'{"owner": "other"}', f"a/{LEASE_NAME}")])
            clock.now += 31
            then()

    for change in (lambda: there.send(["README.md"], other, lambda _: None), lambda: there.remove(["manifest.json"])):
        with pytest.raises(BuildError, match="another build or push has taken this place"):
            lose(change)
        assert hub.objects.pop(f"a/{LEASE_NAME}") == b'{"owner": "other"}'
    assert hub.objects == before


def test_a_lease_moves_on_while_a_batch_is_sent(hub: FakeHub, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gibibyte takes longer than another one would watch: he would take over from who is at work."""
    monkeypatch.setattr(lease, "PACE", Pace(renew=0.02, settle=0.0))
    send, counts = hub.batch_bucket_files, []

    def slow(name: str, **changes: Any) -> None:
        if any(path.endswith(".arrow") for _, path in changes.get("add", ())):
            assert hub.objects is not None
            for _ in range(2):
                counts.append(json.loads(hub.objects[f"a/{LEASE_NAME}"])["count"])
                time.sleep(0.5)
        send(name, **changes)

    monkeypatch.setattr(hub, "batch_bucket_files", slow)
    push(tiny, place(pushing=True))
    assert counts[1] > counts[0]


def test_a_shard_that_broke_in_the_bucket(hub: FakeHub, small_dataset: Path, tmp_path: Path) -> None:
    push(small_dataset, place(pushing=True))
    assert hub.objects is not None
    shard = next(path for path in hub.objects if path.endswith(".arrow"))
    (tmp_path / "shard").write_bytes(hub.objects[shard])
    flip(tmp_path / "shard")
    hub.objects[shard] = (tmp_path / "shard").read_bytes()
    with pytest.raises(DataError, match="the sha256 is never that of the manifest"):
        pull(place(pushing=False), tmp_path / "out")
