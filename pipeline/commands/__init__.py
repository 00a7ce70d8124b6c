"""The commands, a few to a file: each parses, calls one function and prints.

Read in this order: `parameters.py` (what several take), `results.py` (how all print), `make.py`, `look.py`,
`report.py`, `share.py`, `export.py`, `train.py`, `stability.py`, `tune.py`; `pipeline.cli` puts them under one name.
What a command needs is imported when it runs, so that `curriculum --help` is instant.
"""
