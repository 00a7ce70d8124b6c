"""A place in a store as a small value, and the client of this process that goes with it.

In:  an address and options.   Out: what the store answers, tried as long as patience lasts.
Guarantee: a connection pickles as its address and options; each process makes one client per address, when it first
asks something, and never hands it to a fork.

    Connection(url="s3://bucket/x").ask(lambda bucket: bucket.children("", 60.0), "s3://bucket/x", "listed")
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from pipeline.files.bucket import Bucket
from pipeline.files.retries import PATIENT, Patience, persist
from pipeline.files.storage_options import NO_OPTIONS, StorageOptions

T = TypeVar("T")
ATTEMPT_SECONDS = 60.0
"""One request that is not answered by then is given up and sent again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Connection:
    """A folder in a store."""

    url: str
    options: StorageOptions = NO_OPTIONS

    def ask(self, attempt: Callable[[Bucket], T], what: str, doing: str, patience: Patience = PATIENT) -> T:
        """The result of an attempt that succeeds.

        Raises:
            BuildError, ConfigError: as `persist`.
        """

        def connected() -> T:
            return attempt(_bucket(self.url, self.options, os.getpid()))  # some clients connect while they are made

        return persist(connected, what, doing, patience=patience, options=self.options)


@lru_cache(maxsize=64)
def _bucket(url: str, options: StorageOptions, process: int) -> Bucket:
    return Bucket(url, options.values())
