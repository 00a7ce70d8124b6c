"""One shard: an Arrow IPC file whose single record batch is read as numpy views.

In:  the path of a shard and what the manifest says about it.
Out: `Shard`, read-only views of the mapped file: tokens [num_rows, seq_len + 1], doc_starts, offset, document, and
where rows are packed num_tokens, piece_offset, piece_document.
Guarantee: nothing is copied, and a file that is truncated, compressed or not ours is refused before it is mapped into
a training loop (reading past the end of a truncated mapping kills the process with SIGBUS).

    seq_len 4, two rows of the stream 5 6 7 0 8 9 1 0 2 (0 is the EOS)
    tokens      [[5 6 7 0 8], [8 9 1 0 2]]     neighbours share one token: each token is a target once
    doc_starts  [[4], [4]]                     positions >= 1 where a document begins
    offset      [0, 4]      document [0, 1]    position in the stream, ordinal of the document at that position

    packed, seq_len 7: pieces 5 6 0 of document 0 and 8 9 1 of document 1, then padding with the EOS
    tokens [5 6 0 8 9 1 0 0]   num_tokens 6   doc_starts [3]   piece_offset [3]   piece_document [1]

The same file opens with pyarrow, polars, duckdb and `datasets`, without any code of this project.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pyarrow as pa

from curriculum.arrow_layout import Compressed, NoShard, require_plain_batch
from curriculum.errors import DataError
from curriculum.printable import one_line, printable_text
from curriculum.regular_file import require_regular

_Item = TypeVar("_Item", bound=np.generic)
_REPAIR = "Copy the shard again, or build the dataset again with --overwrite."
_MOST_COLUMNS, _MOST_SHOWN = 16, 400
"""Of a schema in a message."""
COMPRESSED = ".zst"
"""What follows the name of a shard that `curriculum push --compress` sent: only `curriculum pull` reads such."""
MAX_SHARDS_PER_FOLDER = 1000
"""The Hugging Face Hub allows 10,000 files in a folder; file browsers are slow long before."""


@lru_cache(maxsize=256)  # 7 us, and each first touch of a shard asks for one of a few
def shard_schema(seq_len: int, dtype: str, packed: bool = False) -> pa.Schema:
    """Schema of a shard: four columns, none nullable; seven where rows are packed.

    Args:
        seq_len: inputs of a row; `seq_len + 1` tokens are stored.
        dtype: "uint16" or "uint32".
        packed: rows are pieces laid end to end, then padding.
    """
    token = pa.field("item", pa.uint16() if dtype == "uint16" else pa.uint32(), nullable=False)
    position = pa.field("item", pa.uint32(), nullable=False)
    columns = [
        pa.field("tokens", pa.list_(token, seq_len + 1), nullable=False),
        pa.field("doc_starts", pa.list_(position), nullable=False),
        pa.field("offset", pa.uint64(), nullable=False),
        pa.field("document", pa.uint64(), nullable=False),
    ]
    if packed:
        of_piece = pa.list_(pa.field("item", pa.uint64(), nullable=False))
        columns += [
            pa.field("num_tokens", pa.uint32(), nullable=False),
            pa.field("piece_offset", of_piece, nullable=False),
            pa.field("piece_document", of_piece, nullable=False),
        ]
    return pa.schema(columns)


def token_dtype(vocab_size: int) -> Literal["uint16", "uint32"]:
    """ "uint16" while every id fits, else "uint32"."""
    return "uint16" if vocab_size <= 65536 else "uint32"


def token_itemsize(dtype: str) -> int:
    """Bytes of a stored token."""
    return 2 if dtype == "uint16" else 4


def row_bytes(seq_len: int, dtype: str, packed: bool = False) -> int:
    """Bytes of a stored row: tokens, offset, document and one list offset; 4 more for each document start in it.

    Packed rows add num_tokens and two list offsets, and 16 more bytes for each further piece.
    """
    return (seq_len + 1) * token_itemsize(dtype) + 8 + 8 + 4 + (4 + 2 * 4 if packed else 0)


def phase_folder(phase_index: int, seq_len: int) -> str:
    """`phases/00000-len0000008`: the folder of a phase, relative to the dataset."""
    return f"phases/{phase_index:05d}-len{seq_len:07d}"


def config_name(phase_index: int, seq_len: int) -> str:
    """`phase-00000-len0000008`: the name of a phase for `datasets.load_dataset`."""
    return f"phase-{phase_index:05d}-len{seq_len:07d}"


def shard_path(folder: str, shard_index: int, num_shards: int) -> str:
    """Path of a shard relative to the dataset; numbered sub-folders once a folder would hold more than 1,000."""
    if num_shards > MAX_SHARDS_PER_FOLDER:
        folder = f"{folder}/{shard_index // MAX_SHARDS_PER_FOLDER:05d}"
    return f"{folder}/shard-{shard_index:06d}.arrow"


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """Read-only numpy views of one mapped shard; they keep the map alive for as long as they live."""

    tokens: np.ndarray[Any, Any]
    """uint16 or uint32 [num_rows, seq_len + 1]"""
    doc_positions: np.ndarray[Any, np.dtype[np.uint32]]
    """uint32 [num_doc_starts], row after row"""
    doc_offsets: np.ndarray[Any, np.dtype[np.int32]]
    """int32 [num_rows + 1]: row i owns doc_positions[doc_offsets[i] : doc_offsets[i + 1]]"""
    offset: np.ndarray[Any, np.dtype[np.uint64]]
    """uint64 [num_rows]: stream position of the row's first token"""
    document: np.ndarray[Any, np.dtype[np.uint64]]
    """uint64 [num_rows]: ordinal of the document that holds the row's first token"""
    data_offset: int
    """byte of the file where the token values begin"""
    num_tokens: np.ndarray[Any, np.dtype[np.uint32]] | None = None
    """uint32 [num_rows]: stored tokens before the padding, 2 to seq_len + 1; None where rows are not packed"""
    piece_offset: np.ndarray[Any, np.dtype[np.uint64]] | None = None
    """uint64 [num_doc_starts], parallel to doc_positions: stream position of the piece that begins there; or None"""
    piece_document: np.ndarray[Any, np.dtype[np.uint64]] | None = None
    """uint64 [num_doc_starts], parallel to doc_positions: ordinal of the piece's document; or None"""


