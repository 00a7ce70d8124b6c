"""What an Arrow file says about itself, read before Arrow loads anything of it.

In:  the bytes of a file that somebody else may have made.   Out: nothing, or what rules it out as a shard.
Guarantee: after it, loading the one record batch allocates nothing and points nowhere but into the file: there is one,
uncompressed, without dictionaries, and its buffers lie inside its body, that inside the file. A compressed buffer says
itself how large it gets, so a file of a megabyte could ask Arrow for a terabyte.

Reads the tables of the flatbuffers format, of which Arrow's footer and message are made, as far as that needs: a table
begins with the distance to its vtable, which lists where its fields are, 0 for one that is not there.

    ARROW1.. | message: size, RecordBatch | body | footer: [Block(offset, metadata bytes, body bytes)] | size | ARROW1
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError

_U16, _I32, _U32, _I64 = Struct("<H"), Struct("<i"), Struct("<I"), Struct("<q")
_BLOCK, _BUFFER = Struct("<qi4xq"), Struct("<qq")
_MAGIC = b"ARROW1"
_RECORD_BATCH = 3
MAX_FOOTER_BYTES = (64 << 10) - 10
"""It has about 1 KiB. A remote reader fetches the last 64 KiB, which end with the footer's size and `_MAGIC`."""


class NoShard(ValueError):
    """A file that no writer of shards has written; says why."""


class Compressed(NoShard):
    """Its buffers are compressed."""


def require_plain_batch(
    file: memoryview,
    tokens_start: int | None = None,
    tokens_stop: int = 0,
    *,
    most_footer_bytes: int = MAX_FOOTER_BYTES,
) -> None:
    """Refuse everything but one plain record batch.

    Args:
        file: all of it; the bytes between `tokens_start` and `tokens_stop` are not looked at.
        tokens_start, tokens_stop: where its token values lie; None and 0 where that is to be found out.
        most_footer_bytes: the limit.

    Raises:
        NoShard: what there is instead.
    """
    try:
        _require_plain_batch(file, tokens_start, tokens_stop, most_footer_bytes)
    except (StructError, IndexError):
        raise NoShard("its description of itself points outside of it") from None


def _require_plain_batch(file: memoryview, tokens_start: int | None, tokens_stop: int, most_footer: int) -> None:
    if len(file) < 24 or bytes(file[:6]) != _MAGIC or bytes(file[-6:]) != _MAGIC:
        raise NoShard("it does not begin and end as one")
    footer_bytes = _read(_I32, file, len(file) - 10)
    footer_start = len(file) - 10 - footer_bytes
    if not 0 < footer_bytes <= most_footer or footer_start < max(8, tokens_stop):
        raise NoShard(f"its footer has {footer_bytes} bytes")
    footer = file[footer_start : len(file) - 10]
    root = _read(_U32, footer, 0)
    if _count(footer, _field(footer, root, 2)):
        raise NoShard("it has dictionaries")
    blocks = _field(footer, root, 3)
    if (count := _count(footer, blocks)) != 1:
        raise NoShard(f"{count} record batches, a shard has exactly one")
    at, metadata_bytes, body_bytes = _BLOCK.unpack_from(footer, blocks + _read(_U32, footer, blocks) + 4)
    body_start = at + metadata_bytes
    if at < 8 or metadata_bytes < 8 or body_bytes < 0 or body_start + body_bytes > footer_start:
        raise NoShard("its record batch lies outside of it")
    if tokens_start is not None and body_start > tokens_start:
        raise NoShard(f"the description of its record batch ends at byte {body_start}, after the first token")
    _require_plain_message(file[at:body_start], body_bytes)


def _require_plain_message(message: memoryview, body_bytes: int) -> None:
    table = message[8:] if _read(_U32, message, 0) == 0xFFFFFFFF else message[4:]
    root = _read(_U32, table, 0)
    kind, header = _field(table, root, 1), _field(table, root, 2)
    if not kind or table[kind] != _RECORD_BATCH or not header:
        raise NoShard("its record batch is none")
    batch = header + _read(_U32, table, header)
    if _field(table, batch, 3):
        raise Compressed("its buffers are compressed")
    buffers = _field(table, batch, 2)
    first = buffers + _read(_U32, table, buffers) + 4 if buffers else 0
    stop = first + _count(table, buffers) * _BUFFER.size
    if stop > len(table):
        raise NoShard("its list of buffers does not fit it")
    for start, size in _BUFFER.iter_unpack(table[first:stop]):
        if start < 0 or size < 0 or start + size > body_bytes:
            raise NoShard(f"a buffer of {size} bytes at {start} lies outside of its body of {body_bytes} bytes")


def _field(buffer: memoryview, table: int, number: int) -> int:
    """Where a field of a table is; 0 if it is not there."""
    vtable = table - _read(_I32, buffer, table)
    entry = 4 + 2 * number
    offset = _read(_U16, buffer, vtable + entry) if entry < _read(_U16, buffer, vtable) else 0
    return table + offset if offset else 0


def _count(buffer: memoryview, field: int) -> int:
    """Entries of a vector; 0 if the field is not there."""
    return _read(_U32, buffer, field + _read(_U32, buffer, field)) if field else 0


def _read(number: Struct, buffer: memoryview, at: int) -> int:
    if at < 0:  # unpack_from would count from the end
        raise StructError
    value: int = number.unpack_from(buffer, at)[0]
    return value
