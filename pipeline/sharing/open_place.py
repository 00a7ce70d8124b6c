"""The place that an address names.

In:  a path or an address such as s3://bucket/folder, options of a client, and whether it is pushed to.   Out: `Place`.
Guarantee: an address with a secret is refused; nothing is asked of the place yet; libraries of stores load only where
there is a store.

    open_place("/mnt/share/my-dataset").where       "/mnt/share/my-dataset"
    open_place("s3://bucket/my-dataset").where      "s3://bucket/my-dataset"
"""

from __future__ import annotations

from pathlib import Path

from curriculum.errors import ConfigError
from pipeline.files.address import check_url, is_url
from pipeline.files.storage_options import NO_OPTIONS, StorageOptions
from pipeline.sharing.folder_place import FolderPlace
from pipeline.sharing.place import AT_ONCE, Place


def open_place(
    address: str | Path,
    options: StorageOptions = NO_OPTIONS,
    at_once: int = AT_ONCE,
    *,
    pushing: bool = False,
    private: bool = True,
) -> Place:
    """A place to push to, or to pull from.

    Args:
        pushing: what is missing at the Hub is created, instead of an error.
        private: of what is created there.

    Raises:
        ConfigError: there is a secret in the address, or it names no bucket and no repository.
    """
    if not is_url(address):
        return FolderPlace(Path(address), at_once)
    url = str(address)
    check_url("the address", url)
    if url.lower().startswith("hf:"):
        from pipeline.sharing.hub_address import hub_address
        from pipeline.sharing.hub_bucket import HubBucket
        from pipeline.sharing.hub_place import HubPlace

        named = hub_address(url)
        if named.kind == "buckets":
            return HubBucket(named, options, pushing=pushing, private=private)
        return HubPlace(named, options, at_once, pushing=pushing, private=private)
    if pushing and url.lower().startswith(("http:", "https:")):
        raise ConfigError(f"{url}: a web server is read from only; push to a store or a folder.")
    from pipeline.sharing.store_place import StorePlace

    return StorePlace(url, options, at_once)
