"""One attempt to write, list or remove something in a store; `curriculum.remote.store` has those to read.

In:  the address of a folder there, and options of its file system.   Out: what the store says now.
Guarantee: nothing is tried twice here and no answer is remembered, also where the client would: listings are fresh.

    bucket.listing("phases", 60.0)  ->  {"phases/00000-len0000008/shard-000000.arrow": Identity(1234, ("ETag=...",))}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fsspec.callbacks import Callback

from curriculum.remote.byte_ranges import Span
from curriculum.remote.failures import http_status
from curriculum.remote.store import Identity, Store
from pipeline.files.bounded_index import bounded_client

BEST_IDENTITY = (
    "ETag",
    "md5Hash",
    "xet_hash",
    "blob_id",
    "generation",
    "etag",
    "Last-Modified",
    "LastModified",
    "updated",
    "mtime",
    "created",
)
"""What names a version of a file, best first: a digest before a time. Listings and single answers both have it."""
SLOWEST_BYTES_PER_SECOND = 1 << 20
"""An upload that is slower is given up and begun again."""


class Bucket(Store):
    """A folder in a store that a build writes."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        """As of `Store`."""
        is_web = url.partition("://")[0] in ("http", "https")
        super().__init__(url, {"get_client": bounded_client, **options} if is_web else options)

    @property
    def root(self) -> str:
        """The folder without its protocol, with the commit that `pin` found."""
        return str(self._root)

    def identify(self, path: str, seconds: float) -> Identity:
        """Size and the best of what names the version, the same that `listing` gives."""
        self._fs.invalidate_cache()
        info = self._fs.info(f"{self._root}/{path}", **self._refreshing(), **self._limit(seconds))
        if info.get("type") != "file":
            raise FileNotFoundError(path)
        return _identity(info)

    def read_range(self, path: str, start: int, stop: int, seconds: float) -> bytes:
        """Bytes [start, stop) of a file, fewer where it ends before."""
        if stop <= start:
            return b""
        try:
            return self.read(path, Span(start, stop), seconds)
        except Exception as error:
            if http_status(error) == 416:  # nothing there: the file ends before `start`
                return b""
            raise

    def upload(self, path: str, local: Path, num_bytes: int, seconds: float, seen: Callable[[int], None]) -> None:
        """Replace a file by one of this machine; `seen` is told of bytes as far as the client tells."""
        limit = self._limit(seconds + num_bytes / SLOWEST_BYTES_PER_SECOND)
        self._fs.put_file(str(local), f"{self._root}/{path}", callback=_Telling(seen), **limit)

    def put(self, path: str, data: bytes, seconds: float) -> None:
        """Replace a small file."""
        self._fs.pipe_file(f"{self._root}/{path}", data, **self._limit(seconds))

    def delete(self, path: str, seconds: float) -> None:
        """Remove a file; it may be gone already."""
        with suppress(FileNotFoundError):
            self._fs.rm_file(f"{self._root}/{path}", **self._limit(seconds))

    def listing(self, under: str, seconds: float) -> dict[str, Identity]:
        """All files below a folder by their names relative to this one; empty if there are none."""
        self._fs.invalidate_cache()
        folder = f"{self._root}/{under}".rstrip("/")
        try:
            found: Mapping[str, Any] = self._fs.find(folder, detail=True, **self._limit(seconds))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        start = len(self._root) + 1
        return {
            name[start:]: _identity(info)
            for name, info in found.items()
            # Consoles make empty objects called `folder/`; and a file of this very name is not below it.
            if info.get("type") == "file" and name.startswith(f"{folder}/") and not name.endswith("/")
        }

    def children(self, under: str, seconds: float) -> list[str]:
        """Names of what is directly below a folder, sorted."""
        self._fs.invalidate_cache()
        folder = f"{self._root}/{under}".rstrip("/")
        try:
            found = self._fs.ls(folder, detail=False, **self._limit(seconds))
        except (FileNotFoundError, NotADirectoryError):
            return []
        names = {name.rstrip("/")[len(folder) + 1 :] for name in found if name.startswith(f"{folder}/")}
        return sorted(names - {""})

    def forget_uploads(self, seconds: float) -> None:
        """Give up uploads in parts that killed processes have begun below this folder: S3 keeps and bills them."""
        if not hasattr(self._fs, "list_multipart_uploads"):
            return
        bucket, _, prefix = self._root.partition("/")
        with suppress(Exception):  # a courtesy: some stores do not have it, some credentials may not
            for begun in self._fs.list_multipart_uploads(bucket, **self._limit(seconds)) or []:
                if begun["Key"].startswith(f"{prefix}/"):
                    what = {"Bucket": bucket, "Key": begun["Key"], "UploadId": begun["UploadId"]}
                    self._fs.call_s3("abort_multipart_upload", **what)


class _Telling(Callback):  # type: ignore[misc,unused-ignore]
    """What a client calls with what it has sent."""

    def __init__(self, seen: Callable[[int], None]) -> None:
        super().__init__()
        self._seen = seen

    def relative_update(self, inc: int = 1) -> None:
        self._seen(inc)


def _identity(info: Mapping[str, Any]) -> Identity:
    size = info.get("size")
    version = next((f"{name}={info[name]}" for name in BEST_IDENTITY if info.get(name)), None)
    return Identity(-1 if size is None else int(size), () if version is None else (version,))
