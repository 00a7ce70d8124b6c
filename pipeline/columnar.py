"""The texts, or the lists of ids, of one column: Parquet files, Arrow IPC files and streams, folders of `datasets`.

In: a file, a row range and the name of the column. Out: a `Record` per row, a `BadRecord` per row without a
text or per part that is damaged. Guaranteed: ranges as `split_units` makes them give the same records and
bad records as the whole file (what concerns all of it is said by the range that starts at row 0); strings
are decoded one by one from the buffers, so that memory is that of one batch and one damaged string is one
bad record.

    column "text" of a.parquet: ["x", null, "z"]
    read_column(a_parquet, 0, 3, "text")  ->  Record "x" at 0, BadRecord "row 1", Record "z" at 2
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from curriculum.errors import BadRecordError
from pipeline.files.address import is_url
from pipeline.folders import InputFile, printable
from pipeline.input_bytes import open_input
from pipeline.records import BadRecord, Record, bad_record, name_list, utf8_reason
from pipeline.tokenized.lists import is_list_of_ids

# What pyarrow raises for damaged files: its own errors, or OSError from inside its decoders.
DAMAGE = (pa.ArrowException, OSError)
# What `datasets` raises on top of that for folders whose JSON files contradict the rest.
UNLOADABLE = (ValueError, LookupError, TypeError)
READ_BYTES = 1 << 20
BATCH_BYTES = 16 << 20
# Dictionary pages hide the real size of a batch: 1,024 documents are enough to make its cost invisible.
BATCH_ROWS = 1024


class ColumnError(Exception):
    """Something about the whole file: of files, said once, by the range that starts at row 0."""


def read_column(file: InputFile, start: int, stop: int, text_key: str) -> Iterator[Record | BadRecord]:
    """Records of rows [start, stop) of the column `text_key`; of all rows for 0, 0."""
    yield from read_arrays(file, start, _arrays(file, start, stop or 1 << 63, text_key, require_text), text_key)


def read_arrays(
    file: InputFile, start: int, arrays: Iterator[tuple[int, Any]], text_key: str
) -> Iterator[Record | BadRecord]:
    """Records of (first row, array of texts), from row `start` on; a string instead says what is wrong there."""
    row = start
    try:
        for row, values in arrays:
            if isinstance(values, str):
                yield bad_record(file.path, f"row {row}", values)
            else:
                yield from _texts(file, row, values, text_key)
                row += len(values)
    except ColumnError as error:
        if start == 0:
            yield bad_record(file.path, "row 0", str(error))
    except DAMAGE as error:
        _raise_unless_damage(error)
        reason = f"is damaged or cut off from here on, no row after it can be read ({error}); copy it again"
        yield bad_record(file.path, f"row {row}", reason)


def _raise_unless_damage(error: Exception) -> None:
    """Passes on what the system refused (a number says which): that is no fault of the file's content."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error


def row_groups(file: InputFile) -> list[tuple[int, int]] | None:
    """(rows, decompressed bytes) of each row group; None when the file cannot be read."""
    import pyarrow.parquet as pq

    try:
        with open_input(file, jumps=True) as source:
            metadata = pq.read_metadata(source)
    except DAMAGE:
        return None
    groups = (metadata.row_group(index) for index in range(metadata.num_row_groups))
    return [(int(group.num_rows), int(group.total_byte_size)) for group in groups]


def count_rows(file: InputFile) -> int | None:
    """Rows of an Arrow file or `datasets` folder; None when it cannot be read, or not cheaply in parts."""
    if is_url(file.path):
        return None  # the lengths are in the batches: all of the file would be read for them
    try:
        if file.kind == "datasets":
            return len(_load_dataset(file.path, file.mtime_ns))
        with pa.memory_map(file.path) as source:
            source.seek(0)
            base, size = source.read_buffer(1).address, source.size()
            num_rows = 0
            for batch in _batches(source, None, require_text):
                buffers = [b for column in batch.columns for b in column.buffers() if b is not None and b.size]
                # A buffer outside the map was decompressed: every part would decompress all the others.
                if not all(base <= buffer.address < base + size for buffer in buffers):
                    return None
                num_rows += batch.num_rows
    except (*DAMAGE, *UNLOADABLE):
        return None
    return num_rows


