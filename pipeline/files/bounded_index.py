"""A web server's list of files, with an end: whoever pulls over HTTP asks a stranger's server for one.

In:  what fsspec makes a session of.   Out: a session that reads a page as far as a limit.
Guarantee: at most `INDEX_BYTES` of a page are held; more are refused in a sentence.

    HTTPFileSystem(get_client=bounded_client)
"""

from __future__ import annotations

from typing import Any

from curriculum.errors import DataError
from curriculum.remote.bounded_http import at_most

INDEX_BYTES = 64 << 20
"""A name and its link take about 200."""


async def bounded_client(**kwargs: Any) -> Any:
    """A session of aiohttp."""
    import aiohttp  # only for http://

    class Answer(aiohttp.ClientResponse):
        async def text(self, encoding: str | None = None, errors: str = "strict") -> str:
            page = await at_most(self, INDEX_BYTES + 1)
            if len(page) > INDEX_BYTES:
                raise DataError(f"{self.url}: the list of its files has more than {INDEX_BYTES:,} bytes.")
            return page.decode(encoding or "utf-8", errors)

    return aiohttp.ClientSession(**{"response_class": Answer, **kwargs})
