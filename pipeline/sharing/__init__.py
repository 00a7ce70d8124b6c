"""Datasets that travel: `curriculum push` and `curriculum pull`.

A dataset is moved between a folder and a place: another folder, a prefix of an object store, a repository or a bucket
of the Hugging Face Hub. Read in this order: `place.py` (what a place can do), `folder_place.py`, `store_place.py`; of
the Hub `hub_address.py`, `hub_limits.py`, `hub_client.py`, `hub_failures.py`, `hub_repository.py`, `hub_commits.py`,
`hub_arrivals.py`, `hub_download.py`, `hub_place.py`, `hub_bucket.py`; `open_place.py`; `ranges.py`, `selection.py`
(which shards); `contents.py`, `digests.py`, `counting.py`, `batches.py`, `moved.py`; `seek_table.py` and `frames.py`
(compressed shards), `signature.py` (who vouches for a dataset); `offer.py`, `target.py`, `arrivals.py`, `staging.py`,
`beside.py`, `pull.py`; `removals.py` (what goes), `holding.py`, `departures.py`, `enclosures.py`, `push.py`.
"""