def missing_shard(where: str, *, compressed: bool) -> str:
    """The sentence for a shard that is not where the manifest says.

    Args:
        where: its path or address.
        compressed: there is one of this name with `COMPRESSED` behind it.
    """
    if compressed:
        return (
            f"{where}: is there only as {COMPRESSED}, because the dataset was pushed with --compress: rows are read in "
            f"place, of plain shards. Get it with `curriculum pull` and open the folder."
        )
    return (
        f"{where}: the shard is missing. If the dataset was pulled in part, `curriculum pull` brings the rest; else "
        f"copy it again from where the dataset came from, or build it again with --overwrite."
    )


def open_shard(
    path: Path,
    *,
    seq_len: int,
    dtype: str,
    num_rows: int,
    num_bytes: int,
    data_offset: int | None = None,
    packed: bool = False,
) -> Shard:
    """Map a shard and check everything that can be checked without reading the tokens.

    Args:
        path: the file.
        seq_len, dtype, num_rows, num_bytes, data_offset: what the manifest says; `data_offset=None` skips that check
            (the writer asks for it).
        packed: the manifest requires "packed", and the shard is one of a phase: held-out rows are plain.

    Raises:
        DataError: the file is missing, has another size, is no Arrow file, is compressed or has another layout; or
            the pieces of a packed row do not fit it, which would make its labels wrong.
    """
    try:
        state = path.stat()
    except FileNotFoundError:
        raise DataError(missing_shard(str(path), compressed=Path(f"{path}{COMPRESSED}").exists())) from None
    except OSError as error:
        raise DataError(f"{path}: the shard cannot be read: {error.strerror}. Make it readable.") from error
    require_regular(path, state)  # a named pipe would block, a device has no end
    size = state.st_size
    if size != num_bytes:
        raise DataError(
            f"{path}: {size:,} bytes on disk, the manifest says {num_bytes:,}. The copy is incomplete or another "
            f"file: copy it again, or build the dataset again with --overwrite."
        )
    batch, base = _map_single_batch(path, shard_schema(seq_len, dtype, packed))
    if batch.num_rows != num_rows:
        raise DataError(f"{path}: {batch.num_rows:,} rows on disk, the manifest says {num_rows:,}. Copy it again.")
    shard = _views(path, batch, base, size, data_offset)
    return _with_pieces(path, shard, batch) if packed else shard


def _map_single_batch(path: Path, expected: pa.Schema) -> tuple[pa.RecordBatch, int]:
    """The one record batch of a file and the address where the mapped file begins."""
    try:
        whole = pa.memory_map(str(path)).read_buffer()
        require_plain_batch(memoryview(whole))
        reader = pa.ipc.open_file(whole)
        if not reader.schema.equals(expected):
            raise DataError(
                f"{path}: its columns are {_one_line(reader.schema)}, the manifest asks for {_one_line(expected)}. "
                f"This is another shard: copy the right one."
            )
        batch = reader.get_batch(0)
        batch.validate(full=True)
    except Compressed:
        raise compressed_shard(path) from None
    except (NoShard, pa.ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"{path}: not a readable Arrow file ({one_line(error)}). Copy it again, or build the dataset again with "
            f"--overwrite."
        ) from None
    return batch, whole.address


