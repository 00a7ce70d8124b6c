"""Lines, texts and compressed streams that hold no document: each is named with its reason, nothing else is lost."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
import zstandard

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


def jsonl(values: list[str]) -> bytes:
    return b"".join(orjson.dumps({"id": 1, "text": value}) + b"\n" for value in values)


BAD_LINES = [
    (b'{"text": "a"', "is not valid JSON: unexpected end of data at character 13 of the line"),
    (b"no", "is not valid JSON: "),
    (b'{"text": NaN}', "is not valid JSON: unexpected character"),
    (b'{"text": "a"} {"text": "b"}', "is not valid JSON: "),
    (b'["text"]', "is JSON but not an object: an array; write one object per line"),
    (b'"text"', "is JSON but not an object: a string"),
    (b"null", "is JSON but not an object: null"),
    (b"12", "is JSON but not an object: a number"),
    (b"true", "is JSON but not an object: a boolean"),
    (b"{}", 'is an empty object: it has no key "text"'),
    (
        b'{"content": "a", "id": 1}',
        'has no key "text"; its keys are "content", "id": name the right one with --text-key',
    ),
    (b'{"text": null}', 'holds null under "text", and a text must be a string'),
    (b'{"text": 1.5}', 'holds a number under "text"'),
    (b'{"text": false}', 'holds a boolean under "text"'),
    (b'{"text": ["a"]}', 'holds an array under "text"'),
    (b'{"text": {"a": "b"}}', 'holds an object under "text"'),
    (
        b'{"text": "a\xff"}',
        "is not valid UTF-8: byte 27 is 0xff (invalid start byte); convert it to UTF-8 or take it out",
    ),
    (b'{"text": "\xed\xa0\x80"}', "is not valid UTF-8: byte 26 is 0xed"),
    (
        b'{"text": "a\\ud800"}',
        "contains a lone surrogate (\\ud800), which is no character and cannot be encoded; replace",
    ),
    (b'{"text": "a\\uDFFFb"}', "contains a lone surrogate (\\udfff)"),
    (b'{"text": "a", "title": "\\ud83d"}', "contains a lone surrogate (\\ud83d)"),
    (b'{"text": ' + b"[" * 3000, "is not valid JSON: "),
]


@pytest.mark.parametrize(("line", "reason"), BAD_LINES)
def test_a_bad_line_is_named_with_its_reason_and_the_lines_around_it_are_read(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    content = b'{"text": "one"}' + b"\n" + line + b"\n" + b'{"text": "two"}' + b"\n"
    (tmp_path / "a.jsonl").write_bytes(content)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(content))
    (tmp_path / "c.jsonl.zst").write_bytes(zstandard.compress(content))
    for name in ("a.jsonl", "b.jsonl.gz", "c.jsonl.zst"):
        one, wrong, two = read_all(tmp_path / name)
        assert [one.position, two.position] == [0, 16 + len(line) + 1]
        assert isinstance(wrong, BadRecord)
        assert (wrong.path, wrong.where) == (str(tmp_path / name), "line 2 (byte 16)")
        assert wrong.reason.startswith(reason)


def test_a_byte_order_mark_does_not_shift_the_byte_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "\xff"}')
    (wrong,) = bad(read_all(tmp_path / "a.jsonl"))
    assert wrong.where == "line 1 (byte 0)"
    assert wrong.reason.startswith("is not valid UTF-8: byte 13 is 0xff")


def test_a_pair_of_surrogate_escapes_is_one_character(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "\\ud83d\\ude42"}')
    assert texts(read_all(tmp_path / "a.jsonl")) == ["🙂"]


def compress_gzip(content: bytes) -> bytes:
    return gzip.compress(content[:70]) + gzip.compress(content[70:])


def compress_zstd(content: bytes) -> bytes:
    compressor = zstandard.ZstdCompressor(write_checksum=True)
    return compressor.compress(content[:70]) + compressor.compress(content[70:])


@pytest.mark.parametrize(("ending", "compress"), [("gz", compress_gzip), ("zst", compress_zstd)])
def test_a_compressed_file_cut_at_any_byte_is_noticed_and_never_gives_half_a_line(
    tmp_path: Path, ending: str, compress: Callable[[bytes], bytes]
) -> None:
    values = ["alpha", "beta", "gamma" * 5, "delta"]
    packed = compress(jsonl(values))
    member_end = len(compress(jsonl(values)[:70])) - len(compress(b"")) // 2
    path = tmp_path / f"a.jsonl.{ending}"
    for size in range(len(packed)):
        path.write_bytes(packed[:size])
        found = read_all(path)
        assert texts(found) == values[: len(texts(found))]
        if size == member_end:
            # A file that ends with a whole member or frame is a whole file: only its last line can look wrong.
            continue
        (wrong,) = bad(found)
        assert wrong == found[-1]
        assert ("cut off" in wrong.reason) or (ending == "gz" and "not a sound gzip stream" in wrong.reason)
        assert wrong.where == f"line {len(found)} (byte {len(jsonl(values[: len(found) - 1]))})"
    path.write_bytes(packed)
    assert texts(read_all(path)) == values


@pytest.mark.parametrize(("ending", "compress"), [("gz", gzip.compress), ("zst", compress_zstd)])
def test_damage_and_garbage_in_a_compressed_file_are_noticed(
    tmp_path: Path, ending: str, compress: Callable[[bytes], bytes]
) -> None:
    packed = compress(jsonl(["alpha", "beta"] * 9))
    path = tmp_path / f"a.jsonl.{ending}"
    for content in (packed[:-6] + bytes([packed[-6] ^ 1]) + packed[-5:], packed + b"garbage", b"garbage" + packed):
        path.write_bytes(content)
        (wrong,) = bad(read_all(path))
        assert "is not a sound" in wrong.reason
        assert wrong.reason.endswith("copy it again")


def test_a_text_file_that_is_not_utf8_is_named_with_its_byte(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.txt")
    path.write_bytes(b"caf\xe9 au lait")
    (wrong,) = read_all(path)
    assert wrong == BadRecord(
        path=f"{tmp_path}/caf\\xe9.txt",
        where="byte 3",
        reason="is not valid UTF-8: byte 3 is 0xe9 (invalid continuation byte); convert it to UTF-8 or take it out",
    )


def test_a_corrupt_member_does_not_hide_the_records_before_it(tmp_path: Path) -> None:
    good, broken = gzip.compress(jsonl(["a", "b"])), bytearray(gzip.compress(jsonl(["c"] * 50)))
    broken[-8] ^= 255  # its checksum
    (tmp_path / "a.jsonl.gz").write_bytes(good + bytes(broken))
    found = read_all(tmp_path / "a.jsonl.gz")
    assert texts(found)[:2] == ["a", "b"]
    assert len(bad(found)) == 1
