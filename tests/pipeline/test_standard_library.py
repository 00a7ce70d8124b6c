"""The corpus that needs no download: the library of this Python."""

from __future__ import annotations

import importlib.util
import sysconfig
from pathlib import Path

import pytest

from curriculum.errors import ConfigError
from pipeline.documents import BadRecord, Record, read_unit
from pipeline.inputs import split_units
from pipeline.standard_library import find_standard_library


def read(folder: Path) -> list[Record | BadRecord]:
    units = split_units(find_standard_library(folder).files, None)
    return [item for unit in units for item in read_unit(unit)]


def library(tmp_path: Path, **sources: bytes) -> Path:
    for name, source in sources.items():
        path = tmp_path / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source)
    return tmp_path


def test_it_finds_this_librarys_sources_by_name_and_nothing_installed_into_it() -> None:
    inputs = find_standard_library()
    names = [file.relative for file in inputs.files]
    assert names == sorted(names)
    assert {"argparse.py", "json/decoder.py", "email/mime/text.py"} <= set(names)
    assert not [name for name in names if "site-packages" in name or "__pycache__" in name or not name.endswith(".py")]
    assert {file.kind for file in inputs.files if file.relative != "pydoc_data/topics.py"} == {"python"}
    assert inputs.total_bytes > 5_000_000


def test_its_texts_are_what_the_import_system_would_decode() -> None:
    folder = Path(sysconfig.get_path("stdlib"))
    found = read(folder)
    records = [item for item in found if isinstance(item, Record) and item.relative != "pydoc_data/topics.py"]
    assert len(records) > 500
    assert len(found) - len(records) < 500
    for record in records[::50]:
        assert record.text == importlib.util.decode_source((folder / record.relative).read_bytes())


def test_topics_are_documents_of_their_own_by_name_and_are_not_also_a_source(tmp_path: Path) -> None:
    source = b"import os\nos.abort()\ntopics = {'with': 'The with statement', 'and': 'Boolean\\n'}\n"
    found = read(library(tmp_path, a=b"a = 1\n", pydoc_data__topics=source))
    topics = "pydoc_data/topics.py"
    assert sorted(found, key=lambda item: (item.relative, item.position)) == [
        Record(relative="a.py", position=0, text="a = 1\n"),
        Record(relative=topics, position=0, text="Boolean\n"),
        Record(relative=topics, position=1, text="The with statement"),
    ]


def test_the_topics_of_this_python_are_those_that_help_shows() -> None:
    topics = pytest.importorskip("pydoc_data.topics").topics
    files = [file for file in find_standard_library().files if file.kind == "topics"]
    (unit,) = split_units(files, None)
    assert [item.text for item in read_unit(unit)] == [topics[name] for name in sorted(topics)]


@pytest.mark.parametrize("source", [b"topics = [", b"other = {}\n", b"topics = {'a': 1}\n", b"topics = open('x')\n"])
def test_topics_of_another_form_are_a_bad_record(tmp_path: Path, source: bytes) -> None:
    (wrong,) = read(library(tmp_path, pydoc_data__topics=source))
    assert isinstance(wrong, BadRecord)
    assert wrong.path.endswith("pydoc_data/topics.py")
    assert wrong.reason.startswith("does not assign a dictionary of texts to `topics` (")


def test_sources_are_decoded_by_their_cookie_and_newlines_are_newlines(tmp_path: Path) -> None:
    folder = library(
        tmp_path,
        bom=b"\xef\xbb\xbfx = 1\r\n",
        latin=b"# -*- coding: latin-1 -*-\r\ns = '\xe9'\r\n",
        empty=b"",
    )
    assert {item.relative: item.text for item in read(folder) if isinstance(item, Record)} == {
        "bom.py": "x = 1\n",
        "latin.py": "# -*- coding: latin-1 -*-\ns = 'é'\n",
        "empty.py": "",
    }


@pytest.mark.parametrize(
    "source",
    [
        b"s = '\xe9'\n",
        b"# coding: utf-8\n\n\ns = '\xff'\n",
        b"# coding: no-such-encoding\n",
        b"\xef\xbb\xbf# coding: latin-1\n",
        b"# coding: raw-unicode-escape\ns = '\\ud800'\n",
    ],
)
def test_a_source_that_python_cannot_decode_is_a_bad_record(tmp_path: Path, source: bytes) -> None:
    found = read(library(tmp_path, good=b"x = 1\n", wrong=source))
    assert [item.text for item in found if isinstance(item, Record)] == ["x = 1\n"]
    (wrong,) = [item for item in found if isinstance(item, BadRecord)]
    assert wrong.path.endswith("wrong.py")
    assert wrong.where.startswith(("byte ", "line "))
    assert wrong.reason.startswith("cannot be decoded as Python source (")


def test_packages_caches_hidden_names_and_dangling_links_are_left_out(tmp_path: Path) -> None:
    folder = library(tmp_path, a=b"a\n")
    for name in ("site-packages/p.py", "dist-packages/p.py", "sub/__pycache__/p.py", ".hidden/p.py", "sub/.p.py"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("p\n")
    (folder / "sitecustomize.py").symlink_to("/nowhere/sitecustomize.py")
    (folder / "LICENSE.txt").write_text("x")
    inputs = find_standard_library(folder)
    assert [file.relative for file in inputs.files] == ["a.py"]
    assert inputs.num_ignored == 2


@pytest.mark.parametrize("name", ["compiled", "python311.zip", "missing"])
def test_an_installation_without_sources_is_one_clear_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "compiled").mkdir()
    (tmp_path / "compiled/os.pyc").write_bytes(b"x")
    (tmp_path / "python311.zip").write_bytes(b"PK")
    with pytest.raises(ConfigError) as caught:
        find_standard_library(tmp_path / name)
    assert f"no sources of its standard library in {tmp_path}/{name} to take instead" in str(caught.value)
