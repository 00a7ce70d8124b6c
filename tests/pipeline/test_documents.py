"""What the files of a corpus hold: the same documents however the work is divided, and a reason for every bad one."""

from __future__ import annotations

import gzip
import os
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curriculum.errors import BuildError
from pipeline.documents import BadRecord, Record, read_unit
from pipeline.inputs import find_inputs, split_units

TEXTS = ["plain", "", "zwei\nZeilen\r\n", "é", "日本語", '🙂\x00\t"\\', "x" * 300, "last"]


def read_all(path: Path, unit_bytes: int | None = None, text_key: str = "text") -> list[Record | BadRecord]:
    units = split_units(find_inputs([str(path)]).files, unit_bytes)
    found = [item for unit in units for item in read_unit(unit, text_key)]
    return sorted(found, key=lambda item: item.position) if unit_bytes and not bad(found) else found


def bad(found: list[Record | BadRecord]) -> list[BadRecord]:
    return [item for item in found if isinstance(item, BadRecord)]


def texts(found: list[Record | BadRecord]) -> list[str]:
    return [item.text for item in found if isinstance(item, Record)]


def jsonl(values: list[str]) -> bytes:
    return b"".join(orjson.dumps({"id": 1, "text": value}) + b"\n" for value in values)


def line_starts(content: bytes) -> list[int]:
    return [0, *(at + 1 for at, byte in enumerate(content) if byte == 10)][: content.count(b"\n")]


# Writers of the same texts in every format that is read.


def write_jsonl(path: Path, values: list[str]) -> Path:
    path.with_suffix(".jsonl").write_bytes(jsonl(values))
    return path.with_suffix(".jsonl")


def write_gzip(path: Path, values: list[str]) -> Path:
    """Two members and zero padding, as `cat a.gz b.gz` and tape drives make them."""
    half = len(values) // 2
    content = gzip.compress(jsonl(values[:half])) + gzip.compress(jsonl(values[half:])) + bytes(100)
    path.with_suffix(".jsonl.gz").write_bytes(content)
    return path.with_suffix(".jsonl.gz")


def write_zstd(path: Path, values: list[str]) -> Path:
    """Two frames with a skippable one between, as parallel compressors make them."""
    half = len(values) // 2
    skippable = b"\x50\x2a\x4d\x18" + (3).to_bytes(4, "little") + b"abc"
    frames = [zstandard.compress(jsonl(part)) for part in (values[:half], values[half:])]
    path.with_suffix(".jsonl.zst").write_bytes(skippable.join(frames))
    return path.with_suffix(".jsonl.zst")


def as_table(values: list[str], kind: pa.DataType | None = None) -> pa.Table:
    column = pa.array(values, pa.string())
    column = column.dictionary_encode() if kind == "dictionary" else column.cast(kind or pa.string())
    return pa.table({"id": pa.array(range(len(values)), pa.int64()), "text": column})


def write_parquet(path: Path, values: list[str]) -> Path:
    pq.write_table(as_table(values), path.with_suffix(".parquet"), row_group_size=3)
    return path.with_suffix(".parquet")


def arrow_writer(is_stream: bool, kind: pa.DataType | None, codec: str | None = None) -> Callable[..., Path]:
    def write(path: Path, values: list[str]) -> Path:
        table = as_table(values, kind)
        new = pa.ipc.new_stream if is_stream else pa.ipc.new_file
        options = pa.ipc.IpcWriteOptions(
            compression=codec, emit_dictionary_deltas=False, unify_dictionaries=not is_stream
        )
        with new(path.with_suffix(".arrow"), table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=3)
        return path.with_suffix(".arrow")

    return write


def write_dataset(path: Path, values: list[str]) -> Path:
    import datasets

    table = as_table(values)
    datasets.Dataset(table).save_to_disk(path, num_shards=min(2, max(1, len(values))))
    return path


