"""The place that an address names.

In:  a path or an address such as s3://bucket/folder, and options of a client.   Out: `Place`.
Guarantee: an address with a secret is refused; nothing is asked of the place yet; libraries of stores load only where
there is a store.

    open_place("/mnt/share/my-dataset").where       "/mnt/share/my-dataset"
    open_place("s3://bucket/my-dataset").where      "s3://bucket/my-dataset"
"""

from __future__ import annotations

from pathlib import Path

from pipeline.files.address import check_url, is_url
from pipeline.files.storage_options import NO_OPTIONS, StorageOptions
from pipeline.sharing.folder_place import FolderPlace
from pipeline.sharing.place import AT_ONCE, Place


def open_place(address: str | Path, options: StorageOptions = NO_OPTIONS, at_once: int = AT_ONCE) -> Place:
    """A place to push to, or to pull from.

    Raises:
        ConfigError: there is a secret in the address, or it names no bucket.
    """
    if not is_url(address):
        return FolderPlace(Path(address), at_once)
    url = str(address)
    check_url("the address", url)
    from pipeline.sharing.store_place import StorePlace

    return StorePlace(url, options, at_once)
