"""A web server that sends what it likes: no more than was asked for is taken, and a lie is said at once."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from curriculum.errors import BuildError, CurriculumError, DataError
from curriculum.reader import Reader
from curriculum.remote import RemoteStorage
from curriculum.remote.byte_ranges import Span
from curriculum.remote.store import Store
from pipeline.files.object_store import ObjectFiles
from pipeline.sharing.store_place import StorePlace
from pipeline.summary import summarize
from remote.http_store import files_of

BLOCK = bytes(1 << 20)
BOMB = gzip.compress(bytes(64 << 20))


class Liar:
    """Serves a dataset, but for the file of one name: that one does not end, or is a bomb."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.liar, self.how = files, "", ""
        self.bytes_sent, self.requests = 0, 0
        held = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                name = self.path.removeprefix("/ds").lstrip("/")
                if name == "" and held.liar != "index":
                    self.index()
                elif name == "":
                    self.lie()
                elif held.liar and name.endswith(held.liar):
                    held.requests += self.command == "GET"
                    self.lie()
                elif name not in held.files:
                    self.send_error(404)
                else:
                    data, first, last = held.files[name], 0, -1
                    if asked := self.headers.get("Range"):
                        first, last = map(int, asked.removeprefix("bytes=").split("-"))
                        data = data[first : last + 1]
                    self.send_response(206 if asked else 200)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(b"" if self.command == "HEAD" else data)

            def index(self) -> None:
                page = b'<a href="manifest.json">'
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(page)))
                self.end_headers()
                self.wfile.write(b"" if self.command == "HEAD" else page)

            def lie(self) -> None:
                self.close_connection = True
                self.send_response(206 if "Range" in self.headers else 200)
                if held.how == "bomb":
                    self.send_header("Content-Encoding", "gzip")
                    self.send_header("Content-Length", str(len(BOMB)))
                self.end_headers()
                try:
                    while self.command == "GET":
                        self.wfile.write(BOMB if held.how == "bomb" else BLOCK)
                        held.bytes_sent += len(BOMB if held.how == "bomb" else BLOCK)
                        if held.how == "bomb":
                            return
                except ConnectionError:
                    pass

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/ds"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def liar(small_dataset: Path) -> Iterator[Liar]:
    server = Liar(files_of(small_dataset))
    yield server
    server.close()


def test_a_manifest_that_unpacks_to_gigabytes(liar: Liar) -> None:
    """4 MB of gzip are 4 GB of memory for whoever lets the client unpack them: asked for once, and refused."""
    liar.liar, liar.how = "manifest.json", "bomb"
    with pytest.raises(DataError, match="the server sends it compressed"):
        Reader(RemoteStorage(liar.url))
    assert liar.requests == 1
    with pytest.raises(CurriculumError, match="the server sends it compressed"):
        StorePlace(liar.url).read("manifest.json", 1 << 20)
    with pytest.raises(CurriculumError, match="the server sends it compressed"):
        summarize(liar.url)


def test_a_manifest_that_does_not_end(liar: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than a manifest can have is taken, and the refusal is not tried again."""
    liar.liar = "manifest.json"
    with pytest.raises(DataError, match="more than 268,435,456 bytes, and no such file has so many"):
        Reader(RemoteStorage(liar.url))
    assert liar.requests == 1
    assert liar.bytes_sent < 300 << 20
    with pytest.raises(DataError, match="more than 1,000 bytes"):
        Store(liar.url, {}).read("manifest.json", None, 20.0, 1000)
    with pytest.raises(BuildError, match="more than 1,000 bytes"):
        ObjectFiles(url=liar.url, aside=".aside").read("manifest.json", most_bytes=1000)
    with pytest.raises(BuildError, match="more than 1,000 bytes"):  # of a size that nobody says
        StorePlace(liar.url).read("manifest.json", 1000)
    with pytest.raises(BuildError, match="does not say how many bytes"):
        ObjectFiles(url=liar.url, aside=".aside").local("manifest.json")


def test_a_range_that_does_not_end(liar: Liar, tmp_path: Path) -> None:
    """Of a shard of 1.3 kB; training would stop with all memory taken."""
    liar.liar = ".arrow"
    with pytest.raises(DataError, match="the store ignores byte ranges"):
        Reader(RemoteStorage(liar.url, verify="shard", cache_dir=tmp_path, timeout_seconds=9.0))[0]
    assert liar.bytes_sent < 64 << 20  # what the sockets hold
    assert len(Store(liar.url, {}).read("x.arrow", Span(10, 20), 20.0)) == 11


def test_a_list_of_files_that_does_not_end(liar: Liar) -> None:
    """A pull asks for it."""
    assert StorePlace(liar.url).sizes() == {"manifest.json": len(liar.files["manifest.json"])}
    liar.liar = "index"
    with pytest.raises(BuildError, match="the list of its files has more than"):
        StorePlace(liar.url).sizes()
    assert liar.bytes_sent < 128 << 20
