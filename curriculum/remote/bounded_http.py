"""Read over HTTP, and never more than was asked for: any server may be asked, and may send whatever it likes.

In:  a file system of fsspec for http://, an address, where to begin, and the most bytes to take.   Out: the bytes.
Guarantee: at most so many bytes are held, and the connection is closed behind them, whatever the server says of their
number. What it compressed is refused, not unpacked: 4 MB of it can be 4 GB.

    read_http(fs, "http://host/ds/manifest.json", None, 1001, 20.0)      1,001 bytes of a file that does not end
"""

from __future__ import annotations

from typing import Any

from curriculum.errors import DataError
from curriculum.remote.byte_ranges import Span

BLOCK_BYTES = 1 << 18


def read_http(fs: Any, url: str, span: Span | None, most_bytes: int, seconds: float) -> bytes:
    """The bytes of a span of a file, or of the file from its beginning; fewer if it ends before.

    Args:
        fs: `fsspec.implementations.http.HTTPFileSystem`.
        most_bytes: what comes after them is not waited for.

    Raises:
        DataError: the server compresses, though it was asked not to.
        Exception: whatever the client raises.
    """
    from fsspec.asyn import sync

    data: bytes = sync(fs.loop, _read, fs, url, span, most_bytes, timeout=seconds)
    return data


async def _read(fs: Any, url: str, span: Span | None, most_bytes: int) -> bytes:
    session = await fs.set_session()
    headers = {**fs.kwargs.get("headers", {}), "Accept-Encoding": "identity"}
    if span is not None:
        headers["Range"] = f"bytes={span.start}-{span.stop - 1}"
    options = {**fs.kwargs, "headers": headers, "auto_decompress": False}
    async with session.get(fs.encode_url(url), **options) as answer:
        if answer.status == 404:
            raise FileNotFoundError(url)
        answer.raise_for_status()
        encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise DataError(
                f"{url}: the server sends it compressed (Content-Encoding: {encoding[:40]!r}) though it was asked not "
                f"to, and what it would unpack to is not known. Have the server send its files as they are."
            )
        return await at_most(answer, most_bytes)


async def at_most(answer: Any, most_bytes: int) -> bytes:
    """The first bytes of the body of an answer of aiohttp; the connection is closed if there may be more."""
    blocks: list[bytes] = []
    left = most_bytes
    while left and (block := await answer.content.read(min(left, BLOCK_BYTES))):
        blocks.append(block)
        left -= len(block)
    if not left:
        answer.close()  # instead of reading what else is on its way
    return b"".join(blocks)
