"""Datasets on the Hub as inputs: a split is one, its shards are what units of work are made of.

In:  a CORPUS argument such as hf:org/books:en/train.   Out: an `InputFile`; the records of some of its shards.
Guarantee: the branch is looked at once; the commit, the number of shards and their sizes are what the split is known by
from then on. A document is named by the file that it stands in and its row there, whatever the units are. Of files of
lines nothing is read but the texts: what other columns hold, and in which files, does not matter.

    find_on_hub("hf:org/books")      path hf:org/books@1f2e...:default/train, stamp "1f2e...,shards=2"
    its records                      relative "hf:org/books:default/train#data/b.jsonl", position 0, 1, ...
"""

from __future__ import annotations

import gzip
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import zstandard

from curriculum.errors import BuildError, ConfigError, CurriculumError
from pipeline.columnar import BATCH_ROWS, ColumnError, read_arrays, require_text
from pipeline.folders import HUB, InputFile
from pipeline.hub.access import first_line, hub_error, resolve
from pipeline.hub.lines import file_of_lines, rows_of_lines
from pipeline.hub.names import HubName, parse_hub_corpus
from pipeline.hub.split import Split, find_split, open_split
from pipeline.records import BadRecord, Record

DAMAGE = (
    *(ValueError, LookupError, TypeError, EOFError, pa.ArrowException),
    *(zlib.error, gzip.BadGzipFile, lzma.LZMAError, zstandard.ZstdError),
)
"""What `datasets` raises for files whose content is wrong; pyarrow also plain OSErrors."""


def find_on_hub(argument: str) -> InputFile:
    """The split that an argument names, as it is now.

    Raises:
        ConfigError: there is no such repository, revision, configuration or split, or it needs code.
        BuildError: the Hub cannot be asked, or asks for a login.
    """
    asked = parse_hub_corpus(argument)
    split = open_split(find_split(resolve(asked, "dataset"), asked.config, asked.split))
    return InputFile(
        path=str(split.name),
        relative=str(replace(split.name, revision=None)),
        size=sum(shard.num_bytes for shard in split.shards),
        mtime_ns=0,
        stamp=_stamp(split),
        kind=HUB,
    )


def shard_sizes(file: InputFile) -> list[tuple[int, int]]:
    """(1, bytes) of every shard, to be joined into units."""
    return [(1, shard.num_bytes) for shard in _split(file).shards]


def read_shards(file: InputFile, start: int, stop: int, text_key: str) -> Iterator[Record | BadRecord]:
    """Records of shards [start, stop), one shard after the other; a bad record is "row N" of its shard.

    Raises:
        BuildError: the Hub cannot be asked, or this machine sees other shards than the build found.
    """
    split = _split(file)
    for number in range(start, stop):
        name = split.shards[number].name
        shard = replace(file, path=f"{file.path}#{name}", relative=f"{file.relative}#{name}")
        lines = file_of_lines(split, number, shard)
        if lines is not None:
            yield from rows_of_lines(lines, shard.path, text_key)
        else:
            yield from read_arrays(shard, 0, _arrays(split, number, text_key), text_key)


def _arrays(split: Split, number: int, key: str) -> Iterator[tuple[int, Any]]:
    """(first row, array of texts); a string instead says what is wrong from that row on."""
    row = 0
    if split.columns is not None:
        _require_text(split.columns, key, split, number)
    tables = split.tables(number, key, BATCH_ROWS)
    while True:
        try:
            table = next(tables, None)
        except Exception as error:
            _refuse_other_columns(error, split, number)
            yield row, _damage(error, split.name)
            return
        if table is None:
            return
        _require_text(table.schema, key, split, number)
        for chunk in table.column(key).chunks:
            yield row, chunk
            row += len(chunk)


def _require_text(schema: Any, key: str, split: Split, number: int) -> None:
    """The column of texts is there. If it is not, no record is to blame, and none can be skipped."""
    try:
        require_text(schema, key)
    except ColumnError as error:
        raise ConfigError(f"{split.name}#{split.shards[number].name} {error}.") from None


def _refuse_other_columns(error: Exception, split: Split, number: int) -> None:
    """A file that `datasets` reads no row of, since another one was read before it, is no bad record."""
    text = first_line(error)
    if text.startswith("Couldn't cast"):
        raise BuildError(
            f"{split.name}#{split.shards[number].name}: its columns, or their types, differ from those of "
            f"{split.shards[0].name}, so `datasets` reads none of it ({text}). Give it the same columns, or make it a "
            f".jsonl."
        ) from error


def _damage(error: Exception, name: HubName) -> str:
    """What is wrong with the content.

    Raises:
        BuildError: it is not the content that is wrong.
    """
    known = error if isinstance(error, CurriculumError) else hub_error(error, name, "dataset")
    if known is not None:
        raise known from error
    if not isinstance(error, DAMAGE) and (type(error) is not OSError or error.errno is not None):
        raise BuildError(
            f"{name}: could not be read on ({type(error).__name__}: {first_line(error)}). Run the same command again: "
            f"it continues."
        ) from error
    return f"is damaged from here on, no row after it can be read ({first_line(error)}); repair the file"


def _split(file: InputFile) -> Split:
    split = open_split(parse_hub_corpus(file.path))
    if _stamp(split) != file.stamp:
        raise BuildError(
            f"{file.path}: this machine sees {_stamp(split)} in it, and the build found {file.stamp}. Install the same "
            f"version of `datasets` on every machine, and run the same command again."
        )
    return split


def _stamp(split: Split) -> str:
    return f"{split.name.commit},shards={len(split.shards)}"
