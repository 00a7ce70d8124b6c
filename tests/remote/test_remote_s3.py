"""s3:// against a real object store: equal batches, and everything that goes wrong there is named."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curriculum.errors import DataError
from curriculum.reader import Reader
from curriculum.remote import RemoteStorage
from remote.http_store import files_of
from remote.stalling_proxy import StallingProxy
from remote.swift_server import SwiftServer, installed

s3fs = pytest.importorskip("s3fs")
INSTALLS = installed

SHARD = "phases/00000-len0001024/shard-000000.arrow"


@pytest.fixture(scope="module")
def client(swift: SwiftServer) -> Any:
    return s3fs.S3FileSystem(**swift.options)


@pytest.fixture(scope="module")
def bucket(client: Any, long_dataset: Path) -> str:
    """Holds the dataset: treat it as read-only."""
    client.mkdir("datasets")
    client.pipe({f"datasets/long/{path}": data for path, data in files_of(long_dataset).items()})
    return "datasets"


@pytest.fixture
def copy(client: Any, bucket: str, long_dataset: Path, request: pytest.FixtureRequest) -> str:
    """A copy of the long dataset that a test may damage."""
    name = "copy-" + "".join(letter for letter in request.node.name.lower() if letter.isalnum())[-40:]
    client.mkdir(name)
    client.pipe({f"{name}/ds/{path}": data for path, data in files_of(long_dataset).items()})
    return f"{name}/ds"


def remote(server: SwiftServer, path: str, tmp_path: Path, **options: Any) -> Reader:
    options = {"timeout_seconds": 20.0, "storage_options": server.options, **options}
    return Reader(RemoteStorage(f"s3://{path}", cache_dir=tmp_path / "cache", **options))


def test_all_batches_of_all_ranks_equal_the_local_ones(
    swift: SwiftServer, bucket: str, long_dataset: Path, tmp_path: Path
) -> None:
    local = Reader(long_dataset)
    for verify, rank, world_size in (("auto", 0, 1), ("ranges", 0, 1), ("ranges", 0, 2), ("ranges", 1, 2)):
        there = remote(swift, f"{bucket}/long", tmp_path, verify=verify)
        for found, expected in zip(there.steps(0, rank, world_size), local.steps(0, rank, world_size), strict=True):
            np.testing.assert_array_equal(found.tokens, expected.tokens)
            np.testing.assert_array_equal(found.document, expected.document)
    there.check()


@pytest.mark.parametrize("verify", ["auto", "ranges"])
def test_damage_in_the_bucket_is_named(swift: SwiftServer, client: Any, copy: str, tmp_path: Path, verify: str) -> None:
    """A flipped byte, a truncated object, one that was deleted."""
    good = client.cat_file(f"{copy}/{SHARD}")
    damaged = bytearray(good)
    damaged[1_000_001] ^= 0xFF  # the high byte of a token
    client.pipe_file(f"{copy}/{SHARD}", bytes(damaged))
    with pytest.raises(DataError, match=rf"s3://{copy}/{SHARD}: (its sha256 is|row \d+ holds the token)"):
        list(remote(swift, copy, tmp_path, verify=verify).steps())
    client.pipe_file(f"{copy}/{SHARD}", good[:2_000_000])
    with pytest.raises(DataError, match=rf"{SHARD}: 2,000,000 bytes in the store, the manifest says 2,653,434"):
        list(remote(swift, copy, tmp_path, verify=verify).steps())
    client.pipe_file(f"{copy}/{SHARD}", good)
    reader = remote(swift, copy, tmp_path, verify=verify)
    client.rm(f"{copy}/{SHARD}")
    began = time.monotonic()
    with pytest.raises(DataError, match=rf"{SHARD}, bytes 0 to [0-9,]+: the store has no such object"):
        list(reader.steps(0, 0, 2))
    assert time.monotonic() - began < 5


def test_a_shard_replaced_during_training_is_noticed(
    swift: SwiftServer, client: Any, copy: str, tmp_path: Path
) -> None:
    reader = remote(swift, copy, tmp_path, verify="ranges", cache_bytes=600_000)
    steps = reader.steps(0, 0, 2)
    next(steps)
    other = bytearray(client.cat_file(f"{copy}/{SHARD}"))
    other[1_000_000] ^= 1
    client.pipe_file(f"{copy}/{SHARD}", bytes(other))
    with pytest.raises(DataError, match=rf"{SHARD}: the shard was replaced while it was read \(ETag="):
        list(steps)


def test_a_server_that_is_killed_and_comes_back_is_waited_for(
    swift: SwiftServer, bucket: str, long_dataset: Path, tmp_path: Path
) -> None:
    reader = remote(swift, f"{bucket}/long", tmp_path, verify="ranges", cache_bytes=600_000, timeout_seconds=60.0)
    steps = reader.steps(0, 1, 2)
    found = [next(steps).tokens]
    swift.kill()
    restart = threading.Timer(1.0, swift.start)
    restart.start()
    found += [batch.tokens for batch in steps]
    restart.join()
    expected = [batch.tokens for batch in Reader(long_dataset).steps(0, 1, 2)]
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate(expected))


def test_a_stalled_store_is_named_and_a_dropped_connection_is_not_noticed(
    swift: SwiftServer, bucket: str, tmp_path: Path
) -> None:
    proxy = StallingProxy(swift.port)
    try:
        options = {"storage_options": swift.options_at(proxy.port), "timeout_seconds": 4.0}
        reader = remote(swift, f"{bucket}/long", tmp_path, **options)
        proxy.pass_bytes = 1_000_000
        began = time.monotonic()
        with pytest.raises(DataError, match=rf"s3://.*{SHARD}, bytes 0 to 2,653,434: .*4 s"):
            next(reader.steps())
        assert 2 < time.monotonic() - began < 8
        proxy.pass_bytes, proxy.then = float("inf"), "drop"
        reader = remote(swift, f"{bucket}/long", tmp_path, **{**options, "timeout_seconds": 30.0})
        proxy.pass_bytes = 1_000_000
        threading.Timer(0.7, lambda: setattr(proxy, "pass_bytes", float("inf"))).start()
        assert len(list(reader.steps())) == 20
    finally:
        proxy.close()


def test_wrong_credentials_and_missing_buckets_are_named(swift: SwiftServer, bucket: str, tmp_path: Path) -> None:
    wrong = {**swift.options, "secret": "wrong"}
    with pytest.raises(DataError, match=r"s3://datasets/long/manifest\.json: the store refuses access .* credentials"):
        remote(swift, f"{bucket}/long", tmp_path, storage_options=wrong)
    for path in ("no-such-bucket/ds", "datasets/nothing"):
        with pytest.raises(DataError, match=rf"s3://{path}: not a curriculum dataset, it has no manifest\.json"):
            remote(swift, path, tmp_path)
