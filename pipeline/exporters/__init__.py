"""Datasets for trainers that read nothing else: `curriculum export`.

One file per format, each with the same verbs (`contract.Exporter`). Read in this order: `selection` (which rows, in
which order), `work_folder` (where they are written), `contract`, `rows` (columns of a stretch of a shard), `npy`,
`megatron`, `mds`, `parquet`, `description` (export.json and README.md). `pipeline.export` wires them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.exporters.contract import Exporter

FORMATS = ("parquet", "mds", "megatron", "npy")


def exporter(name: str) -> Exporter:
    """The module that writes a format."""
    found: Exporter = import_module(f"pipeline.exporters.{name}")
    return found
