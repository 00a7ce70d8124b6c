"""What a store does wrong is tried again where that helps, and named with shard and bytes where it does not."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curriculum.errors import DataError
from curriculum.reader import Reader
from curriculum.remote import RemoteStorage
from curriculum.remote.failures import http_status, may_pass
from curriculum.remote.fetcher import CONNECTIONS
from remote.http_store import HttpStore, Request

SHARD = "phases/00000-len0001024/shard-000000.arrow"
MODES = ["auto", "ranges"]


def remote(store: HttpStore, tmp_path: Path, **options: Any) -> Reader:
    return Reader(RemoteStorage(store.url, cache_dir=tmp_path / "cache", **{"timeout_seconds": 3.0, **options}))


def once(how: str) -> Any:
    """The first answer to each request is of that kind, the second one is right."""
    seen: Counter[Request] = Counter()

    def misbehave(request: Request) -> str | None:
        seen[request] += 1
        return how if SHARD in request[1] and seen[request] == 1 else None

    return misbehave


def flip(store: HttpStore, byte: int, mask: int = 1) -> None:
    data = bytearray(store.files[SHARD])
    data[byte] ^= mask
    store.files[SHARD] = bytes(data)


@pytest.mark.parametrize("verify", MODES)
@pytest.mark.parametrize("how", ["drop", "500", "503", "429"])
def test_what_may_pass_is_tried_again(
    http_store: HttpStore, long_dataset: Path, tmp_path: Path, verify: str, how: str
) -> None:
    http_store.misbehave = once(how)
    reader = remote(http_store, tmp_path, verify=verify, timeout_seconds=10.0)
    for found, expected in zip(reader.steps(0, 1, 4), Reader(long_dataset).steps(0, 1, 4), strict=True):
        np.testing.assert_array_equal(found.tokens, expected.tokens)


@pytest.mark.parametrize("verify", MODES)
def test_a_store_that_comes_back_is_waited_for(http_store: HttpStore, tmp_path: Path, verify: str) -> None:
    reader = remote(http_store, tmp_path, verify=verify, timeout_seconds=10.0)
    back = time.monotonic() + 1.5
    http_store.misbehave = lambda request: "503" if time.monotonic() < back else None
    assert len(list(reader.steps(0, 1, 4))) == 20
    assert time.monotonic() > back


@pytest.mark.parametrize("verify", MODES)
def test_a_store_that_fails_on_is_given_up_in_time(http_store: HttpStore, tmp_path: Path, verify: str) -> None:
    reader = remote(http_store, tmp_path, verify=verify)
    http_store.misbehave = lambda request: "503"
    began = time.monotonic()
    with pytest.raises(DataError, match=rf"{SHARD}, bytes 0 to [0-9,]+: no success within 3 s, \d attempts; .*503"):
        next(reader.steps(0, 1, 4))
    assert 1.0 < time.monotonic() - began < 6.0
    http_store.misbehave = lambda request: None
    assert len(list(reader.steps(0, 1, 4))) == 20  # the same reader, once the store is back


@pytest.mark.parametrize("verify", MODES)
def test_a_store_that_stalls_is_named_in_time(http_store: HttpStore, tmp_path: Path, verify: str) -> None:
    """The loop must not hang: shard, bytes and how long it waited."""
    reader = remote(http_store, tmp_path, verify=verify)
    http_store.misbehave = lambda request: "stall"
    began = time.monotonic()
    with pytest.raises(DataError, match=rf"{SHARD}, bytes 0 to [0-9,]+: .*3 s"):
        next(reader.steps(0, 1, 4))
    assert time.monotonic() - began < 6.0


def test_a_connection_that_stalls_is_replaced(http_store: HttpStore, tmp_path: Path) -> None:
    http_store.misbehave = once("stall")
    assert len(list(remote(http_store, tmp_path, timeout_seconds=6.0).steps())) == 20


def test_a_library_that_never_returns_does_not_hang_the_loop(
    http_store: HttpStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File systems without asyncio have no limit of ours: the waiting side gives up, and later reads still work."""
    import threading

    monkeypatch.setattr("curriculum.remote.fetcher.GRACE_SECONDS", 0.1)
    storage = RemoteStorage(http_store.url, cache_dir=tmp_path, timeout_seconds=10)
    storage._fetcher.timeout_seconds = 0.2
    never, read = threading.Event(), storage._store.read
    storage._store.read = lambda *_: never.wait(30) and b""  # type: ignore[method-assign, assignment, return-value]
    for _ in range(CONNECTIONS + 2):
        with pytest.raises(DataError, match=rf"{SHARD}, bytes 0 to 2,653,434: nothing arrived for 0.2 s: the store or"):
            next(Reader(storage).steps())
    storage._store.read = read  # type: ignore[method-assign]
    storage._fetcher.timeout_seconds = 10
    assert len(list(Reader(storage).steps())) == 20
    never.set()


