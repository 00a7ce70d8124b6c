"""Build datasets: documents -> token store -> rows -> shards -> manifest.

Runs where the CPUs are. Imports `curriculum`, which runs where the GPU is; never the other way round.
"""
