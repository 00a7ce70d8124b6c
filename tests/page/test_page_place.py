"""Where `curriculum report` writes: no slip of --out costs a dataset, notes or a device."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from curriculum.errors import BuildError, ConfigError
from pipeline.cli import main
from pipeline.page.place import place_of_page

HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="generator" content="curriculum report">
"""
"""Of every page that was ever written since pages are known by it."""


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A folder that looks like one."""
    folder = tmp_path / "dataset"
    (folder / "phases").mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    return folder


def test_a_page_is_replaced_by_a_page(dataset: Path, tmp_path: Path) -> None:
    """And new ones are written: beside the dataset, and at its top under one name."""
    made = tmp_path / "page.html"
    made.write_text(HEAD)
    for place in (made, tmp_path / "new.html", dataset / "report.html"):
        assert place_of_page(place, dataset, overwrite=False) == place.resolve()
    (tmp_path / "link.html").symlink_to(made)
    assert place_of_page(tmp_path / "link.html", dataset, overwrite=False) == made.resolve()


@pytest.mark.parametrize(
    "text",
    ["", "notes", "<!doctype html>\n<p>notes about <code>curriculum report</code>", "<!DOCTYPE html>"],
    ids=["nothing", "text", "another page", "no page"],
)
def test_other_files_are_replaced_when_asked_for(text: str, dataset: Path, tmp_path: Path) -> None:
    """The default is report.html in the folder where one stands, which may well be somebody else's."""
    notes = tmp_path / "report.html"
    notes.write_text(text)
    with pytest.raises(BuildError, match=r"is there already and is no page of .* Give --overwrite to replace it"):
        place_of_page(notes, dataset, overwrite=False)
    assert place_of_page(notes, dataset, overwrite=True) == notes.resolve()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["manifest.json", "new.html", "phases/report.html", "link.html", "../beside.html"])
def test_nothing_else_in_a_dataset_becomes_a_page(name: str, overwrite: bool, dataset: Path, tmp_path: Path) -> None:
    """`--out my-dataset/manifest.json` made a page of it, and of the dataset nothing."""
    (dataset / "link.html").symlink_to(dataset / "manifest.json")
    (tmp_path / "beside.html").symlink_to(dataset / "manifest.json")
    with pytest.raises(ConfigError, match=r"lies in the dataset .* which has room for one page"):
        place_of_page(dataset / name, dataset, overwrite=overwrite)


def test_a_page_is_a_file_in_a_folder_that_is_there(dataset: Path, tmp_path: Path) -> None:
    """A mistyped folder is not made; a device, a pipe or a folder is not traded for a file."""
    with pytest.raises(ConfigError, match="there is no folder"):
        place_of_page(tmp_path / "mistyped" / "page.html", dataset, overwrite=True)
    os.mkfifo(tmp_path / "pipe")
    for place in (Path("/dev/null"), tmp_path / "pipe", tmp_path):
        with pytest.raises(ConfigError, match="is no regular file"):
            place_of_page(place, dataset, overwrite=True)


def test_the_command_asks_first(tiny: Path, tmp_path: Path) -> None:
    """Exit 1 for another file, 2 for a place where no page can be; nothing is written; --overwrite means it."""
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    manifest = (tiny / "manifest.json").read_bytes()

    def report(out: Path, *more: str) -> int:
        return CliRunner().invoke(main, ["report", str(tiny), "--out", str(out), "--rows", "0", *more]).exit_code

    assert (report(notes), notes.read_text()) == (1, "mine")
    assert report(tiny / "manifest.json", "--overwrite") == 2
    assert report(tmp_path / "new" / "page.html") == 2
    assert (tiny / "manifest.json").read_bytes() == manifest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt"]
    assert report(notes, "--overwrite") == 0
    assert notes.read_text("utf-8").startswith(HEAD)
