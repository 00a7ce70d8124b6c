"""A part of the token store: its index, the facts in it, and its ids.

In:  the documents of one work unit, encoded.
Out: one part: `NAME.tokens` (raw little-endian ids, documents one after the other) and `NAME.arrow` (its index).
Guarantee: a part is named by the fingerprint of what went in; the index is written last, so a part is either there
completely or not at all. Documents lie in the order of a stable 128-bit key, so any range of keys is one slice. A unit
of very much text gives several parts, each of which but the last says that another one follows.

    STORE/parts/3f/3f9c0c...e1.tokens     5 6 7 0 8 9 0 ...
    STORE/parts/3f/3f9c0c...e1.arrow      key_high  key_low  text_hash  start  num_tokens  file  position
                                          0x03...   ...      ...        0      4           0     1204
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import xxhash

from curriculum.arrow_layout import require_plain_batch
from curriculum.errors import BuildError
from pipeline.files.contract import Files
from pipeline.store_names import index_name, tokens_name

INDEX_SCHEMA = pa.schema(
    [
        pa.field(name, pa.uint64(), nullable=False)
        for name in ("key_high", "key_low", "text_hash", "start", "num_tokens", "file", "position")
    ]
)
UInt64Array = np.ndarray[Any, np.dtype[np.uint64]]


@dataclass(frozen=True, kw_only=True, slots=True)
class PartSummary:
    """What a part holds; stored in its index, so that nothing needs to be counted twice."""

    name: str
    documents: int
    tokens: int
    empty_documents: int
    skipped_records: int
    skipped_examples: tuple[str, ...]
    """sentences about the first skipped records, at most 20"""
    text_bytes: int
    """UTF-8 bytes of the documents"""
    content: tuple[int, int]
    """order-independent 128-bit fingerprint of (key, text) of the documents, as two 64-bit sums"""
    tokens_digest: str
    """xxh3-128 of the tokens file"""
    index_digest: str
    """xxh3-128 of the columns of the index"""
    backend: str
    """name and version of the encoder; the bytes do not depend on it"""
    files: tuple[str, ...]
    """relative paths that the index column `file` points into; names of parts in a part that others were merged into"""
    continues: bool = False
    """the unit goes on in the part with the next number"""


@dataclass(frozen=True, kw_only=True, slots=True)
class PartIndex:
    """Columns of the index as uint64 arrays [documents], in key order."""

    key_high: UInt64Array
    key_low: UInt64Array
    text_hash: UInt64Array
    start: UInt64Array
    """position in the tokens file of the document's first token"""
    num_tokens: UInt64Array
    """EOS (and BOS) included"""
    file: UInt64Array
    position: UInt64Array

    def digest(self) -> str:
        """xxh3-128 of all columns."""
        digest = xxhash.xxh3_128()
        for name in INDEX_SCHEMA.names:
            digest.update(np.ascontiguousarray(getattr(self, name)).data)
        return digest.hexdigest()

    def rows(self, chosen: Any) -> PartIndex:
        """The documents that a slice, mask or index array chooses."""
        return PartIndex(**{name: getattr(self, name)[chosen] for name in INDEX_SCHEMA.names})


def write_index(store: Files, index: PartIndex, summary: PartSummary) -> None:
    """Publish the index of a part whose tokens file is on the disk already."""
    facts = asdict(summary)
    if not summary.continues:
        del facts["continues"]  # as it was before units could have several parts
    text = orjson.dumps(facts)
    schema = INDEX_SCHEMA.with_metadata({"part": text, "digest": xxhash.xxh3_128_hexdigest(text)})
    # pa.array(numpy_array) would import pandas, half a second in every worker.
    columns = [np.ascontiguousarray(getattr(index, name)) for name in INDEX_SCHEMA.names]
    arrays = [pa.Array.from_buffers(pa.uint64(), len(c), [None, pa.py_buffer(c)]) for c in columns]
    with store.write(index_name(summary.name)) as file, pa.ipc.new_file(file, schema) as writer:
        writer.write_batch(pa.record_batch(arrays, schema=schema))


