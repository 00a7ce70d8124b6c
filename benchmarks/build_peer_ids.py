"""The ids that a tool wrote, back from its files, in the order of the corpus.

In:  the name of a format and the folder with the files.   Out: number of ids and one sha256 over all of them.
Guarantee: the digest is of little-endian uint16, document after document, each followed by its EOS (50256), however
the tool stores them. Two tools with equal digests wrote equal ids at equal places.

    raw uint16 files 0.bin = [5, 6, 50256], 1.bin = [7, 50256]   ->  5 ids, sha256 of 0500 0600 50c4 0700 50c4
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Ids = np.ndarray[Any, Any]
BLOCK_IDS = 1 << 24
MEGATRON_DTYPES = {1: "<u1", 3: "<i2", 4: "<i4", 8: "<u2"}
"""Codes of its index files that a vocabulary may have."""
LITDATA_DTYPES = {18: "<i4", 20: "<u2"}


def digest_of(format_name: str, folder: Path) -> dict[str, Any]:
    """{"tokens", "sha256"} of the files in a folder."""
    return digest(FORMATS[format_name](folder))


def digest(blocks: Iterator[Ids]) -> dict[str, Any]:
    """The same of arrays of ids, end to end.

    Raises:
        ValueError: an id does not fit uint16.
    """
    found, count = hashlib.sha256(), 0
    for block in blocks:
        narrow = block.astype("<u2", copy=False)
        if not np.array_equal(narrow, block):
            raise ValueError("an id above 65,535")
        found.update(np.ascontiguousarray(narrow).data)
        count += len(narrow)
    return {"tokens": count, "sha256": found.hexdigest()}


def raw(path: Path, dtype: str = "<u2", skip: int = 0) -> Iterator[Ids]:
    """A file of nothing but ids, behind `skip` bytes."""
    with path.open("rb") as file:
        file.seek(skip)
        while data := file.read(BLOCK_IDS * np.dtype(dtype).itemsize):
            yield np.frombuffer(data, dtype)


def megatron(folder: Path) -> Iterator[Ids]:
    """.bin holds the ids; byte 17 of .idx says of which type."""
    for path in sorted(folder.glob("*.bin")):
        code = path.with_suffix(".idx").read_bytes()[17]
        yield from raw(path, MEGATRON_DTYPES[code])


def datatrove(folder: Path) -> Iterator[Ids]:
    """One file of ids per task."""
    for path in sorted(folder.glob("*.ds")):
        yield from raw(path)


def litdata(folder: Path) -> Iterator[Ids]:
    """Chunks in the order of index.json: number of items, their offsets, then ids."""
    index = json.loads((folder / "index.json").read_text())
    (data_format,) = index["config"]["data_format"]
    dtype = LITDATA_DTYPES[int(data_format.rpartition(":")[2])]
    for chunk in index["chunks"]:
        path = folder / chunk["filename"]
        with path.open("rb") as file:
            (items,) = struct.unpack("<I", file.read(4))
        yield from raw(path, dtype, skip=4 * (items + 2))


def mds(folder: Path) -> Iterator[Ids]:
    """Shards by the library's own reader."""
    from streaming_import import import_streaming

    import_streaming()
    from streaming.base.format import reader_from_json

    for entry in json.loads((folder / "index.json").read_text())["shards"]:
        where, _, name = entry["raw_data"]["basename"].rpartition("/")
        entry["raw_data"]["basename"] = name
        reader = reader_from_json(str(folder), where, entry)
        for number in range(len(reader)):
            yield reader[number]["tokens"]


def datasets(folder: Path) -> Iterator[Ids]:
    """Arrow streams, one per process."""
    import pyarrow as pa

    for path in sorted(folder.glob("*.arrow")):
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
            for batch in reader:
                yield batch.column("input_ids").flatten().to_numpy(zero_copy_only=False)


def bare(folder: Path) -> Iterator[Ids]:
    """Rows that share one id with the next: the first id of the stream, then all but the first of each row."""
    length = int((folder / "row_ids").read_text())
    rows = np.fromfile(folder / "rows.bin", "<u2").reshape(-1, length)
    tail = np.fromfile(folder / "tail.bin", "<u2")
    yield rows[:, :-1].reshape(-1)
    yield tail


FORMATS: dict[str, Callable[[Path], Iterator[Ids]]] = {
    "megatron": megatron,
    "datatrove": datatrove,
    "litdata": litdata,
    "mds": mds,
    "datasets": datasets,
    "bare": bare,
}
