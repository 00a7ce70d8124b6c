"""Datasets that travel: `curriculum push` and `curriculum pull`.

A dataset is moved between a folder and a place: another folder, a prefix of an object store, a repository or a bucket
of the Hugging Face Hub. Read in this order: `place.py` (what a place can do), `seek_table.py` and
`frames.py` (compressed shards), `signature.py` (who vouches for a dataset).
"""
