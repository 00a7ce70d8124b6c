"""A small store on 127.0.0.1 that can be told to misbehave.

In:  files in memory.   Out: GET with ranges and HEAD over HTTP, ETag of the content; every request is noted.
Guarantee: it answers as it is told: with an error, late, never, or only in part.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Request = tuple[str, str, int, int]
"""method, path, and the half-open range of bytes"""


class HttpStore:
    """The server and what it holds."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.requests: list[Request] = []
        self.misbehave: Callable[[Request], str | None] = lambda request: None
        """asked before each answer: None, "drop" (close after half of it), "stall", or a status such as "503" """
        self.delay_seconds = 0.0
        self.stop_stalling = threading.Event()
        store = self

        class Handler(_Handler):
            held = store

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/ds"

    def close(self) -> None:
        """Stop serving."""
        self.stop_stalling.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def bytes_asked(self, suffix: str = ".arrow") -> int:
        """Of all GET requests for such files."""
        return sum(stop - start for method, path, start, stop in self.requests if method == "GET" and suffix in path)


class _Handler(BaseHTTPRequestHandler):
    held: HttpStore
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer("HEAD")

    def do_GET(self) -> None:
        self.answer("GET")

    def answer(self, method: str) -> None:
        data = self.held.files.get(self.path.removeprefix("/ds/"))
        size = len(data) if data is not None else 0
        start, stop = 0, size
        asked = self.headers.get("Range")
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, stop = int(first), int(last) + 1
        request = (method, self.path, start, stop)
        self.held.requests.append(request)
        how = self.held.misbehave(request)
        time.sleep(self.held.delay_seconds)
        if how == "stall":
            self.held.stop_stalling.wait(60)
            self.close_connection = True
        elif how is not None and how.isdigit():
            self.reply(int(how), b"", {})
        elif data is None:
            self.reply(404, b"", {})
        elif start >= size > 0:
            self.reply(416, b"", {})
        else:
            part = data[start:stop]
            headers = {"ETag": f'"{hashlib.md5(data).hexdigest()}"', "Accept-Ranges": "bytes"}
            if asked:
                headers["Content-Range"] = f"bytes {start}-{start + len(part) - 1}/{size}"
            self.reply(206 if asked else 200, part, headers, method == "HEAD", dropped=how == "drop")

    def reply(
        self, status: int, body: bytes, headers: dict[str, str], is_head: bool = False, dropped: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if not is_head:
            self.wfile.write(body[: len(body) // 2] if dropped else body)
        if dropped:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the tests look at `requests`."""


def files_of(dataset: Path) -> dict[str, bytes]:
    """The files of a dataset, by path relative to it."""
    return {path.relative_to(dataset).as_posix(): path.read_bytes() for path in dataset.rglob("*") if path.is_file()}
