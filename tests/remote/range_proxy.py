"""Gives ranges of what a server gives only whole: olah ignores the Range header for repositories of its own.

In:  the port of a server.   Out: a port of its own, and the ranges that were asked for. Tests may have it refuse, or
wait.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class RangeProxy:
    """Passes requests on, and cuts the answers."""

    def __init__(self, port: int) -> None:
        self.ranges: list[tuple[str, str]] = []
        self.refusals: dict[str, tuple[int, str]] = {}
        """part of a path -> (status, the Hub's own code of the error) of what is answered in place of the server"""
        self.before: Callable[[str], object] = lambda path: None
        """called with the path of every request, before it is passed on"""
        self.paths: list[str] = []
        """of every GET"""
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                proxy.before(self.path)
                for part, (refused, code) in proxy.refusals.items():
                    if part in self.path:
                        self._refuse(refused, code)
                        return
                asked = self.headers.get("Range")
                if self.command == "GET":
                    proxy.paths.append(self.path)
                upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                size = int(self.headers.get("Content-Length", 0))
                headers = {name: value for name, value in self.headers.items() if name != "Range"}
                upstream.request(self.command, self.path, self.rfile.read(size) if size else None, headers)
                answer = upstream.getresponse()
                status, body = answer.status, answer.read()
                length = answer.getheader("Content-Length", str(len(body)))
                if asked:
                    proxy.ranges.append((self.path, asked))
                if asked and status == 200:
                    first, _, last = asked.removeprefix("bytes=").partition("-")
                    status, body = 206, body[int(first) : int(last) + 1]
                self.send_response(status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                        self.send_header(name, value)
                self.send_header("Content-Length", length if self.command == "HEAD" else str(len(body)))
                self.end_headers()
                upstream.close()
                with suppress(ConnectionError):  # a client may be killed while it waits
                    if self.command != "HEAD":
                        self.wfile.write(body)

            def _refuse(self, status: int, code: str) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(status)
                self.send_header("X-Error-Code", code)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_HEAD = do_POST = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.port = int(self._server.server_address[1])

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
