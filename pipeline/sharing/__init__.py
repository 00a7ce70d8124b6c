"""Datasets that travel: `curriculum push` and `curriculum pull`.

A dataset is moved between a folder and a place: another folder, a prefix of an object store, a repository or a bucket
of the Hugging Face Hub. Read in this order: `place` (what a place can do), `folder_place`, `store_place`, `open_place`;
`ranges`, `selection` (which shards); `contents`, `digests`, `batches`, `moved`; `offer`, `target`, `arrivals`, `pull`;
`holding`, `departures`, `push`.
"""