def compressed_shard(where: object) -> DataError:
    """The sentence for a shard that would have to be decompressed into memory."""
    return DataError(
        f"{where}: the shard is compressed, which rules out reading it in place. Use the uncompressed shards that "
        f"`curriculum build` writes."
    )


def _views(path: Path, batch: pa.RecordBatch, base: int, size: int, data_offset: int | None) -> Shard:
    # Buffers of a column: validity and values; of a list: validity, list offsets (none where its size is fixed),
    # validity of the items, items.
    columns = batch.columns
    buffers = [column.buffers() for column in columns]
    if any(of_column[0] is not None or of_column[-2] is not None for of_column in buffers):
        raise DataError(f"{path}: a column holds nulls, which a shard never does. Copy the shard again.")
    (tokens, doc_starts), data = columns[:2], buffers[0][-1]
    if data is None or not base <= data.address < base + size:
        raise DataError(f"{path}: its numbers are big-endian, which rules out reading it in place. Build it anew.")
    found = data.address - base
    if data_offset is not None and found != data_offset:
        raise DataError(f"{path}: token values begin at byte {found}, the manifest says {data_offset}. Copy it again.")
    num_rows, row_tokens = len(tokens), tokens.type.list_size
    dtype = np.uint16 if tokens.type.value_type == pa.uint16() else np.uint32
    doc_offsets = np.frombuffer(buffers[1][1], np.int32, num_rows + 1)
    doc_positions = _items(doc_starts, buffers[1], np.uint32)
    if len(doc_positions) and not (
        np.minimum.reduce(doc_positions) >= 1 and np.maximum.reduce(doc_positions) < row_tokens
    ):
        outside = doc_positions[(doc_positions < 1) | (doc_positions >= row_tokens)][0]
        raise DataError(f"{path}: doc_starts holds the position {outside}, expected 1 to {row_tokens - 1}. {_REPAIR}")
    return Shard(
        tokens=np.frombuffer(data, dtype, num_rows * row_tokens).reshape(num_rows, row_tokens),
        doc_positions=doc_positions,
        doc_offsets=doc_offsets,
        offset=np.frombuffer(buffers[2][-1], np.uint64, num_rows),
        document=np.frombuffer(buffers[3][-1], np.uint64, num_rows),
        data_offset=found,
    )


def _with_pieces(path: Path, shard: Shard, batch: pa.RecordBatch) -> Shard:
    """The three columns of packed rows; checked as far as labels depend on them, in O(rows)."""
    seq_len = shard.tokens.shape[1] - 1
    columns = [batch.column(name) for name in ("piece_offset", "piece_document")]
    buffers = [column.buffers() for column in columns]
    for name, column, of_column in zip(("piece_offset", "piece_document"), columns, buffers, strict=True):
        offsets = np.frombuffer(of_column[1], np.int32, batch.num_rows + 1)
        if len(column.values) != len(shard.doc_positions) or not np.array_equal(offsets, shard.doc_offsets):
            raise DataError(
                f"{path}: the lists of {name} and doc_starts have different lengths, and a packed row has one entry "
                f"of each for every piece but its first. {_REPAIR}"
            )
    num_tokens = np.frombuffer(batch.column("num_tokens").buffers()[-1], np.uint32, len(shard.tokens))
    wrong = (num_tokens < 2) | (num_tokens > seq_len + 1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(
            f"{path}: row {row} has num_tokens {num_tokens[row]}, expected 2 to {seq_len + 1} in rows of {seq_len} "
            f"inputs. {_REPAIR}"
        )
    return replace(
        shard,
        num_tokens=num_tokens,
        piece_offset=_items(columns[0], buffers[0], np.uint64),
        piece_document=_items(columns[1], buffers[1], np.uint64),
    )


def _items(column: pa.Array, buffers: list[Any], dtype: type[_Item]) -> np.ndarray[Any, np.dtype[_Item]]:
    """[number of items], row after row; a column without items may have no buffer for them."""
    count = len(column.values)
    return np.frombuffer(buffers[-1], dtype, count) if count else np.empty(0, dtype)


def _one_line(schema: pa.Schema) -> str:
    try:
        text = ", ".join(f"{field.name}: {field.type}" for field in islice(schema, _MOST_COLUMNS))
    except UnicodeDecodeError:  # a flipped bit in a name
        return "of unreadable names"
    return printable_text(text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}...")