def read_id_lists(file: InputFile, start: int, stop: int, key: str) -> Iterator[tuple[int, Any]]:
    """(first row, array of lists of ids) of the pieces of rows [start, stop); all rows for 0, 0.

    Raises:
        BadRecordError: the file or a part of it is damaged, or the column is not there or of another type.
    """
    row = start
    try:
        for row, values in _arrays(file, start, stop or 1 << 63, key, _require_ids):
            if isinstance(values, str):
                raise ColumnError(values)
            yield row, values.storage if isinstance(values, pa.ExtensionArray) else values
    except ColumnError as error:
        raise BadRecordError(f"{printable(file.path)}, row {row}: {error}.") from None
    except DAMAGE as error:
        _raise_unless_damage(error)
        raise BadRecordError(
            f"{printable(file.path)}, row {row}: is damaged or cut off from here on ({error}); copy it again."
        ) from None


def _require_ids(schema: Any, key: str) -> None:
    names = list(schema.names)
    if names.count(key) != 1:
        raise ColumnError(
            f'has no column "{key}" of ids; its columns are {name_list(names)}: name the right one with --ids-key'
        )
    kind = schema.field(key).type
    kind = getattr(kind, "storage_type", kind)
    if not is_list_of_ids(kind):
        raise ColumnError(
            f'has a column "{key}" of type {kind}, and ids must be lists of integers; name another one with --ids-key'
        )


def _arrays(
    file: InputFile, start: int, stop: int, key: str, require: Callable[[Any, str], None]
) -> Iterator[tuple[int, Any]]:
    """(first row, array of texts) of the pieces of [start, stop); a string instead says what is wrong."""
    if file.kind == "parquet":
        return _parquet_arrays(file, start, stop, key, require)
    if file.kind == "arrow":
        return _arrow_arrays(file, start, stop, key, require)
    return _dataset_arrays(file, start, stop, key, require)


