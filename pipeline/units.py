"""Input files to work units: the pieces that workers read one at a time.

In: `InputFile`s sorted by relative path. Out: `Unit`s that together hold every document once. Guaranteed:
the units depend on the names, sizes and layouts of the files, never on workers or disk order; those of a
container (jsonl, parquet ...) depend on that file alone, so a file added leaves them as they are; text
files share units by a hash of their names, so a file added changes one unit of theirs.

    split_units((a.txt of 5 bytes, b.jsonl of 180 bytes), 100)
      ->  [b.jsonl bytes 0..90), [b.jsonl bytes 90..180), [a.txt]
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import xxhash

from curriculum.errors import ConfigError
from pipeline.folders import HUB, InputFile
from pipeline.tokenized.formats import FLAT, Stored, id_array

FILE_IS_DOCUMENT = ("text", "python")

MIN_UNIT_BYTES = 16 << 20
"""Encoded in 0.13 s; writing a part waits 5 to 15 ms for the disk."""
MAX_UNIT_BYTES = 128 << 20
FEW_UNITS = 4096
"""So many, and one for each file, may be as small as anybody likes, for trying things out."""
SMALL_UNIT_BYTES = 64 << 10
"""More units than that have at least so many bytes: each is a part of two files, which take longer than such a text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What one worker reads at a time: some text files, or a part of one container file.

    `[start, stop)` are bytes for jsonl (a line belongs to the unit in which it starts), tokens for flat files of ids
    (a document belongs to the unit in which it starts), rows for parquet, arrow and datasets, shards for the Hub; 0, 0
    means all of it.
    `num_bytes` is its share of the size on disk.
    """

    kind: str
    files: tuple[InputFile, ...]
    start: int
    stop: int
    num_bytes: int

    def identity(self) -> list[Any]:
        """What decides the records of the unit, ready for JSON; not where the corpus lies on this machine."""
        files = [[_json_name(file.relative), file.size, file.mtime_ns, file.stamp] for file in self.files]
        return [self.kind, self.start, self.stop, files]


def split_units(files: Sequence[InputFile], unit_bytes: int | None, stored: Stored | None = None) -> tuple[Unit, ...]:
    """The work units of a corpus: containers in the order of `files`, then groups of text files.

    Args:
        files: sorted by relative path, as `find_inputs` gives them. unit_bytes: target size (parquet: of
        the decompressed row groups); None takes 1/32 of the file (for text
            files of their sum), as a power of two from 16 to 128 MiB. Documents do not depend on it.
        stored: how the ids of a corpus that was tokenized elsewhere are stored.

    Raises:
        ConfigError: `unit_bytes` is too small.
        BuildError, ConfigError: a flat file of ids contradicts its header, the file beside it or `stored`.
    """
    if unit_bytes is not None and unit_bytes < 1:
        raise ConfigError(f"--unit-bytes {unit_bytes} is below 1; give the bytes that a worker reads at a time.")
    too_many = FEW_UNITS + len(files) if unit_bytes is not None and unit_bytes < SMALL_UNIT_BYTES else None
    units = tuple(islice(_split_units(files, unit_bytes, stored), too_many))
    if len(units) == too_many:
        raise ConfigError(
            f"--unit-bytes {unit_bytes:,} would give more than {FEW_UNITS:,} units, each of them a part of its own in "
            f"the token store; so many have to be of at least {SMALL_UNIT_BYTES:,} bytes. Give that or more, or leave "
            f"it out."
        )
    return units


def _split_units(files: Sequence[InputFile], unit_bytes: int | None, stored: Stored | None) -> Iterator[Unit]:
    for file in files:
        if file.kind not in FILE_IS_DOCUMENT:
            yield from _split_container(file, unit_bytes, stored)
    for kind in FILE_IS_DOCUMENT:
        yield from _group_files([file for file in files if file.kind == kind], kind, unit_bytes)


def default_unit_bytes(size: int) -> int:
    """1/32 of the size, up to the next power of two, from 16 to 128 MiB: depends on that file alone."""
    power = 1 << max(0, -(-size // 32) - 1).bit_length()
    return min(max(power, MIN_UNIT_BYTES), MAX_UNIT_BYTES)


def _group_files(files: list[InputFile], kind: str, unit_bytes: int | None) -> Iterator[Unit]:
    """Files by hash of their names: one more changes one group (all when the number of groups doubles)."""
    total = sum(file.size for file in files)
    target = unit_bytes or default_unit_bytes(total)
    mask = (1 << max(0, -(-total // target) - 1).bit_length()) - 1
    buckets: dict[int, list[InputFile]] = defaultdict(list)
    for file in files:
        buckets[xxhash.xxh3_64_intdigest(os.fsencode(file.relative)) & mask].append(file)
    for _, group in sorted(buckets.items()):
        num_bytes = sum(file.size for file in group)
        yield Unit(kind=kind, files=tuple(group), start=0, stop=0, num_bytes=num_bytes)


def _split_container(file: InputFile, unit_bytes: int | None, stored: Stored | None) -> Iterator[Unit]:
    """Units of one container. One that cannot be looked into is one unit: its reader says why."""
    whole = Unit(kind=file.kind, files=(file,), start=0, stop=0, num_bytes=file.size)
    if file.kind == "jsonl":
        target = unit_bytes or default_unit_bytes(file.size)
        yield from _split_evenly(file, file.size, -(-file.size // target))
    elif stored is not None and file.kind in FLAT:
        target = unit_bytes or default_unit_bytes(file.size)
        num_tokens = id_array(file, stored).num_tokens
        yield from _split_evenly(file, num_tokens, min(num_tokens, -(-file.size // target))) if num_tokens else [whole]
    elif file.kind == HUB:
        from pipeline.hub.corpus import shard_sizes

        yield from _join_pieces(file, shard_sizes(file), unit_bytes)
    elif file.kind in ("parquet", "arrow", "datasets") and file.size:
        yield from _split_rows(file, unit_bytes, whole)
    else:
        yield whole


def _split_rows(file: InputFile, unit_bytes: int | None, whole: Unit) -> Iterator[Unit]:
    from pipeline.columnar import count_rows, row_groups

    if file.kind == "parquet":
        groups = row_groups(file)
        if groups is None:
            yield whole
        else:
            yield from _join_pieces(file, groups, unit_bytes)
        return
    num_rows = count_rows(file)
    if num_rows is None:
        yield whole
    else:
        target = unit_bytes or default_unit_bytes(file.size)
        yield from _split_evenly(file, num_rows, min(num_rows, -(-file.size // target)))


def _split_evenly(file: InputFile, total: int, num_units: int) -> Iterator[Unit]:
    """`num_units` ranges of nearly equal length, tiling [0, total)."""
    for index in range(num_units):
        start, stop = (total * edge // num_units for edge in (index, index + 1))
        first, last = (file.size * edge // num_units for edge in (index, index + 1))
        yield Unit(kind=file.kind, files=(file,), start=start, stop=stop, num_bytes=last - first)


def _join_pieces(file: InputFile, pieces: list[tuple[int, int]], unit_bytes: int | None) -> Iterator[Unit]:
    """Runs of row groups or shards within the target size where they can be.

    Args:
        file: the container.
        pieces: (rows, decompressed bytes) of row groups, or (1, bytes) of shards.
        unit_bytes: target size.
    """
    total = sum(num_bytes for _, num_bytes in pieces)
    target = unit_bytes or default_unit_bytes(total)
    edges = [(0, 0)]
    row = position = 0
    for num_rows, num_bytes in pieces:
        if position + num_bytes - edges[-1][1] > target and row > edges[-1][0]:
            edges.append((row, position))
        row, position = row + num_rows, position + num_bytes
    if row > edges[-1][0]:
        edges.append((row, position))
    for (start, first), (stop, last) in pairwise(edges):
        share = file.size * last // max(1, total) - file.size * first // max(1, total)
        yield Unit(kind=file.kind, files=(file,), start=start, stop=stop, num_bytes=share)


def _json_name(relative: str) -> str:
    """The name, or its bytes in hexadecimal behind a NUL: some JSON encoders refuse surrogate escapes."""
    try:
        relative.encode()
    except UnicodeEncodeError:
        return "\0" + os.fsencode(relative).hex()
    return relative