def test_a_flipped_bit_is_found_before_a_row_is_handed_out(
    http_store: HttpStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anywhere in the shard, by whoever reads all of it."""
    monkeypatch.setattr("curriculum.remote.storage.WHOLE_BYTES", 0)
    good = http_store.files[SHARD]
    for byte in (5, 1000, len(good) // 2, len(good) - 3):
        http_store.files[SHARD] = good
        flip(http_store, byte)
        with pytest.raises(DataError, match=rf"{SHARD}: its sha256 is [0-9a-f]+, the manifest says .* copy it again"):
            next(remote(http_store, tmp_path).steps())


def test_rows_alone_show_damage_of_the_structure_and_impossible_tokens(http_store: HttpStore, tmp_path: Path) -> None:
    """Honest limit: a flipped bit that makes another token of the vocabulary is not seen without the digest."""
    good = http_store.files[SHARD]
    offset = remote(http_store, tmp_path).manifest.phases[0].shards[0].data_offset
    token = offset + 2 * (5 * 1025 + 7)
    flip(http_store, token + 1, 0x80)
    with pytest.raises(DataError, match=rf"{SHARD}: row 5 holds the token 3\d{{4}}, expected less than the vocab_size"):
        next(remote(http_store, tmp_path, verify="ranges").steps())
    http_store.files[SHARD] = good
    flip(http_store, token)
    assert len(list(remote(http_store, tmp_path, verify="ranges").steps())) == 20
    rows = good.index((1280).to_bytes(8, "little"))  # of the record batch, in the head
    assert rows < offset
    for byte in (rows, len(good) - 1, len(good) - 8):
        http_store.files[SHARD] = good
        flip(http_store, byte, 0xFF)
        with pytest.raises(DataError, match=SHARD):
            next(remote(http_store, tmp_path, verify="ranges").steps())


@pytest.mark.parametrize("verify", MODES)
def test_a_truncated_shard_is_named_with_both_sizes(http_store: HttpStore, tmp_path: Path, verify: str) -> None:
    good = http_store.files[SHARD]
    for size in (1_000_000, len(good) - 1):
        http_store.files[SHARD] = good[:size]
        reader = remote(http_store, tmp_path, verify=verify)
        with pytest.raises(DataError, match=rf"{SHARD}: {size:,} bytes in the store, the manifest says 2,653,434"):
            list(reader.steps(0, 1, 4))
        with pytest.raises(DataError, match=rf"{SHARD}: {size:,} bytes in the store"):
            reader.check()


@pytest.mark.parametrize("verify", MODES)
def test_a_shard_that_vanished_is_named(small_store: HttpStore, tmp_path: Path, verify: str) -> None:
    reader = remote(small_store, tmp_path, verify=verify, cache_bytes=60_000)
    steps = reader.steps()
    next(steps)
    last = max(path for path in small_store.files if path.startswith("phases/"))
    del small_store.files[last]
    began = time.monotonic()
    with pytest.raises(DataError, match=rf"{last}, bytes .*the store has no such object .* put it back"):
        list(steps)
    assert time.monotonic() - began < 3
    with pytest.raises(DataError, match=f"{last}: the store has no such object"):
        reader.check()


def test_a_shard_replaced_under_way_is_noticed(http_store: HttpStore, tmp_path: Path) -> None:
    """Rows of two versions never meet in one run, even where the size is the same and no digest is checked."""
    reader = remote(http_store, tmp_path, verify="ranges", cache_bytes=700_000)
    steps = reader.steps(0, 1, 4)
    next(steps)
    flip(http_store, 1_500_000)
    with pytest.raises(DataError, match=rf"{SHARD}: the shard was replaced while it was read"):
        list(steps)


@pytest.mark.parametrize("status", ["401", "403"])
def test_refused_access_is_not_tried_again(http_store: HttpStore, tmp_path: Path, status: str) -> None:
    reader = remote(http_store, tmp_path, verify="ranges")
    http_store.misbehave = lambda request: status
    began = time.monotonic()
    with pytest.raises(
        DataError, match=rf"{SHARD}, bytes 0 to \d+: the store refuses access .* Check the address and the credentials"
    ):
        next(reader.steps(0, 1, 4))
    assert time.monotonic() - began < 2
    with pytest.raises(DataError, match=r"manifest\.json: the store refuses access"):
        remote(http_store, tmp_path)


def test_a_store_without_ranges_is_refused(http_store: HttpStore, tmp_path: Path) -> None:
    storage = RemoteStorage(http_store.url, cache_dir=tmp_path, verify="ranges")
    read = storage._store.read
    storage._store.read = lambda path, span, seconds: read(path, None, seconds)  # type: ignore[method-assign]
    with pytest.raises(DataError, match="the store ignores byte ranges"):
        next(Reader(storage).steps(0, 1, 4))


class _ClientError(Exception):
    def __init__(self, status: int) -> None:
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}}


class _WithStatus(Exception):
    def __init__(self, name: str, status: int | str) -> None:
        setattr(self, name, status)


class NoCredentialsError(Exception):
    pass


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "status", "passes"),
    [
        (FileNotFoundError(), None, False),
        (PermissionError(), None, False),
        (ConnectionResetError(), None, True),
        (TimeoutError(), None, True),
        (OSError(5, "Input/output error"), None, True),
        (ValueError(), None, False),
        (NoCredentialsError(), None, False),
        (caused(OSError(), _ClientError(503)), 503, True),  # s3fs
        (caused(FileNotFoundError(), _ClientError(404)), 404, False),
        (caused(PermissionError(), _ClientError(403)), 403, False),
        (_WithStatus("status", 500), 500, True),  # aiohttp
        (_WithStatus("code", "429"), 429, True),  # gcsfs
        (_WithStatus("code", 7), None, True),
        (_WithStatus("status_code", 416), 416, False),
        (caused(FileNotFoundError(), ConnectionResetError()), None, True),  # fsspec's http, when it cannot ask
        (DataError(), None, False),
    ],
)
def test_which_errors_may_pass(error: BaseException, status: int | None, passes: bool) -> None:
    assert http_status(error) == status
    assert may_pass(error) is passes