def _parquet_arrays(
    file: InputFile, start: int, stop: int, key: str, require: Callable[[Any, str], None]
) -> Iterator[tuple[int, Any]]:
    """Row groups are independent: a damaged one is one bad record, and the next is read."""
    import pyarrow.parquet as pq

    with open_input(file, jumps=True) as source:
        try:
            parquet = pq.ParquetFile(source, buffer_size=READ_BYTES, pre_buffer=False, page_checksum_verification=True)
        except DAMAGE as error:
            _raise_unless_damage(error)
            raise ColumnError(f"is no complete Parquet file ({error}); copy it again") from error
        require(parquet.schema_arrow, key)
        first = 0
        for index in range(parquet.metadata.num_row_groups):
            group = parquet.metadata.row_group(index)
            row = first
            first += group.num_rows
            if not start <= row < stop:
                continue
            rows = min(BATCH_ROWS, max(1, BATCH_BYTES * group.num_rows // max(1, group.total_byte_size)))
            try:
                for batch in parquet.iter_batches(rows, [index], columns=[key], use_threads=False):
                    yield row, batch.column(0)
                    row += batch.num_rows
            except DAMAGE as error:
                _raise_unless_damage(error)
                yield (
                    row,
                    f"is damaged from here to the end of row group {index} ({error}); copy it again",
                )


def _arrow_arrays(
    file: InputFile, start: int, stop: int, key: str, require: Callable[[Any, str], None]
) -> Iterator[tuple[int, Any]]:
    if file.size == 0:
        raise ColumnError("is empty, which no Arrow file is: it was probably cut off; copy it again")
    with _arrow_source(file) as source:
        row = 0
        try:
            for batch in _batches(source, key, require):
                low, high = max(start - row, 0), min(stop - row, batch.num_rows)
                if low < high:
                    yield row + low, batch.column(0).slice(low, high - low)
                row += batch.num_rows
                if row >= stop:
                    return
        except DAMAGE as error:
            _raise_unless_damage(error)
            if row == 0:
                raise ColumnError(f"is no complete Arrow file or stream ({error}); copy it again") from error
            raise


def _arrow_source(file: InputFile) -> Any:
    return pa.PythonFile(open_input(file), "r") if is_url(file.path) else pa.memory_map(file.path)


def _batches(source: Any, key: str | None, require: Callable[[Any, str], None]) -> Iterator[Any]:
    """The record batches of an IPC file or stream, all columns of them or just the one that is read."""
    is_file = source.read_at(6, 0) == b"ARROW1"
    source.seek(0)  # reading at a place moves a file that is not mapped
    open_ipc = pa.ipc.open_file if is_file else pa.ipc.open_stream
    reader = open_ipc(source)
    if key is not None:
        require(reader.schema, key)
        fields = [reader.schema.get_field_index(key)]
        source.seek(0)
        reader = open_ipc(source, options=pa.ipc.IpcReadOptions(included_fields=fields))
    batches = (reader.get_batch(index) for index in range(reader.num_record_batches)) if is_file else reader
    for batch in batches:
        batch.validate()  # cheap: that the buffers are as long as the lengths say
        yield batch
    # pyarrow takes a stream that was cut between two batches for a complete one.
    if not is_file and source.read_at(4, source.size() - 4) != bytes(4):
        raise pa.ArrowInvalid("the stream has no end marker")


def _dataset_arrays(
    file: InputFile, start: int, stop: int, key: str, require: Callable[[Any, str], None]
) -> Iterator[tuple[int, Any]]:
    try:
        dataset = _load_dataset(file.path, file.mtime_ns)
    except (*DAMAGE, *UNLOADABLE) as error:
        raise ColumnError(f"cannot be loaded by `datasets` ({error}); save it again") from error
    require(dataset.data.schema, key)
    texts = dataset.select_columns([key]).with_format("arrow")
    for row in range(start, min(stop, len(dataset)), BATCH_ROWS):
        first = row
        for values in texts[row : min(row + BATCH_ROWS, stop, len(dataset))].column(0).chunks:
            yield first, values
            first += len(values)


@lru_cache(maxsize=1)
def _load_dataset(path: str, mtime_ns: int) -> Any:
    """Kept for the next unit: opening thousands of shards takes seconds. `mtime_ns` tells folders apart."""
    import datasets

    datasets.disable_progress_bars()  # workers would draw theirs across each other
    return datasets.load_from_disk(path, keep_in_memory=False)


def require_text(schema: Any, text_key: str) -> None:
    """Refuse columns among which there are no texts under that name; `read_arrays` makes it a bad record."""
    names = list(schema.names)
    if names.count(text_key) != 1:
        number = "no column" if text_key not in names else f"{names.count(text_key)} columns"
        raise ColumnError(
            f'has {number} "{text_key}"; its columns are {name_list(names)}: name the right one with --text-key'
        )
    kind = schema.field(text_key).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else getattr(kind, "storage_type", kind)
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or _is_view(kind)):
        raise ColumnError(
            f'has a column "{text_key}" of type {kind}, and texts must be strings; cast it, or name another '
            f"column with --text-key"
        )


def _is_view(kind: Any) -> bool:
    return bool(hasattr(pa.types, "is_string_view") and pa.types.is_string_view(kind))


def _texts(file: InputFile, row: int, values: Any, text_key: str) -> Iterator[Record | BadRecord]:
    for start in range(0, len(values), BATCH_ROWS):
        piece = values.slice(start, BATCH_ROWS)
        piece = piece.storage if isinstance(piece, pa.ExtensionArray) else piece
        yield from _piece_texts(file, row + start, piece, text_key)


def _piece_texts(file: InputFile, row: int, piece: Any, text_key: str) -> Iterator[Record | BadRecord]:
    """Decodes up to BATCH_ROWS strings straight from the buffers."""
    if isinstance(piece, pa.DictionaryArray):
        picks = piece.indices.to_pylist()
        offsets, data = _buffers(piece.dictionary)
    else:
        is_valid = piece.is_valid().to_pylist() if piece.null_count else [True] * len(piece)
        picks = [index if valid else None for index, valid in enumerate(is_valid)]
        offsets, data = _buffers(piece)
    for position, pick in enumerate(picks, row):
        if pick is None:
            reason = f'is null in column "{text_key}", and a text must be a string'
            yield bad_record(file.path, f"row {position}", reason)
            continue
        if not 0 <= pick < len(offsets) - 1 or not 0 <= offsets[pick] <= offsets[pick + 1] <= len(data):
            yield bad_record(file.path, f"row {position}", "points outside the file's data; copy it again")
            continue
        try:
            text = str(data[offsets[pick] : offsets[pick + 1]], "utf-8")
        except UnicodeDecodeError as error:
            yield bad_record(file.path, f"row {position}", utf8_reason(error))
        else:
            yield Record(relative=file.relative, position=position, text=text)


def _buffers(values: Any) -> tuple[Any, memoryview]:
    """(offsets [rows + 1], bytes) of a string array of any layout."""
    if _is_view(values.type):
        values = values.cast(pa.large_string())
    _, offsets, data = values.buffers()
    if len(values) == 0 or offsets is None:
        return [0], memoryview(b"")
    dtype = np.int64 if pa.types.is_large_string(values.type) else np.int32
    window = np.frombuffer(offsets, dtype)[values.offset : values.offset + len(values) + 1]
    # Plain integers are ten times as fast to read one by one. A dictionary may be huge: it stays an array.
    return window.tolist() if len(window) <= BATCH_ROWS + 1 else window, memoryview(data or b"")