def read_index(store: Files, name: str) -> PartIndex:
    """Index of a part: views of the mapped file.

    Raises:
        BuildError: it is missing or unreadable.
    """
    return _open_index(store, name)[1]


def read_part(store: Files, name: str) -> tuple[PartSummary, PartIndex]:
    """Summary and index of a part.

    Raises:
        BuildError: they are missing or unreadable.
    """
    metadata, index = _open_index(store, name)
    try:
        text = metadata[b"part"]
        if metadata[b"digest"].decode() != xxhash.xxh3_128_hexdigest(text):
            raise ValueError("its summary does not fit its digest")
        return _summary(orjson.loads(text)), index
    except (TypeError, KeyError, ValueError) as error:
        raise _unreadable(store, name, error) from None


def _open_index(store: Files, name: str) -> tuple[dict[bytes, bytes], PartIndex]:
    try:
        data = store.buffer(index_name(name))
        require_plain_batch(memoryview(data), most_footer_bytes=len(data))  # which names the files of the part
        reader = pa.ipc.open_file(pa.BufferReader(data))
        batch = reader.get_batch(0)
        metadata: dict[bytes, bytes] = reader.schema.metadata
        columns = {
            field.name: np.frombuffer(batch.column(i).buffers()[1] or b"", np.uint64, batch.num_rows)
            for i, field in enumerate(INDEX_SCHEMA)
        }
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise _unreadable(store, name, error) from None
    return metadata, PartIndex(**columns)


def _unreadable(store: Files, name: str, error: Exception) -> BuildError:
    return BuildError(
        f"{store.address(index_name(name))}: the index of a token store part cannot be read ({error}). "
        f"Delete that file and run the same command again: the part is encoded anew."
    )


def _summary(value: dict[str, Any]) -> PartSummary:
    for name in ("skipped_examples", "content", "files"):
        value[name] = tuple(value[name])
    return PartSummary(**value)


def read_tokens(store: Files, name: str, start: int, out: np.ndarray[Any, Any]) -> None:
    """Fill `out`, of the store's dtype, with the ids of a part from `start` on.

    Raises:
        BuildError: there are fewer.
    """
    done = store.read_into(tokens_name(name), start * out.itemsize, memoryview(out.data).cast("B"))
    if done < out.nbytes:
        begin = start * out.itemsize
        raise BuildError(
            f"{store.address(tokens_name(name))}: ends at byte {begin + done:,}, {begin + out.nbytes:,} are needed: "
            f"the token store is damaged. Delete {store.address(index_name(name))} and run the same command again: "
            f"the part is encoded anew."
        )


def measure_below(store: Files, parts: tuple[str, ...], below: int) -> tuple[int, int]:
    """(documents, tokens) of some parts whose texts hash below a threshold: what it holds out."""
    documents = tokens = 0
    for name in parts if below else ():
        index = read_index(store, name)
        chosen = index.text_hash < below
        documents += int(np.count_nonzero(chosen))
        tokens += int(index.num_tokens[chosen].sum())
    return documents, tokens


def fold_content(index: PartIndex) -> tuple[int, int]:
    """Two 64-bit sums over the documents of mixed (key, text hash); equal for equal sets of documents in any order."""
    lanes = []
    for salt in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F):
        mixed = _mix(index.key_high ^ np.uint64(salt))
        mixed = _mix(mixed ^ index.key_low)
        mixed = _mix(mixed ^ index.text_hash)
        lanes.append(int(mixed.sum(dtype=np.uint64)))
    return lanes[0], lanes[1]


def _mix(words: UInt64Array) -> UInt64Array:
    """Finalizer of splitmix64 (Steele, Lea, Flood 2014): every input bit changes half of the output bits."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
