"""Columns, rows and columnar files that hold no document: said once, at the row, for every size of the work units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.documents import BadRecord, Record, read_unit
from pipeline.inputs import find_inputs, split_units


def read_all(path: Path, unit_bytes: int | None = None, text_key: str = "text") -> list[Record | BadRecord]:
    units = split_units(find_inputs([str(path)]).files, unit_bytes)
    found = [item for unit in units for item in read_unit(unit, text_key)]
    return sorted(found, key=lambda item: item.position) if unit_bytes and not bad(found) else found


def bad(found: list[Record | BadRecord]) -> list[BadRecord]:
    return [item for item in found if isinstance(item, BadRecord)]


def texts(found: list[Record | BadRecord]) -> list[str]:
    return [item.text for item in found if isinstance(item, Record)]


TEXTS = ["plain", "", "zwei\nZeilen\r\n", "é", "日本語", '🙂\x00\t"\\', "x" * 300, "last"]


def write_texts(path: Path, form: str) -> None:
    table = pa.table({"id": range(len(TEXTS)), "text": TEXTS})
    if form == "parquet":
        pq.write_table(table, path, row_group_size=3)
        return
    new = pa.ipc.new_stream if "stream" in form else pa.ipc.new_file
    codec = "lz4" if "lz4" in form else None
    with new(path, table.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
        writer.write_table(table, max_chunksize=3)


def string_array(values: list[bytes | None]) -> pa.Array:
    """Strings that hold any bytes, as careless writers make them."""
    array = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(array), array.buffers(), array.null_count)


def write_table(path: Path, table: pa.Table) -> None:
    if path.suffix == ".parquet":
        pq.write_table(table, path)
        return
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_a_null_or_undecodable_string_is_one_bad_row(tmp_path: Path, name: str) -> None:
    write_table(tmp_path / name, pa.table({"text": string_array([b"ok", None, b"a\xff", b"", b"end"])}))
    for unit_bytes in (None, 1, 300):
        found = [i for u in split_units(find_inputs([f"{tmp_path}/{name}"]).files, unit_bytes) for i in read_unit(u)]
        assert [item.position for item in found if isinstance(item, Record)] == [0, 3, 4]
        assert texts(found) == ["ok", "", "end"]
        assert [(wrong.where, wrong.reason) for wrong in bad(found)] == [
            ("row 1", 'is null in column "text", and a text must be a string'),
            ("row 2", "is not valid UTF-8: byte 1 is 0xff (invalid start byte); convert it to UTF-8 or take it out"),
        ]


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"id": [1, 2], "body": ["a", "b"]}, 'has no column "text"; its columns are "id", "body": name the right one'),
        ({"text": [1, 2]}, 'has a column "text" of type int64, and texts must be strings; cast it, or name another'),
        ({"text": [b"a", b"b"]}, 'has a column "text" of type binary, and texts must be strings'),
        ({"text": [["a"], ["b"]]}, 'has a column "text" of type list<'),
        ({f"c{i}": [1, 2] for i in range(20)}, 'has no column "text"; its columns are "c0", "c1", "c2", '),
    ],
)
def test_a_wrong_column_is_said_once_for_every_unit_size(
    tmp_path: Path, name: str, columns: dict[str, list[object]], reason: str
) -> None:
    write_table(tmp_path / name, pa.table(columns))
    for unit_bytes in (None, 1):
        (wrong,) = read_all(tmp_path / name, unit_bytes)
        assert isinstance(wrong, BadRecord)
        assert wrong.where == "row 0"
        assert wrong.reason.startswith(reason)
        assert wrong.reason.endswith("--text-key")


@pytest.mark.parametrize("name", ["parquet", "arrow file", "arrow stream", "arrow file, lz4", "arrow stream, lz4"])
def test_a_columnar_file_cut_at_any_byte_is_noticed_once_for_every_unit_size(tmp_path: Path, name: str) -> None:
    path = tmp_path / ("a.parquet" if name == "parquet" else "a.arrow")
    write_texts(path, name)
    content = path.read_bytes()
    for size in range(0, len(content), 13):
        path.write_bytes(content[:size])
        for unit_bytes in (None, 1):
            found = read_all(path, unit_bytes)
            (wrong,) = bad(found)
            assert wrong == found[-1]
            assert wrong.reason.endswith("copy it again")
            assert texts(found) == TEXTS[: len(found) - 1]


def test_a_stream_that_ends_between_two_batches_is_noticed(tmp_path: Path) -> None:
    """pyarrow takes it for a complete one."""
    path = tmp_path / "a.arrow"
    write_texts(path, "arrow stream")
    path.write_bytes(path.read_bytes()[:-8])
    *records, wrong = read_all(path)
    assert texts(records) == TEXTS
    assert isinstance(wrong, BadRecord)
    assert (wrong.where, "no end marker" in wrong.reason) == ("row 8", True)


def test_a_damaged_row_group_is_one_bad_record_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    values = [f"{number} " * 50 for number in range(9)]
    pq.write_table(pa.table({"text": values}), path, row_group_size=3, write_page_checksum=True, use_dictionary=False)
    content = bytearray(path.read_bytes())
    group = pq.ParquetFile(path).metadata.row_group(1).column(0)
    content[group.data_page_offset + group.total_compressed_size - 5] ^= 1
    path.write_bytes(content)
    for unit_bytes in (None, 1):
        found = [i for u in split_units(find_inputs([str(path)]).files, unit_bytes) for i in read_unit(u)]
        assert texts(found) == values[:3] + values[6:]
        (wrong,) = bad(found)
        assert wrong.where == "row 3"
        assert wrong.reason.startswith("is damaged from here to the end of row group 1 (")


def test_a_row_that_points_outside_its_batch_is_bad_and_not_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    table = pa.table({"text": ["aaaa", "bbbb", "cccc"]})
    write_table(path, table)
    content = path.read_bytes()
    offsets = np.array([0, 4, 8, 12], np.int32).tobytes()
    assert content.count(offsets) == 1
    path.write_bytes(content.replace(offsets, np.array([0, 4, 999, 12], np.int32).tobytes()))
    found = read_all(path)
    assert texts(found) == ["aaaa"]
    assert [(wrong.where, wrong.reason) for wrong in bad(found)] == [
        ("row 1", "points outside the file's data; copy it again"),
        ("row 2", "points outside the file's data; copy it again"),
    ]


def test_a_datasets_folder_with_a_damaged_shard_is_one_bad_record(tmp_path: Path) -> None:
    import datasets

    path = tmp_path / "mine"
    datasets.Dataset.from_dict({"text": TEXTS}).save_to_disk(path, num_shards=2)
    shard = path / "data-00000-of-00002.arrow"
    shard.write_bytes(shard.read_bytes()[:-200])
    (wrong,) = read_all(path)
    assert isinstance(wrong, BadRecord)
    assert (wrong.path, wrong.where) == (str(path), "row 0")
    assert wrong.reason.startswith("cannot be loaded by `datasets` (")
