"""The cache is bounded, private, and never takes anything away that is looked at or belongs to somebody else."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from curriculum.errors import ConfigError, DataError
from curriculum.reader import Reader
from curriculum.remote import RemoteStorage
from curriculum.remote.cache_folder import CacheFolder, default_cache_folder
from remote.http_store import HttpStore

ROOT = Path(__file__).parents[2]
READ_SOME = """
import sys, time
from curriculum.reader import Reader
from curriculum.remote import RemoteStorage
reader = Reader(RemoteStorage(sys.argv[1], cache_dir=sys.argv[2], verify=sys.argv[3]))
tokens = [batch.tokens for batch in reader.steps()]
print(sum(int(t.sum()) for t in tokens), flush=True)
if sys.argv[4] == "stay":
    time.sleep(60)
"""


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", READ_SOME, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )


def linked_bytes(cache: Path) -> int:
    return sum(path.stat().st_size for path in cache.rglob("*.arrow"))


@pytest.mark.parametrize("verify", ["auto", "ranges"])
def test_the_cache_is_bounded_and_views_outlive_eviction(
    small_store: HttpStore, small_dataset: Path, tmp_path: Path, verify: str
) -> None:
    """Every batch is kept until the end: evicting a shard must not pull the pages away under it."""
    largest = max(len(data) for path, data in small_store.files.items() if path.endswith(".arrow"))
    cache_bytes = 4 * largest
    storage = RemoteStorage(
        small_store.url, cache_dir=tmp_path / "cache", cache_bytes=cache_bytes, verify=verify, timeout_seconds=5
    )
    kept = []
    for batch in Reader(storage).steps():
        kept.append(batch)
        assert linked_bytes(tmp_path / "cache") <= cache_bytes + 2 * largest
    assert storage.bytes_fetched > 2 * cache_bytes
    for found, expected in zip(kept, Reader(small_dataset).steps(), strict=True):
        np.testing.assert_array_equal(found.tokens, expected.tokens)
        np.testing.assert_array_equal(found.document, expected.document)


def test_a_cache_too_small_for_whole_shards_is_refused(http_store: HttpStore, tmp_path: Path) -> None:
    reader = Reader(RemoteStorage(http_store.url, cache_dir=tmp_path, cache_bytes=3_000_000))
    with pytest.raises(ConfigError, match=r"Give at least 5,306,868, or verify='ranges'"):
        reader[0]
    reader = Reader(RemoteStorage(http_store.url, cache_dir=tmp_path, cache_bytes=3_000_000, verify="ranges"))
    assert reader[0].tokens.shape == (64, 1025)


def test_what_was_fetched_is_not_fetched_again(http_store: HttpStore, tmp_path: Path) -> None:
    storage = RemoteStorage(http_store.url, cache_dir=tmp_path)
    reader = Reader(storage)
    for _ in range(2):
        assert len(list(reader.steps(3, 1, 2))) == 17
    assert storage.bytes_fetched == http_store.bytes_asked() == storage.manifest.phases[0].shards[0].num_bytes


def test_the_cache_of_a_reader_goes_with_it(http_store: HttpStore, tmp_path: Path) -> None:
    (tmp_path / "mine.arrow").write_text("kept")
    batch = Reader(RemoteStorage(http_store.url, cache_dir=tmp_path))[0]
    expected = batch.tokens.copy()
    gc.collect()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.arrow"]
    np.testing.assert_array_equal(batch.tokens, expected)


def test_a_killed_process_leaves_files_that_the_next_one_removes(http_store: HttpStore, tmp_path: Path) -> None:
    """And only those: a living process, another file and a folder with something else in it stay."""
    killed, living = (start(http_store.url, str(tmp_path), "auto", "stay") for _ in range(2))
    try:
        for process in (killed, living):
            assert process.stdout is not None
            assert process.stdout.readline().strip().isdigit()
        folders = sorted(tmp_path.glob("run-*"))
        assert len(folders) == 2
        killed.send_signal(signal.SIGKILL)
        killed.wait(10)
        assert sorted(tmp_path.glob("run-*")) == folders
        (tmp_path / "run-foreign").mkdir()
        (tmp_path / "run-foreign" / "mine.txt").write_text("kept")
        (tmp_path / "run-empty").mkdir()
        storage = RemoteStorage(http_store.url, cache_dir=tmp_path)
        assert len(list(tmp_path.glob("run-*/lock"))) == 2
        assert len(list(tmp_path.glob("run-*/*.arrow"))) == 1  # of the living one
        assert (tmp_path / "run-foreign" / "mine.txt").read_text() == "kept"
        assert not (tmp_path / "run-empty").exists()
        assert storage.manifest.id
    finally:
        for process in (killed, living):
            process.kill()
            process.communicate()


def test_two_processes_share_a_cache_folder(http_store: HttpStore, long_dataset: Path, tmp_path: Path) -> None:
    processes = [start(http_store.url, str(tmp_path), verify, "leave") for verify in ("auto", "ranges")]
    expected = sum(int(batch.tokens.sum()) for batch in Reader(long_dataset).steps())
    for process in processes:
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert int(printed) == expected
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_a_sentence(http_store: HttpStore, tmp_path: Path) -> None:
    """A file system that takes 1 MB, or a limit on the size of files where only root may mount one."""
    code = """
