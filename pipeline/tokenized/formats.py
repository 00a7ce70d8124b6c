"""Which stored corpus is read how: one way in for all formats.

In:  an `InputFile`, and what the user says of the corpus (`Stored`).   Out: how many ids it has, the blocks of its
documents.
Guarantee: stretches that tile a file give every document once, in order; a stretch is tokens of a flat file, rows of
a column.

    Stored(format="raw", dtype="uint16", key="input_ids")     a.bin of 10 bytes     ->  5 ids
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.folders import InputFile
from pipeline.tokenized.datatrove import open_datatrove, read_datatrove
from pipeline.tokenized.id_array import BLOCK_TOKENS, IdArray, IdBlock
from pipeline.tokenized.megatron import open_megatron, read_megatron
from pipeline.tokenized.raw import open_raw, read_raw

FLAT = ("megatron", "raw", "datatrove")
"""Kinds of files that are arrays of ids, whatever says where documents end."""
POSITION = {"megatron": "document", "datatrove": "document", "raw": "token", "input_ids": "row"}
"""What the position of a document counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """What is said of a corpus that was tokenized elsewhere."""

    format: str
    """one of `POSITION`"""
    dtype: str | None
    """of raw ids, if the file does not say it"""
    key: str
    """column of lists of ids"""


def id_array(file: InputFile, stored: Stored) -> IdArray:
    """The ids of a flat file, after a check of its header and sizes.

    Raises:
        BuildError: the file, or the one beside it, is damaged.
        ConfigError: the dtype is missing or contradicts the file.
    """
    if stored.format == "megatron":
        return open_megatron(file.path).ids
    if stored.format == "datatrove":
        return open_datatrove(file.path).ids
    return open_raw(file.path, stored.dtype)


def read_stored(
    file: InputFile, stored: Stored, eos_id: int, start: int, stop: int, block_tokens: int = BLOCK_TOKENS
) -> Iterator[IdBlock]:
    """The documents of a stretch of a file; of all of it for 0, 0.

    Raises:
        BuildError: the file is damaged there.
    """
    stop = stop or 1 << 62
    if stored.format == "megatron":
        return read_megatron(open_megatron(file.path), start, stop, block_tokens)
    if stored.format == "datatrove":
        return read_datatrove(open_datatrove(file.path), start, stop, block_tokens)
    if stored.format == "raw":
        return read_raw(open_raw(file.path, stored.dtype), eos_id, start, stop, block_tokens)
    return _read_column(file, stored, start, stop)


def _read_column(file: InputFile, stored: Stored, start: int, stop: int) -> Iterator[IdBlock]:
    from pipeline.columnar import read_id_lists
    from pipeline.tokenized.lists import read_lists

    for row, values in read_id_lists(file, start, stop, stored.key):
        yield from read_lists(file.path, stored.key, row, values)
