"""A corpus in a real object store: every format gives the dataset that a copy on a disk gives."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from curriculum.errors import BuildError, ConfigError
from pipeline.documents import read_unit
from pipeline.files.storage_options import storage_options
from pipeline.inputs import find_inputs, split_units
from remote.stalling_proxy import StallingProxy
from remote.store_build import build_few, files_below
from remote.swift_server import SwiftServer, installed
from small_corpus import real_texts

s3fs = pytest.importorskip("s3fs")
INSTALLS = installed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts in every format, and what must not be read."""
    folder = tmp_path_factory.mktemp("texts") / "books"
    texts = [text for text in real_texts() if text]
    lines = [json.dumps({"text": text}) + "\n" for text in texts]
    for name in ("old", ".git"):
        (folder / name).mkdir(parents=True)
    (folder / "a.jsonl").write_text("".join(lines[:40]), "utf-8")
    (folder / "old" / "b.jsonl.gz").write_bytes(gzip.compress("".join(lines[40:60]).encode()))
    (folder / "old" / "c.jsonl.zst").write_bytes(zstandard.compress("".join(lines[60:80]).encode()))
    table = pa.table({"text": texts[80:100]})
    pq.write_table(table, folder / "d.parquet", row_group_size=6)
    with pa.ipc.new_file(folder / "e.arrow", table.schema) as writer:
        writer.write_table(pa.table({"text": texts[100:110]}), max_chunksize=4)
    with pa.ipc.new_stream(folder / "old" / "f.arrow", table.schema) as writer:
        writer.write_table(pa.table({"text": texts[110:115]}))
    (folder / "old" / "g.txt").write_text(texts[115])
    (folder / ".git" / "h.txt").write_text("hidden")
    (folder / "cover.png").write_bytes(b"no text")
    return folder


@pytest.fixture(scope="module")
def client(swift: SwiftServer, folder: Path) -> Any:
    """With the texts at s3://texts/in/books."""
    client = s3fs.S3FileSystem(**swift.options, skip_instance_cache=True)
    client.mkdir("texts")
    client.pipe({f"texts/in/books/{name}": data for name, data in files_below(folder).items()})
    return client


def test_every_format_gives_the_same_dataset(swift: SwiftServer, client: Any, folder: Path, tmp_path: Path) -> None:
    """By byte ranges, row groups and streams; the files of the dataset are equal to those from the disk."""
    here, there = tmp_path / "here", tmp_path / "there"
    build_few(folder, here, {})
    progress = Sayings()
    build_few("s3://texts/in/books", there, swift.options, progress)
    assert files_below(there) == files_below(here)
    assert progress.lines == ["Corpus: 1 files with other endings are left out."]


class Sayings:
    """Keeps the lines; reports nothing else."""

    def __init__(self) -> None:
        from pipeline.progress import Silent

        self.lines: list[str] = []
        self.stage = Silent().stage

    def say(self, message: str) -> None:
        self.lines.append(message)


@pytest.mark.parametrize(
    ("argument", "relative"),
    [
        ("", ["a.jsonl", "d.parquet", "e.arrow", "old/b.jsonl.gz", "old/c.jsonl.zst", "old/f.arrow", "old/g.txt"]),
        ("/old/", ["b.jsonl.gz", "c.jsonl.zst", "f.arrow", "g.txt"]),
        ("/old/g.txt", ["g.txt"]),
        ("/*.jsonl", ["a.jsonl"]),
        ("/*", ["a.jsonl", "d.parquet", "e.arrow", "old/b.jsonl.gz", "old/c.jsonl.zst", "old/f.arrow", "old/g.txt"]),
        ("/**/*.arrow", ["e.arrow", "old/f.arrow"]),
        ("/o?d/[bg]*", ["old/b.jsonl.gz", "old/g.txt"]),
    ],
)
def test_arguments_mean_what_they_mean_on_a_disk(
    swift: SwiftServer, client: Any, folder: Path, argument: str, relative: list[str]
) -> None:
    found = find_inputs([f"s3://texts/in/books{argument}"], options=storage_options(swift.options))
    assert [file.relative for file in found.files] == relative
    assert [file.relative for file in find_inputs([f"{folder}{argument}"]).files] == relative
    assert {file.stamp.partition("=")[0] for file in found.files} == {"ETag"}


def test_what_is_not_there_is_said(swift: SwiftServer, client: Any) -> None:
    options = storage_options(swift.options)
    for argument in ("s3://texts/in/nothing", "s3://texts/in/books/*.json"):
        with pytest.raises(ConfigError, match=r"There is no object or folder|holds no file that can be read"):
            find_inputs([argument], options=options)
    with pytest.raises(ConfigError, match=r"cover\.png.* is not a file that can be read"):
        find_inputs(["s3://texts/in/books/cover.png"], options=options)
    for name in ("dataset_info.json", "state.json", "data-00000-of-00001.arrow"):
        client.pipe_file(f"texts/saved/{name}", b"{}")
    with pytest.raises(ConfigError, match=r"s3://texts/saved.* was written by datasets\.save_to_disk"):
        find_inputs(["s3://texts/saved"], options=options)


def test_an_object_that_is_replaced_is_noticed(swift: SwiftServer, client: Any, tmp_path: Path) -> None:
    """Of the same size: the ETag tells, both while it is read and in what a finished build compares."""
    client.pipe_file("texts/changing/a.txt", b"one text of many words " * 400)
    options = storage_options(swift.options)
    (unit,) = split_units(find_inputs(["s3://texts/changing"], options=options).files, None)
    small = {"validation_tokens": None}
    build_few("s3://texts/changing", tmp_path / "ds", swift.options, **small)
    assert build_few("s3://texts/changing", tmp_path / "ds", swift.options, **small).already_finished
    client.pipe_file("texts/changing/a.txt", b"two text of many words " * 400)
    with pytest.raises(BuildError, match=r"s3://texts/changing/a\.txt changed while being read: .*ETag="):
        list(read_unit(unit))
    with pytest.raises(BuildError, match=r"asked for something else: corpus was"):
        build_few("s3://texts/changing", tmp_path / "ds", swift.options, **small)


def test_a_dropped_connection_costs_one_range(swift: SwiftServer, client: Any) -> None:
    """The proxy cuts the answer in the middle; the reader asks for that range again and notices nothing."""
    lines = b"".join(b'{"text": "%06d %s"}\n' % (number, b"x" * 80) for number in range(30_000))
    client.pipe_file("texts/long/a.jsonl", lines)
    proxy = StallingProxy(swift.port)
    try:
        proxy.then = "drop"
        options = storage_options(swift.options_at(proxy.port))
        (unit,) = split_units(find_inputs(["s3://texts/long"], options=options).files, None)
        texts = read_unit(unit)
        assert next(texts).text.startswith("000000 ")  # type: ignore[union-attr]
        proxy.pass_bytes = 1_000_000

        assert sum(1 for _ in _reviving(texts, proxy)) == 29_999
    finally:
        proxy.close()


def _reviving(items: Iterator[Any], proxy: StallingProxy) -> Iterator[Any]:
    """Lets everything through again shortly after the connection was cut."""
    import threading

    threading.Timer(1.0, lambda: setattr(proxy, "pass_bytes", float("inf"))).start()
    yield from items