import resource, signal, sys
from curriculum.errors import DataError
from curriculum.reader import Reader
from curriculum.remote import RemoteStorage
reader = Reader(RemoteStorage(sys.argv[1], cache_dir=sys.argv[2]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    reader[0]
except DataError as error:
    print(error)
"""
    printed = subprocess.run(
        [sys.executable, "-c", code, http_store.url, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    assert "the cache cannot be written (File too large). Free some space" in printed


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small file system")
def test_a_full_tmpfs_does_not_kill_the_process(http_store: HttpStore, tmp_path: Path) -> None:
    """Reading a hole of a mapped file on a full tmpfs is SIGBUS: nothing may touch one."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], check=False)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        for verify in ("auto", "ranges"):
            reader = Reader(RemoteStorage(http_store.url, cache_dir=small, verify=verify))
            with pytest.raises(DataError, match=r"the cache cannot be written \(No space left on device\)"):
                sum(int(batch.tokens.sum()) for batch in reader.steps())
            del reader
    finally:
        gc.collect()
        subprocess.run(["umount", "--lazy", str(small)], check=True)


def test_a_fork_is_told_to_open_the_dataset_itself(http_store: HttpStore, tmp_path: Path) -> None:
    """Threads and connections do not survive it; without the check the child would wait for ever."""
    reader = Reader(RemoteStorage(http_store.url, cache_dir=tmp_path))
    steps = reader.steps()
    next(steps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        refused = 0
        for read in (lambda: reader[0], lambda: next(steps), reader.check):
            try:
                read()
            except ConfigError as error:
                refused += "do not survive a fork" in str(error)
        os._exit(0 if refused == 3 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(list(steps)) == 19
    assert len(list(tmp_path.glob("run-*/*.arrow"))) == 1


def test_leaving_an_iteration_stops_its_fetching(http_store: HttpStore, tmp_path: Path) -> None:
    http_store.delay_seconds = 0.05
    storage = RemoteStorage(http_store.url, cache_dir=tmp_path, verify="ranges")
    for _ in Reader(storage).steps(0, 0, 4):
        break
    time.sleep(0.3)
    asked = len(http_store.requests)
    time.sleep(0.3)
    assert len(http_store.requests) == asked < 30
    assert len(list(Reader(storage).steps(0, 0, 4))) == 20


def test_iterations_that_are_left_again_and_again_reserve_only_what_they_fetched(
    http_store: HttpStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that were given up would count for ever, and push shards out of a cache that has room for them."""
    monkeypatch.setattr("curriculum.remote.fetcher.CONNECTIONS", 2)
    http_store.delay_seconds = 0.01
    storage = RemoteStorage(http_store.url, cache_dir=tmp_path, verify="ranges")
    reader = Reader(storage)
    for rank in (0, 1, 2, 3):
        next(reader.steps(0, rank, 4))
    ends = time.monotonic() + 5
    while storage._cache.reserved_bytes != storage.bytes_fetched and time.monotonic() < ends:
        time.sleep(0.02)
    assert storage._cache.reserved_bytes == storage.bytes_fetched
    assert storage.bytes_fetched < storage.manifest.phases[0].shards[0].num_bytes // 2


def test_a_long_iteration_stays_as_far_ahead_as_at_its_beginning(
    http_store: HttpStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window that shrinks while it moves would end as one request at a time, each as slow as the store's latency."""
    place_bytes = 32 * 1025 * 2
    monkeypatch.setattr("curriculum.remote.read_ahead.RANGE_BYTES", place_bytes)
    monkeypatch.setattr("curriculum.remote.read_ahead.AHEAD_BYTES", 6 * place_bytes)
    storage = RemoteStorage(http_store.url, cache_dir=tmp_path, verify="ranges")
    asked = [storage._cache.reserved_bytes for _ in Reader(storage).steps(0, 1, 2)]
    places = [20 - (asked[-1] - bytes_then) // place_bytes for bytes_then in asked]
    ahead = [asked_for - number for number, asked_for in enumerate(places, start=1)]
    assert min(ahead[2:-5]) >= 4
    assert max(ahead) <= 6


def test_a_loop_that_asks_one_by_one_is_read_ahead(http_store: HttpStore, tmp_path: Path) -> None:
    """Hugging Face's Trainer asks for items: after three at equal distances the next ones are on their way."""
    from curriculum.share import Share

    storage = RemoteStorage(http_store.url, cache_dir=tmp_path, verify="ranges")
    reader = Reader(storage)
    share = Share(plan=reader.plan, rank=1, world_size=2, micro_batches=2)
    expected = list(reader.stream(0, share))
    reader = Reader(RemoteStorage(http_store.url, cache_dir=tmp_path, verify="ranges"))
    for index in range(3):
        reader.micro_batch(*share.at(index), share)
    asked = 0
    while len(http_store.requests) > asked:
        asked = len(http_store.requests)
        time.sleep(0.3)
    http_store.misbehave = lambda request: "404"
    for index in range(3, 40):
        batch = reader.micro_batch(*share.at(index), share)
        np.testing.assert_array_equal(batch.tokens, expected[index].tokens)


def test_what_arrives_late_does_not_get_into_a_newer_file(http_store: HttpStore, tmp_path: Path) -> None:
    """A shard that was given up and fetched anew: bytes of the first attempt must not replace verified ones."""
    storage = RemoteStorage(http_store.url, cache_dir=tmp_path)
    first = storage._cache.pin((0, 0))
    storage._cache.drop(first)
    tokens = next(Reader(storage).steps()).tokens
    expected = tokens.copy()
    first._write(first.about.tokens, b"\xff" * (first.about.tokens.stop - first.about.tokens.start))
    np.testing.assert_array_equal(tokens, expected)


def test_the_default_cache_is_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of a known name in /tmp may have been made by somebody else."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert default_cache_folder() == tmp_path / f"curriculum-{os.getuid()}"
    folder = CacheFolder(None)
    assert folder.path.stat().st_mode & 0o077 == 0
    folder.close()
    monkeypatch.setattr("os.getuid", lambda: 12345)
    (tmp_path / "curriculum-12345").mkdir()
    with pytest.raises(ConfigError, match="it belongs to another user"):
        CacheFolder(None)


def test_a_cache_folder_that_cannot_be_made_is_refused(http_store: HttpStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot hold the cache"):
        RemoteStorage(http_store.url, cache_dir=tmp_path / "file" / "cache")


def test_a_cache_removed_by_hand_is_named(small_store: HttpStore, tmp_path: Path) -> None:
    reader = Reader(RemoteStorage(small_store.url, cache_dir=tmp_path / "cache", cache_bytes=60_000))
    steps = reader.steps()
    first = next(steps)
    expected = first.tokens.copy()
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(DataError, match="the cache was removed while training read from it"):
        list(steps)
    np.testing.assert_array_equal(first.tokens, expected)
