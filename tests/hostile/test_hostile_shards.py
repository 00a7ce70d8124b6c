"""A shard of a stranger, whose digest fits, is read within its bounds or refused in one sentence: it never ends the
process, and never takes more memory than the file has bytes."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

import curriculum
from curriculum.arrow_layout import require_plain_batch
from curriculum.errors import DataError
from forged_shards import last_shard, read_manifest, replace_last_shard, rewrite_shard, with_type
from hostile_dataset import ESCAPE, fit_shard, is_sentence, run_limited

FOUND = Path(__file__).parent / "found"


@pytest.fixture
def dataset(small_dataset: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return shutil.copytree(small_dataset, tmp_path / "dataset")


def refusal(dataset: Path) -> str:
    """What opening the last shard says."""
    with pytest.raises(DataError) as refused:
        curriculum.open(dataset)[-1]
    assert is_sentence(str(refused.value)), str(refused.value)[:300]
    return str(refused.value)


def first_start(table: pa.Table, position: int) -> pa.Table:
    """The first document start of a shard, moved."""
    starts = table["doc_starts"].to_pylist()
    row = next(i for i, of_row in enumerate(starts) if of_row)
    starts[row][0] = position
    return table.set_column(1, table.schema.field(1), pa.array(starts, table.schema.field(1).type))


def dictionary(table: pa.Table) -> pa.Table:
    """One column of words in a dictionary, which Arrow would load first."""
    return table.set_column(3, "document", pa.array(["x"] * len(table)).dictionary_encode())


def renamed(table: pa.Table) -> pa.Table:
    return table.rename_columns(["tokens", "doc_starts", "offset", f"d{ESCAPE}"])


def deep(table: pa.Table) -> pa.Table:
    """A type of 50 levels."""
    kind = pa.uint64()
    for _ in range(50):
        kind = pa.list_(kind)
    return table.set_column(3, "document", pa.nulls(len(table), kind))


def extension(table: pa.Table) -> pa.Table:
    """A type that asks for code: pyarrow before 14.0.1 unpickled it."""
    field = pa.field(
        "document",
        pa.uint64(),
        metadata={"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": b"\x80\x04."},
    )
    return table.set_column(3, field, table["document"])


CHANGES: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "a document start at 0": (lambda table: first_start(table, 0), "doc_starts holds the position 0, expected 1 to 64"),
    "a document start outside": (lambda table: first_start(table, 65), "holds the position 65, expected 1 to 64"),
    "a document start far outside": (lambda table: first_start(table, 2**32 - 1), "the position 4294967295"),
    "words in a dictionary": (dictionary, "it has dictionaries"),
    "escapes in a column's name": (renamed, "its columns are"),
    "a type of 50 levels": (deep, "its columns are"),
    "a type that asks for code": (extension, "its columns are"),
    "a footer of megabytes": (lambda table: table.replace_schema_metadata({"x": "y" * 10**6}), "its footer has"),
    "values of decimals": (lambda table: with_type(table, "offset", pa.decimal128(20)), "its columns are"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_shard_that_is_none_is_refused(dataset: Path, name: str) -> None:
    change, words = CHANGES[name]
    rewrite_last(dataset, change)
    assert words in refusal(dataset)


def rewrite_last(dataset: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """With a manifest that fits, where the head of the file is too."""
    path = replace_last_shard(dataset, change)
    data = path.read_bytes()
    manifest = read_manifest(dataset)
    entry = last_shard(manifest)
    head = struct.unpack_from("<i", data, 12)[0] + 16  # magic, then the schema's message
    batch = head + 8 + struct.unpack_from("<i", data, head + 4)[0]
    rewrite_entry(dataset, data_offset=batch, num_bytes=max(len(data), entry["num_bytes"]))
    least = batch + entry["num_rows"] * 65 * 2
    if len(data) < least:
        raise AssertionError("too short for its rows")


def rewrite_entry(dataset: Path, **values: int) -> None:
    from hostile_dataset import change_manifest

    change_manifest(dataset, lambda manifest: last_shard(manifest).update(values))


def test_a_bomb_is_refused_before_it_is_decompressed(dataset: Path) -> None:
    """A compressed buffer says itself how large it gets: here a terabyte, from a file of 20 kB."""
    path = replace_last_shard(
        dataset, lambda table: table.replace_schema_metadata({"x": "y" * 20_000}), compression="zstd"
    )
    data = bytearray(path.read_bytes())
    at = data.index(b"\x28\xb5\x2f\xfd") - 8  # a zstd frame; before it, what it says that it holds
    data[at : at + 8] = struct.pack("<q", 1 << 40)
    path.write_bytes(data)
    fit_shard(dataset, str(path.relative_to(dataset)))
    assert "the shard is compressed" in refusal(dataset)
    outcome = run_limited("verify", str(dataset), "--quick")
    assert outcome.returncode == 1
    assert "the shard is compressed" in outcome.stderr


@pytest.mark.parametrize("path", sorted(FOUND.glob("*.arrow")), ids=lambda path: path.stem)
def test_what_was_found_stays_refused(path: Path) -> None:
    """Files that once ended in a traceback, as the fuzzer left them; beside each, what a manifest says of it."""
    from curriculum.shard_format import open_shard

    about = json.loads(path.with_suffix(".json").read_bytes())
    with pytest.raises(DataError) as refused:
        open_shard(path, num_bytes=path.stat().st_size, **about["manifest"])
    assert about["refusal"] in str(refused.value)
    assert is_sentence(str(refused.value))


def test_good_shards_have_the_layout_that_is_asked_for(small_dataset: Path) -> None:
    """Every refusal of the layout is one that a builder's file passes."""
    paths = sorted(small_dataset.rglob("*.arrow"))
    assert len(paths) > 20
    for path in paths:
        require_plain_batch(memoryview(path.read_bytes()))


def test_thousands_of_damaged_shards_never_end_the_process(small_dataset: Path, tmp_path: Path) -> None:
    """In a process of its own: a crash there is a failure here. CURRICULUM_FUZZ_SHARDS=100000 looks longer."""
    import os

    count = os.environ.get("CURRICULUM_FUZZ_SHARDS", "1000")
    script = Path(__file__).parents[1] / "damaged_shards.py"
    done = subprocess.run(
        [sys.executable, str(script), str(small_dataset), str(tmp_path), count], capture_output=True, text=True
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
    refused, read = map(int, done.stdout.split())
    assert refused > int(count) // 3
    assert read > int(count) // 50


def test_a_shard_without_rows_is_refused_when_the_dataset_is_opened(dataset: Path) -> None:
    """Its bytes are too few for the rows that are promised."""
    name = read_manifest(dataset)["phases"][0]["shards"][0]["path"]
    rewrite_shard(dataset, name, lambda table: table.slice(0, 0))
    with pytest.raises(DataError, match="bytes, its rows need"):
        curriculum.open(dataset)
