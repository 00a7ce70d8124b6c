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

_I32, _U32, _BUFFER = Struct("<i"), Struct("<I"), Struct("<qq")
_BLOCK, _HEAD, _TAIL = Struct("<qi4xq"), Struct("<6s"), Struct("<i6s")
_VTABLES = tuple(Struct(f"<{count}H") for count in range(5))
_MAGIC = b"ARROW1"
_RECORD_BATCH = 3
_DICTIONARIES, _BATCHES = 2, 3
"""Fields of a footer."""
_KIND, _HEADER = 1, 2
"""Of a message."""
_BUFFERS, _COMPRESSION = 2, 3
"""Of a record batch."""
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
    # Every first touch of a shard comes through here: few calls, 4 us.
    end = len(file) - 10
    footer_bytes, magic = _TAIL.unpack_from(file, end) if end >= 14 else (0, b"")
    if magic != _MAGIC or _HEAD.unpack_from(file)[0] != _MAGIC:  # 2 us less than to compare slices
        raise NoShard("it does not begin and end as one")
    footer_start = end - footer_bytes
    if not 0 < footer_bytes <= most_footer or footer_start < max(8, tokens_stop):
        raise NoShard(f"its footer has {footer_bytes} bytes")
    footer = file[footer_start:end]
    fields = _fields(footer, _U32.unpack_from(footer)[0])
    if fields[_DICTIONARIES] and _vector(footer, fields[_DICTIONARIES])[1]:
        raise NoShard("it has dictionaries")
    block, count = _vector(footer, fields[_BATCHES]) if fields[_BATCHES] else (0, 0)
    if count != 1:
        raise NoShard(f"{count} record batches, a shard has exactly one")
    at, metadata_bytes, body_bytes = _BLOCK.unpack_from(footer, block)
    body_start = at + metadata_bytes
    if at < 8 or metadata_bytes < 8 or body_bytes < 0 or body_start + body_bytes > footer_start:
        raise NoShard("its record batch lies outside of it")
    if tokens_start is not None and body_start > tokens_start:
        raise NoShard(f"the description of its record batch ends at byte {body_start}, after the first token")
    _require_plain_message(file[at:body_start], body_bytes)


def _require_plain_message(message: memoryview, body_bytes: int) -> None:
    table = message[8:] if _U32.unpack_from(message)[0] == 0xFFFFFFFF else message[4:]
    fields = _fields(table, _U32.unpack_from(table)[0])
    kind, header = fields[_KIND], fields[_HEADER]
    if not kind or table[kind] != _RECORD_BATCH or not header:
        raise NoShard("its record batch is none")
    fields = _fields(table, header + _U32.unpack_from(table, header)[0])
    if fields[_COMPRESSION]:
        raise Compressed("its buffers are compressed")
    first, count = _vector(table, fields[_BUFFERS]) if fields[_BUFFERS] else (0, 0)
    stop = first + count * _BUFFER.size
    if stop > len(table):
        raise NoShard("its list of buffers does not fit it")
    for start, size in _BUFFER.iter_unpack(table[first:stop]):
        if start < 0 or size < 0 or start + size > body_bytes:
            raise NoShard(f"a buffer of {size} bytes at {start} lies outside of its body of {body_bytes} bytes")


def _fields(buffer: memoryview, table: int) -> tuple[int, int, int, int]:
    """Where the first four fields of a table are; 0 for one that is not there."""
    vtable = table - _I32.unpack_from(buffer, table)[0]
    if vtable < 0:  # unpack_from would count from the end
        raise StructError
    size = _VTABLES[1].unpack_from(buffer, vtable)[0]
    if size >= 12:  # its own size, that of the table, and four fields or more
        a, b, c, d = _VTABLES[4].unpack_from(buffer, vtable + 4)
    else:
        count = max(0, (size - 3) // 2)
        a, b, c, d = (*_VTABLES[count].unpack_from(buffer, vtable + 4), 0, 0, 0, 0)[:4]
    return a and table + a, b and table + b, c and table + c, d and table + d


def _vector(buffer: memoryview, field: int) -> tuple[int, int]:
    """Where the entries of a vector begin, and how many there are."""
    start = field + _U32.unpack_from(buffer, field)[0]
    return start + 4, _U32.unpack_from(buffer, start)[0]
