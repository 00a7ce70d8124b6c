"""Corpora that were tokenized elsewhere: files of ids to documents, and the check of the tokenizer that they name.

In reading order: `id_array.py` (ids in a file, and the one place where files are opened), `megatron.py`, `raw.py`,
`datatrove.py`, `lists.py` (a format each), `formats.py` (which file is read how), `plain.py` (what of a document is
text), `take.py` (a work unit), `sample.py` and `check.py` (is it this tokenizer?).
"""
