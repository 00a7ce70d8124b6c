"""A dataset in a store reads like a folder, and a rank fetches its own rows."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from curriculum.batch import Batch
from curriculum.errors import ConfigError, CursorError, DataError
from curriculum.reader import Reader
from curriculum.remote import RemoteStorage, storage
from packed_dataset import write_packed_dataset
from remote.http_store import HttpStore, files_of

STEP_BYTES = 64 * 1025 * 2


def remote(url: str, tmp_path: Path, **options: Any) -> RemoteStorage:
    return RemoteStorage(url, cache_dir=tmp_path / "cache", **{"timeout_seconds": 5.0, **options})


def assert_equal(there: Batch, here: Batch) -> None:
    for name in ("tokens", "inputs", "targets", "offset", "document", "labels", "has_target"):
        np.testing.assert_array_equal(getattr(there, name), getattr(here, name), name)
    for name in ("num_tokens", "piece_offset", "piece_document"):
        found, expected = getattr(there, name), getattr(here, name)
        assert (found is None) == (expected is None)
        if expected is not None:
            np.testing.assert_array_equal(found, expected, name)
    for found, expected in zip(there.doc_starts, here.doc_starts, strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(there.varlen.position_ids, here.varlen.position_ids)
    assert (there.step, there.micro, there.phase, there.seq_len) == (here.step, here.micro, here.phase, here.seq_len)
    assert not there.tokens.flags.writeable


@pytest.mark.parametrize(
    ("name", "world_size", "verify"),
    [("small", 1, "auto"), ("small", 1, "ranges"), ("small", 2, "shard"), ("long", 2, "ranges"), ("long", 4, "ranges")],
)
def test_every_batch_of_every_rank_equals_the_local_one(
    request: pytest.FixtureRequest, tmp_path: Path, name: str, world_size: int, verify: str
) -> None:
    """`small` has many small shards; `long` has one, of which a rank needs a part."""
    store = request.getfixturevalue("small_store" if name == "small" else "http_store")
    local = Reader(request.getfixturevalue(f"{name}_dataset"))
    for rank in range(world_size):
        there = Reader(remote(store.url, tmp_path, verify=verify))
        for micro_batches in (1, 2):
            pair = [reader.steps(0, rank, world_size, micro_batches) for reader in (there, local)]
            for found, expected in zip(*pair, strict=True):
                assert_equal(found, expected)
                assert found.cursor == expected.cursor


@pytest.mark.parametrize("verify", ["auto", "ranges"])
def test_random_steps_and_held_out_rows_equal_the_local_ones(
    small_store: HttpStore, small_dataset: Path, tmp_path: Path, verify: str
) -> None:
    local, there = Reader(small_dataset), Reader(remote(small_store.url, tmp_path, verify=verify))
    there.check()
    for step in (len(local) - 1, 0, len(local) // 2, 1, 0):
        assert_equal(there[step], local[step])
    assert local.validation is not None
    assert there.validation is not None
    for found, expected in zip(there.validation.batches(7), local.validation.batches(7), strict=True):
        np.testing.assert_array_equal(found.tokens, expected.tokens)
        np.testing.assert_array_equal(found.document, expected.document)


@pytest.mark.parametrize("verify", ["auto", "ranges"])
def test_packed_rows_have_their_labels(tmp_path: Path, verify: str) -> None:
    write_packed_dataset(tmp_path / "packed")
    local = Reader(tmp_path / "packed")
    store = HttpStore(files_of(tmp_path / "packed"))
    try:
        there = Reader(remote(store.url, tmp_path, verify=verify))
        for rank in (0, 1):
            for found, expected in zip(there.steps(0, rank, 2), local.steps(0, rank, 2), strict=True):
                assert_equal(found, expected)
    finally:
        store.close()


@pytest.mark.parametrize("rank", [0, 3])
def test_a_rank_fetches_its_share(http_store: HttpStore, long_dataset: Path, tmp_path: Path, rank: int) -> None:
    """A quarter of the rows, and the head and foot of the shard; never the rows of others."""
    there = remote(http_store.url, tmp_path, verify="ranges")
    for found, expected in zip(Reader(there).steps(0, rank, 4), Reader(long_dataset).steps(0, rank, 4), strict=True):
        np.testing.assert_array_equal(found.tokens, expected.tokens)
    share = 20 * STEP_BYTES // 4
    assert share < there.bytes_fetched < share + 100_000
    tokens = there.manifest.phases[0].shards[0].data_offset
    rows = [request for request in http_store.requests if request[0] == "GET" and request[2] >= tokens]
    in_steps = [((start - tokens) % STEP_BYTES, stop - start) for _, _, start, stop in rows][:-1]
    assert {(start, length) for start, length in in_steps if length == STEP_BYTES // 4} == {
        (rank * STEP_BYTES // 4, STEP_BYTES // 4)
    }
    assert len(rows) == 20 + 1


def test_columns_behind_the_tokens_come_when_they_are_asked_for(
    http_store: HttpStore, long_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curriculum.remote.cached_shard.FOOTER_BYTES", 2048)
    there = remote(http_store.url, tmp_path, verify="ranges")
    batches = Reader(there).steps(0, 0, 4)
    batch = next(batches)
    before = there.bytes_fetched
    assert batch.num_tokens is None
    assert batch.labels.shape == (16, 1024)
    assert there.bytes_fetched == before
    expected = next(Reader(long_dataset).steps(0, 0, 4))
    assert_equal(batch, expected)
    after = there.bytes_fetched
    assert after > before
    assert_equal(next(batches), list(Reader(long_dataset).steps(0, 0, 4))[1])
    assert there.bytes_fetched == after  # once for the shard


def test_who_reads_every_row_fetches_and_verifies_whole_shards(
    http_store: HttpStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that resumes in the middle, or accumulates gradients; two ranks do not."""
    monkeypatch.setattr(storage, "WHOLE_BYTES", 0)
    size = len(http_store.files["phases/00000-len0001024/shard-000000.arrow"])
    for start, micro_batches in ((0, 1), (0, 4), (19, 1), (19, 2), (7, 8)):
        there = remote(http_store.url, tmp_path)
        assert len(list(Reader(there).steps(start, 0, 1, micro_batches))) == (20 - start) * micro_batches
        assert there.bytes_fetched == size
    for rank in (0, 1):
        for start, micro_batches in ((0, 1), (19, 1), (19, 2)):
            there = remote(http_store.url, tmp_path)
            assert len(list(Reader(there).steps(start, rank, 2, micro_batches))) == (20 - start) * micro_batches
            assert there.bytes_fetched < size


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_pass_over_every_row_verifies_what_ranges_brought_before(
    http_store: HttpStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_damaged: bool
) -> None:
    """Rows that one rank of two read came without a digest: whoever then reads all must not train on a flipped bit in
    them, nor fetch them again. Its columns were read, too, so the shard is open already."""
    monkeypatch.setattr(storage, "WHOLE_BYTES", 0)
    path = "phases/00000-len0001024/shard-000000.arrow"
    there = remote(http_store.url, tmp_path, timeout_seconds=2.0)
    if is_damaged:
        damaged = bytearray(http_store.files[path])
        damaged[there.manifest.phases[0].shards[0].data_offset + STEP_BYTES // 2] ^= 1  # the first token of rank 1
        http_store.files[path] = bytes(damaged)
    reader = Reader(there)
    assert [len(batch.document) for batch in reader.steps(0, 1, 2)] == [32] * 20
    assert there.bytes_fetched < len(http_store.files[path])
    if is_damaged:
        with pytest.raises(DataError, match=f"{path}: its sha256 is [0-9a-f]{{64}}, the manifest says"):
            next(reader.steps())
    else:
        assert len(list(reader.steps())) == 20
        assert there.bytes_fetched == len(http_store.files[path])


def test_small_shards_are_verified_for_every_world_size(small_store: HttpStore, tmp_path: Path) -> None:
    path = next(path for path in small_store.files if path.endswith(".arrow") and path.startswith("phases/00003"))
    damaged = bytearray(small_store.files[path])
    damaged[len(damaged) // 2] ^= 1
    small_store.files[path] = bytes(damaged)
    for world_size in (1, 2, 8):
        reader = Reader(remote(small_store.url, tmp_path))
        with pytest.raises(DataError, match=f"{path}: its sha256 is [0-9a-f]{{64}}, the manifest says"):
            list(reader.steps(0, world_size - 1, world_size))


def test_resuming_in_the_middle_of_a_step_continues_there(
    small_store: HttpStore, small_dataset: Path, tmp_path: Path
) -> None:
    local = list(Reader(small_dataset).steps(0, 1, 2, 2))
    cursor = local[20].cursor
    there = list(Reader(remote(small_store.url, tmp_path)).steps(cursor, 1, 2, 2))
    assert len(there) == len(local) - 21
    for found, expected in zip(there, local[21:], strict=True):
        assert_equal(found, expected)


def test_two_iterations_at_once_do_not_disturb_each_other(
    small_store: HttpStore, small_dataset: Path, tmp_path: Path
) -> None:
    reader, local = Reader(remote(small_store.url, tmp_path, verify="ranges")), Reader(small_dataset)
    for (a, b), expected in zip(
        zip(reader.steps(0, 0, 2), reader.steps(0, 1, 2), strict=True), local.steps(), strict=True
    ):
        np.testing.assert_array_equal(np.concatenate((a.tokens, b.tokens)), expected.tokens)


def test_opening_reads_the_manifest_only(http_store: HttpStore, long_dataset: Path, tmp_path: Path) -> None:
    reader = Reader(remote(http_store.url + "/", tmp_path))
    assert [request[:2] for request in http_store.requests] == [("GET", "/ds/manifest.json")]
    assert reader.id == Reader(long_dataset).id
    assert reader.where == http_store.url


def test_a_reader_pickles_as_its_address(http_store: HttpStore, long_dataset: Path, tmp_path: Path) -> None:
    reader = Reader(remote(http_store.url, tmp_path, verify="ranges"))
    data = pickle.dumps(reader)
    assert len(data) < 1000
    np.testing.assert_array_equal(pickle.loads(data)[3].tokens, Reader(long_dataset)[3].tokens)


def test_any_protocol_of_fsspec_will_do(long_dataset: Path, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    folder = f"/{tmp_path.name}/ds"
    for name, data in files_of(long_dataset).items():
        memory.pipe_file(f"{folder}/{name}", data)
    for url in (f"memory:/{folder}", f"file://{long_dataset}", f"local://{long_dataset}"):
        for verify in ("auto", "ranges"):
            reader = Reader(remote(url, tmp_path, verify=verify))
            np.testing.assert_array_equal(reader[3].tokens, Reader(long_dataset)[3].tokens)
            assert next(reader.steps(2, 1, 2)).document.shape == (32,)
    memory.rm(folder, recursive=True)


def test_wrong_options_are_refused(http_store: HttpStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="verify is 'none'; it is one of 'auto', 'shard', 'ranges'"):
        remote(http_store.url, tmp_path, verify="none")
    with pytest.raises(ConfigError, match="both are positive"):
        remote(http_store.url, tmp_path, timeout_seconds=0)
    with pytest.raises(ConfigError, match="no client can be made for this address"):
        remote("nonsense://bucket/ds", tmp_path)
    with pytest.raises(CursorError, match="world_size 3"):
        Reader(remote(http_store.url, tmp_path)).steps(0, 0, 3)


def test_a_missing_package_is_named_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(ConfigError, match=r"pip install 'seqlen-curriculum\[s3\]'"):
        remote("s3://bucket/ds", tmp_path)
    with pytest.raises(ConfigError, match=r"pip install 'seqlen-curriculum\[gs\]'"):
        remote("gs://bucket/ds", tmp_path)
    with pytest.raises(ConfigError, match=r"pip install 'seqlen-curriculum\[hf\]'"):
        remote("hf://datasets/org/name", tmp_path)
    with pytest.raises(ConfigError, match="is not installed: Install s3fs"):
        remote("abfs://bucket/ds", tmp_path)


def test_no_dataset_at_the_address(http_store: HttpStore, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: not a curriculum dataset, it has no manifest\.json"):
        remote(f"{http_store.url}/nowhere", tmp_path)
    http_store.files["manifest.json"] = http_store.files["manifest.json"].replace(b'"seed": 0', b'"seed": 1')
    with pytest.raises(DataError, match=r"/ds/manifest\.json: id is"):
        remote(http_store.url, tmp_path)
