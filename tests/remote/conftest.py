"""Datasets large enough to be read in ranges, and stores that hold them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.build import BuildResult
from remote.http_store import HttpStore, files_of
from remote.hub_server import HubServer
from remote.hub_stub import HubStub
from remote.swift_server import SwiftServer

pytest.importorskip("aiohttp", reason="fsspec's http:// needs aiohttp, which s3fs brings: pip install s3fs")


@pytest.fixture(scope="session")
def long_dataset(build_small: Callable[..., BuildResult], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One phase of rows of 1,024: a shard of 2.6 MB, 20 steps of 64 rows, 131,200 bytes each; treat it as read-only."""
    out = tmp_path_factory.mktemp("long") / "dataset"
    options: dict[str, Any] = {"start_length": 1024, "max_length": 1024, "batch_rows": 64, "steps": 20, "epochs": 8}
    build_small(out, **options, shard_bytes=64 << 20, shuffle_window=4 << 20)
    return out


@pytest.fixture(scope="session")
def few_shards(build_small: Callable[..., BuildResult], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four phases of a shard each, and one of held-out rows: a request for each is no wait; read-only."""
    out = tmp_path_factory.mktemp("few") / "dataset"
    options: dict[str, Any] = {"max_length": 32, "multiple_of": 8, "steps": 100, "validation_tokens": 2_000}
    build_small(out, **options, shard_bytes=64 << 10, shuffle_window=4 << 20)
    return out


@pytest.fixture(scope="session")
def swift() -> Iterator[SwiftServer]:
    """One store for all tests of s3://, which have buckets of their own; on a disk, for Swift needs its attributes."""
    with tempfile.TemporaryDirectory() as folder:
        server = SwiftServer(Path(folder))
        yield server
        server.kill()


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """One Hub for all tests, which have repositories of their own."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    server = HubServer(tmp_path_factory.mktemp("hub"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def hub_writing(hub: HubServer) -> Iterator[HubStub]:
    """The same Hub, with the stub of its writing half before it."""
    stub = HubStub(hub)
    yield stub
    stub.close()


@pytest.fixture
def stub(hub_writing: HubStub, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStub]:
    """Without faults, and for clients of this process that do not try Xet."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    hub_writing.faults.clear()
    hub_writing.requests.clear()
    hub_writing.ignored.clear()
    yield hub_writing
    hub_writing.faults.clear()


@pytest.fixture
def http_store(long_dataset: Path) -> Iterator[HttpStore]:
    """A store with a copy of `long_dataset`, which the test may change."""
    store = HttpStore(files_of(long_dataset))
    yield store
    store.close()


@pytest.fixture
def small_store(small_dataset: Path) -> Iterator[HttpStore]:
    """A store with a copy of `small_dataset`: many small shards, and held-out rows."""
    store = HttpStore(files_of(small_dataset))
    yield store
    store.close()