WRITERS: dict[str, Callable[[Path, list[str]], Path]] = {
    "jsonl": write_jsonl,
    "gzip": write_gzip,
    "zstd": write_zstd,
    "parquet": write_parquet,
    "arrow file": arrow_writer(False, None),
    "arrow stream": arrow_writer(True, None),
    "arrow file, lz4": arrow_writer(False, None, "lz4"),
    "arrow stream, zstd": arrow_writer(True, None, "zstd"),
    "arrow file, large_string": arrow_writer(False, pa.large_string()),
    "arrow file, string_view": arrow_writer(False, pa.string_view()),
    "arrow file, dictionary": arrow_writer(False, "dictionary"),
    "arrow stream, dictionary": arrow_writer(True, "dictionary"),
    "datasets": write_dataset,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_back_its_texts_for_every_unit_size(tmp_path: Path, name: str) -> None:
    path = WRITERS[name](tmp_path / "a", TEXTS)
    size = find_inputs([str(path)]).total_bytes
    is_lines = name in ("jsonl", "gzip", "zstd")
    positions = line_starts(jsonl(TEXTS)) if is_lines else range(len(TEXTS))
    expected = [
        Record(relative=path.name, position=position, text=text)
        for position, text in zip(positions, TEXTS, strict=True)
    ]
    assert read_all(path) == expected
    for unit_bytes in {1, 2, 100, *range(7, size + 2, max(1, size // 40))}:
        assert read_all(path, unit_bytes) == expected


utf8_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=12, deadline=None)
@given(values=st.lists(utf8_text, max_size=12), unit_bytes=st.integers(1, 2000))
@example(values=["\ufeff"], unit_bytes=1)
@example(values=["\u2028\x85\r"], unit_bytes=10)
def test_any_texts_survive_any_format(
    tmp_path_factory: pytest.TempPathFactory, name: str, values: list[str], unit_bytes: int
) -> None:
    path = WRITERS[name](tmp_path_factory.mktemp("any") / "a", values)
    assert texts(read_all(path)) == values
    assert texts(read_all(path, unit_bytes)) == values


AWKWARD = (
    b'\xef\xbb\xbf{"text": "\xc3\xa9\xf0\x9f\x99\x82"}\r\n\r\n \t\n{"text":"b"}\n{bad\n\n{"text": "last, no newline"}'
)


def test_ranges_of_any_size_give_the_same_records_bad_records_and_line_numbers(tmp_path: Path) -> None:
    """A byte order mark, CRLF, blank lines, characters of several bytes, a bad line, no newline at the end."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(AWKWARD)
    at = [0, AWKWARD.index(b'{"text":"b"}'), AWKWARD.index(b"{bad"), AWKWARD.index(b'{"text": "last')]
    for unit_bytes in range(1, len(AWKWARD) + 2):
        first, second, wrong, last = read_all(path, unit_bytes)
        assert first == Record(relative="a.jsonl", position=at[0], text="é🙂")
        assert second == Record(relative="a.jsonl", position=at[1], text="b")
        assert isinstance(wrong, BadRecord)
        assert wrong.where == f"line 5 (byte {at[2]})"
        assert last == Record(relative="a.jsonl", position=at[3], text="last, no newline")


@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n\n", b" \t\r\n"])
def test_files_of_nothing_but_blank_lines_hold_no_records(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    assert read_all(tmp_path / "a.jsonl") == []
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(content))
    assert read_all(tmp_path / "b.jsonl.gz") == []


def test_the_text_key_can_be_another_one(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": 1, "body": "b"}\n')
    assert texts(read_all(tmp_path / "a.jsonl", text_key="body")) == ["b"]
    pq.write_table(pa.table({"text": [1], "body": ["b"]}), tmp_path / "b.parquet")
    assert texts(read_all(tmp_path / "b.parquet", text_key="body")) == ["b"]


def test_a_zstd_file_with_a_window_of_a_gigabyte_is_read(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=30, enable_ldm=False)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    (tmp_path / "a.jsonl.zst").write_bytes(compressor.compress(jsonl(["far"])) + compressor.flush())
    assert texts(read_all(tmp_path / "a.jsonl.zst")) == ["far"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.txt", "a.parquet", "a.arrow"])
def test_a_document_much_larger_than_any_buffer_is_read_whole(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    values = ["before", "é" * 2_000_000 + "\n" + "y" * 3_000_000, "after"]
    if name.endswith(".txt"):
        values = values[1:2]
        path.write_text(values[0])
    elif name.endswith((".gz", ".zst")):
        pack = gzip.compress if name.endswith(".gz") else zstandard.compress
        path.write_bytes(pack(jsonl(values)))
    else:
        writers = {".jsonl": write_jsonl, ".parquet": write_parquet, ".arrow": WRITERS["arrow file"]}
        writers[path.suffix](tmp_path / "a", values)
    assert texts(read_all(path)) == values
    if name.endswith(".jsonl"):
        assert texts(read_all(path, 1_000_000)) == values


@pytest.mark.parametrize("name", ["jsonl", "gzip", "zstd", "parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, name: str) -> None:
    """20 MB in documents of 20 KB: what Python holds at any time is a buffer or two of 1 MiB."""
    source = random.Random(1)
    path = WRITERS[name](tmp_path / "a", [source.randbytes(10_000).hex() for _ in range(1000)])
    (unit,) = split_units(find_inputs([str(path)]).files, 1 << 30)
    tracemalloc.start()
    count = sum(len(item.text) for item in read_unit(unit) if isinstance(item, Record))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 20_000_000
    assert peak < 5_000_000


def test_a_text_file_is_one_document_byte_for_byte(tmp_path: Path) -> None:
    content = "\ufeffa\r\nb\rc\x00\u2028é".encode()
    (tmp_path / "a.txt").write_bytes(content)
    (tmp_path / "b.md").write_bytes(b"")
    (tmp_path / "c.py").write_bytes(b"# -*- coding: latin-1 -*-\r\n")
    found = read_all(tmp_path)
    assert sorted(found, key=lambda item: item.relative) == [
        Record(relative="a.txt", position=0, text=content.decode()),
        Record(relative="b.md", position=0, text=""),
        Record(relative="c.py", position=0, text="# -*- coding: latin-1 -*-\r\n"),
    ]


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_changes_stops_the_build(tmp_path: Path, name: str) -> None:
    """Before it is opened, or between its first record and its end."""
    path = WRITERS[name](tmp_path / "a", TEXTS)
    touched = path / "state.json" if path.is_dir() else path
    (unit,) = split_units(find_inputs([str(path)]).files, 1 << 30)
    reading = read_unit(unit)
    next(reading)
    os.utime(touched, ns=(0, 1 << 61))
    with pytest.raises(BuildError, match=r"changed while being read: .*run the same command again"):
        list(reading)
    with pytest.raises(BuildError, match="changed while being read"):
        next(read_unit(unit))


def test_a_file_that_is_cut_while_it_is_read_is_called_changed_and_not_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(jsonl(["x" * 1_000_000] * 4))
    (unit,) = split_units(find_inputs([str(path)]).files, 1 << 30)
    reading = read_unit(unit)
    next(reading)
    os.truncate(path, 2_500_000)
    with pytest.raises(BuildError, match="changed while being read"):
        list(reading)


def test_a_file_that_vanishes_stops_the_build(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a")
    (unit,) = split_units(find_inputs([str(path)]).files, None)
    path.unlink()
    with pytest.raises(BuildError, match=r"a\.txt was there when the build began and cannot be found now"):
        list(read_unit(unit))
