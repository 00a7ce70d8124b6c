"""Open the place that an address names.

In:  a path or a URL such as s3://bucket/dataset.   Out: `Files`.

    dataset_files("my-dataset").where     "my-dataset"
"""

from __future__ import annotations

from pathlib import Path

from pipeline.files.contract import Files
from pipeline.files.disk import DiskFiles
from pipeline.layout import ASIDE


def dataset_files(address: str | Path) -> Files:
    """The place of a dataset."""
    return _open(address, aside=ASIDE)


def store_files(address: str | Path) -> Files:
    """The place of a token store."""
    return _open(address, aside="aside")


def _open(address: str | Path, *, aside: str) -> Files:
    return DiskFiles(folder=str(address), aside=aside)
