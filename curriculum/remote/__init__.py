"""Read a dataset where it lies: s3://, gs://, hf:// and whatever else fsspec has a protocol for.

In:  the address of a finished dataset.   Out: `RemoteStorage`, which a reader uses like a folder.
Guarantee: a rank fetches the byte ranges of its own rows, ahead of use, into a bounded cache of its own process.
Nothing is handed out that was not checked as far as `verify` says, and nothing that fails is silent: a store that
stalls is an error that names the shard.

    reader = curriculum.open("s3://bucket/dataset")        batches are equal to those of a local copy

Read in this order: `byte_ranges` (arithmetic), `failures`, `bounded_http`, `store` (one attempt), `fetcher` (threads,
retries, deadlines), `cache_folder`, `shard_source`, `ranged_shard`, `running_digest`, `cached_shard` (one shard),
`shard_cache` (which of them stay), `read_ahead`, `guess`, `storage`.
"""

from __future__ import annotations

from curriculum.remote.storage import RemoteStorage

__all__ = ["RemoteStorage"]
