"""Where a page may be written: never over what is something else.

In:  the path that was asked for, the dataset.   Out: the path of the file, links followed.
Guarantee: a file that is no page of ours is replaced only if that was asked for; one of the dataset, a device or a
pipe never is; no folder is made. A page is known by its first lines, which name what generated it.

    my-dataset/report.html      new, or a page: fine
    my-dataset/manifest.json    refused: the dataset would be lost
    notes.html                  refused without --overwrite
"""

from __future__ import annotations

from pathlib import Path

from curriculum.errors import BuildError, ConfigError
from pipeline.files.address import is_url

GENERATOR = "curriculum report"
"""In the head of every page."""
NAME = "report.html"
"""The one that may lie in a dataset, at its top."""
HEAD_BYTES = 400


def place_of_page(out: Path, dataset: str | Path, *, overwrite: bool) -> Path:
    """The path.

    Raises:
        ConfigError: a page cannot be there.
        BuildError: there is something else, and `overwrite` is not given.
    """
    place = out.resolve()
    if not place.parent.is_dir():
        raise ConfigError(f"{out}: there is no folder {out.parent}. Make it, or give another --out.")
    if not is_url(dataset) and place != (root := Path(dataset).resolve()) / NAME and place.is_relative_to(root):
        raise ConfigError(
            f"{out}: lies in the dataset {dataset}, which has room for one page, {NAME} at its top. Give that, or a "
            f"file elsewhere."
        )
    if place.exists() and not place.is_file():
        raise ConfigError(f"{out}: is no regular file, so no page can be in its place. Give another --out.")
    if not overwrite and place.exists() and not _is_page(place):
        raise BuildError(
            f"{out}: is there already and is no page of `{GENERATOR}`. Give --overwrite to replace it, or another "
            f"--out."
        )
    return place


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    return head.startswith(b"<!doctype html>") and f'<meta name="generator" content="{GENERATOR}">'.encode() in head
