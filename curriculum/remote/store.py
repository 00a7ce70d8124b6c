"""One attempt to read something of a dataset in a store, through fsspec.

In:  an address such as s3://bucket/dataset, and options of its file system.
Out: bytes of a file, its size and what identifies its content.
Guarantee: nothing is tried twice here, and no answer of the store is remembered; `fetcher` owns retries and deadlines.

    store.read("manifest.json", None, 30.0)  ->  b'{"format": ...'
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

from curriculum.errors import ConfigError, DataError
from curriculum.regular_file import MAX_JSON_BYTES
from curriculum.remote.bounded_http import read_http
from curriculum.remote.byte_ranges import Span
from curriculum.remote.failures import http_status, reason

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "hf": "hf"}
"""Protocol -> extra of this package that brings its file system."""
_IDENTITY = (
    "ETag",
    "etag",
    "generation",
    "md5Hash",
    "xet_hash",
    "blob_id",
    "VersionId",
    "LastModified",
    "Last-Modified",
    "updated",
    "created",
    "mtime",
    "ino",
)
"""What file systems of fsspec call a version or a digest of a file."""
_COMMIT = re.compile("[0-9a-f]{40}")


class Identity(NamedTuple):
    """What a store says about a file without reading it."""

    size: int
    version: tuple[str, ...]
    """of every property that changes with the content; () where the store has none"""


class Store:
    """The folder of a dataset in a store."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        """Make a client; nothing is read yet.

        Raises:
            ConfigError: the protocol is unknown, its package is not installed, or an option is wrong.
        """
        self.url = url.rstrip("/")
        protocol = url.partition("://")[0]
        try:
            import fsspec
            from fsspec.core import url_to_fs
        except ImportError:
            raise ConfigError(f"{url}: reading from a store needs fsspec; `pip install fsspec` brings it.") from None
        try:
            self._fs, self._root = url_to_fs(self.url, skip_instance_cache=True, **options)
        except ImportError as error:
            extra = EXTRAS.get(protocol)
            remedy = f"`pip install 'seqlen-curriculum[{extra}]'` brings it" if extra else f"{error}".rstrip(".")
            raise ConfigError(f"{url}: the package for {protocol}:// is not installed: {remedy}.") from None
        except (TypeError, ValueError, KeyError) as error:
            raise ConfigError(f"{url}: no client can be made for this address ({reason(error)}).") from None
        self._is_async = bool(self._fs.async_impl)
        # The default `cat_file` opens a file that reads 5 MiB ahead; each range is one request instead.
        plain = not self._is_async and type(self._fs).cat_file is fsspec.AbstractFileSystem.cat_file
        self._how: dict[str, Any] = {"cache_type": "none"} if plain else {}
        protocols = set(_names(self._fs.protocol))
        self._is_http = bool({"http", "https"} & protocols)
        self._unpacks = bool({"gs", "gcs"} & protocols)
        self._as_stored: set[str] = set()
        self._counting = threading.Lock()
        self.bytes_read = 0
        """of spans"""
        self.immutable = False
        """the address names a commit: files cannot change under it"""

    def pin(self, seconds: float) -> None:
        """On the Hub, continue with the commit that a branch stands at now: it may move while training reads."""
        if not hasattr(self._fs, "resolve_path"):
            return
        at = self._fs.resolve_path(self._root)
        revision = getattr(at, "revision", None)
        if revision is None:  # a bucket has no commits
            return
        if not _COMMIT.fullmatch(revision):
            info = self._fs._api.repo_info(at.repo_id, repo_type=at.repo_type, revision=revision, timeout=seconds)
            revision = info.sha
        folder = "" if at.repo_type == "model" else f"{at.repo_type}s/"
        within = f"/{at.path_in_repo}" if at.path_in_repo else ""
        self._root = f"{folder}{at.repo_id}@{revision}{within}"
        self.immutable = True

    def address(self, path: str) -> str:
        """What a message calls a file of the dataset."""
        return f"{self.url}/{path}"

    def read(self, path: str, span: Span | None, seconds: float, most_bytes: int = MAX_JSON_BYTES) -> bytes:
        """The bytes of a span of a file, or the whole file; fewer if the file ends before.

        A web server that ignores the span gives one byte more than was asked for, and no more are taken.

        Args:
            path: of the file.
            span: None for all of it.
            seconds: asynchronous file systems give up after so long; others have limits of their own.
            most_bytes: that a whole file may have.

        Raises:
            DataError: it has more, or it is stored in a form that the store unpacks on the way.
        """
        if span is not None:
            data = self._ask(path, span, span.stop - span.start + 1, seconds)
            with self._counting:
                self.bytes_read += len(data)
            return data
        try:
            data = self._ask(path, None, most_bytes + 1, seconds)
        except Exception as error:
            if http_status(error) != 416:  # an empty file has no first byte
                raise
            return b""
        if len(data) > most_bytes:
            raise DataError(
                f"{self.address(path)}: more than {most_bytes:,} bytes, and no such file has so many. Do not trust it."
            )
        return data

    def _ask(self, path: str, span: Span | None, most_bytes: int, seconds: float) -> bytes:
        url = f"{self._root}/{path}"
        if span is not None and span.stop <= span.start:
            return b""
        if self._is_http:
            return read_http(self._fs, url, span, most_bytes, seconds)
        self._require_as_stored(path, seconds)
        if span is None:
            # The default `cat_file` asks for the size anyway, when it opens the file.
            size = self._fs.info(url, **self._refreshing()).get("size") if self._how else None
            span = Span(0, most_bytes if size is None else min(int(size), most_bytes))
        return bytes(self._fs.cat_file(url, start=span.start, end=span.stop, **self._how, **self._limit(seconds)))

    def _require_as_stored(self, path: str, seconds: float) -> None:
        """Google's store unpacks what was uploaded with an encoding, however much that gives, and forgets the span."""
        if not self._unpacks or path in self._as_stored:
            return
        encoding = self._fs.info(f"{self._root}/{path}", **self._limit(seconds)).get("contentEncoding")
        if encoding:
            raise DataError(
                f"{self.address(path)}: is stored with the encoding {str(encoding)[:40]!r}, which the store would "
                f"unpack on the way. Upload it without one."
            )
        self._as_stored.add(path)

    def identify(self, path: str, seconds: float) -> Identity:
        """Size and version of a file as the store has it now."""
        info = self._fs.info(f"{self._root}/{path}", **self._refreshing(), **self._limit(seconds))
        if info.get("type") != "file":
            raise FileNotFoundError(path)
        size = info.get("size")
        return Identity(
            -1 if size is None else int(size),
            tuple(f"{name}={info[name]}" for name in _IDENTITY if info.get(name) is not None),
        )

    def _limit(self, seconds: float) -> dict[str, float]:
        return {"timeout": seconds} if self._is_async else {}

    def _refreshing(self) -> dict[str, bool]:
        """s3fs and huggingface_hub may answer from a listing."""
        return {"refresh": True} if not self.immutable and {"s3", "hf"} & set(_names(self._fs.protocol)) else {}


def _names(protocol: str | tuple[str, ...] | list[str]) -> tuple[str, ...]:
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)
