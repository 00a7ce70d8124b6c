"""Datasets that travel: `curriculum push` and `curriculum pull`.

A dataset is moved between a folder and a place: another folder, a prefix of an object store, a repository or a bucket
of the Hugging Face Hub. Read in this order: `place` (what a place can do), `folder_place`, `store_place`; of the Hub
`hub_address`, `hub_limits`, `hub_client`, `hub_failures`, `hub_repository`, `hub_commits`, `hub_arrivals`,
`hub_download`, `hub_place`, `hub_bucket`; `open_place`; `seek_table` and `frames` (compressed shards); `signature` (who
vouches for a dataset); `ranges`, `selection` (which shards); `contents`, `digests`, `batches`, `moved`; `offer`,
`target`, `arrivals`, `pull`; `holding`, `departures`, `push`.
"""
