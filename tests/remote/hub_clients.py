"""Clients of the Hub in this process, as push and pull open them.

In:  an endpoint.   Out: places, whose requests go there and wait for nothing.
"""

from __future__ import annotations

from typing import Any

from pipeline.files.retries import Patience
from pipeline.files.storage_options import StorageOptions, storage_options
from pipeline.sharing.hub_address import hub_address
from pipeline.sharing.hub_place import HubPlace
from remote.hub_stub import TOKEN

SOON = Patience(seconds=5.0, first_pause=0.01, longest_pause=0.05)


def options(endpoint: str, token: str | bool = TOKEN) -> StorageOptions:
    """What --storage-option would give."""
    return storage_options({"endpoint": endpoint, "token": token})


def place(
    endpoint: str, address: str, *, token: str | bool = TOKEN, patience: Patience = SOON, **kind: Any
) -> HubPlace:
    """A repository, with little patience; `pushing=True` to push to it."""
    return HubPlace(hub_address(address), options(endpoint, token), patience=patience, first_contact=patience, **kind)
