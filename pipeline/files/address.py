"""Open the place that an address names.

In:  a path or a URL such as s3://bucket/dataset.   Out: `Files`.
Guarantee: addresses are compared and joined here alone; one that cannot hold a build is refused before it is used.

    dataset_files("my-dataset").where                  "my-dataset"
    dataset_files("s3://bucket/my-dataset").where      "s3://bucket/my-dataset"
"""

from __future__ import annotations

import re
from pathlib import Path

from curriculum.errors import ConfigError
from pipeline.files.contract import Files
from pipeline.files.disk import DiskFiles
from pipeline.files.storage_options import NO_OPTIONS, StorageOptions
from pipeline.layout import ASIDE
from pipeline.store_names import STORE_ASIDE

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SECRET = re.compile(r"^[^/]*://[^/@[]*:(?![0-9]+(/|$))[^@]*@")
"""A name, a colon, and what is no port number before an @; also behind NAME=, also where the secret holds a slash."""
_COLON = re.compile(r"^[^/]*?(?<![A-Za-z0-9+.-])(s3a?|gc?s)://(?!arn:)[^/]*:", re.IGNORECASE)
"""A colon where a bucket is named: as in s3://key:12/34@bucket, and in no name of a bucket."""
_SIGNED = re.compile(r"://[^?]*\?(.*&)?[^/&=]*(sig|token|credential|secret|passw|key)[^/&=]*=", re.IGNORECASE)
"""A query such as ?X-Amz-Signature=...; another ? is one of a glob."""
_SAME = {"s3a": "s3", "gcs": "gs"}
"""Protocols that name the same store."""


def is_url(address: str | Path) -> bool:
    """Whether it is the address of a store, not a path."""
    return isinstance(address, str) and _URL.match(address) is not None


def url_parts(url: str) -> tuple[str, ...]:
    """Protocol, bucket and names of a URL: two addresses of the same place have the same."""
    protocol, _, rest = url.partition("://")
    return (_SAME.get(protocol.lower(), protocol.lower()), *(part for part in rest.split("/") if part))


def is_below(url: str, other: str) -> bool:
    """Whether a place in a store is another one, or lies in it."""
    outer = url_parts(other)
    return url_parts(url)[: len(outer)] == outer


def refuse_secret(what: str, address: str) -> None:
    """Refuse an address with a password or a signature in it, without a word of it.

    Raises:
        ConfigError: there is one.
    """
    if _SECRET.match(address):
        holds = "a name and a password before an @"
    elif _COLON.match(address):
        holds = "a colon in the name of its bucket, as if a name and a password or a port were given"
    elif _SIGNED.search(address):
        holds = "a token or a signature behind a ?"
    else:
        return
    raise ConfigError(
        f"{what} holds {holds}, and addresses are shown and written into files: give credentials in the environment or "
        f"by --storage-option."
    )


def check_url(what: str, url: str) -> None:
    """Refuse the address of a store that nothing can be read from.

    Raises:
        ConfigError: there is a password in it, or no bucket.
    """
    refuse_secret(what, url)
    protocol, *rest = url_parts(url)
    if protocol == "file":
        raise ConfigError(f"{what} is {url!r}: give the path of the folder itself.")
    if not rest:
        raise ConfigError(f"{what} is {url!r}, which names no bucket; an address is like s3://bucket/folder.")


def check_writable(what: str, url: str) -> None:
    """Refuse the address of a store that a build cannot be written to.

    Raises:
        ConfigError: as `check_url`; or it is a web server, or a repository with commits.
    """
    check_url(what, url)
    protocol, *rest = url_parts(url)
    if protocol in ("http", "https"):
        raise ConfigError(f"{what} is {url!r}: a web server is read from only; give an object store or a folder.")
    if protocol == "hf" and rest[0] != "buckets":
        raise ConfigError(
            f"{what} is {url!r}, a repository, where each file would be a commit of its own. Give a bucket "
            f"(hf://buckets/NAME/BUCKET/folder), or build on a disk and push the finished folder (curriculum push)."
        )


def dataset_files(address: str | Path, options: StorageOptions = NO_OPTIONS) -> Files:
    """The place of a dataset."""
    return _open(address, options, aside=ASIDE)


def store_files(address: str | Path, options: StorageOptions = NO_OPTIONS) -> Files:
    """The place of a token store."""
    return _open(address, options, aside=STORE_ASIDE)


def _open(address: str | Path, options: StorageOptions, *, aside: str) -> Files:
    if not is_url(address):
        return DiskFiles(folder=str(address), aside=aside)
    from pipeline.files.object_store import ObjectFiles  # its libraries load only where there is a store

    return ObjectFiles(url=str(address).rstrip("/"), aside=aside, options=options)
