"""A dataset that was extended goes over the one before: the new shards move, nothing else."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import curriculum
from curriculum.errors import BuildError
from curriculum.manifest import canonical_json, content_id, load_manifest, parse_manifest
from new_text import grow
from pipeline.sharing.contents import relation, shards_of
from travels import content, pull, push, travelling


def test_only_what_is_new_moves(tiny: Path, longer: Path, tmp_path: Path) -> None:
    """Both ways; a cursor of the dataset before resumes there."""
    old, new = (load_manifest(each) for each in (tiny, longer))
    added = [shard.path for shard in shards_of(new)[len(old.phases[0].shards) :] if shard not in shards_of(old)]
    assert relation(new, old) == "extension"
    assert relation(old, new) == "before"
    for run in (push, pull):
        end = tmp_path / run.__name__
        run(tiny, end)
        moved = run(longer, end)
        assert [file.name for file in moved.files if file.phase is not None] == added
        assert content(end) == travelling(longer)
    cursor = next(curriculum.open(tiny).steps(start=15)).cursor
    assert next(curriculum.open(tmp_path / "pull").steps(start=cursor)).step == 16


def test_an_interrupted_move_of_the_one_before_is_continued(tiny: Path, longer: Path, tmp_path: Path) -> None:
    """Nobody pushes or pulls it to its end only to have the longer one after it."""
    back = tmp_path / "back"
    pull(tiny, back)
    (back / ".pull").mkdir()
    (back / "manifest.json").rename(back / ".pull" / "manifest.json")
    moved = pull(longer, back)
    assert content(back) == travelling(longer)
    assert len([file for file in moved.files if file.phase is not None]) < len(shards_of(load_manifest(longer)))


def test_going_back_is_asked_for(tiny: Path, longer: Path, tmp_path: Path) -> None:
    """The shorter one is no newer state: refused, and possible."""
    for run in (push, pull):
        end = tmp_path / run.__name__
        run(longer, end)
        with pytest.raises(BuildError, match="an extension of"):
            run(tiny, end)
        assert content(end) == travelling(longer)
        run(tiny, end, overwrite=True)
        assert content(end) == travelling(tiny)


def test_an_extension_that_changes_what_was_is_none(tiny: Path, longer: Path, tmp_path: Path) -> None:
    """A hostile manifest may name any parent: its shards must be the parent's, or it is another dataset."""
    value: dict[str, Any] = json.loads((longer / "manifest.json").read_bytes())
    value["phases"][0]["shards"][0]["sha256"] = "0" * 64
    value["id"] = content_id({key: each for key, each in value.items() if key != "id"})
    there, back = tmp_path / "there", tmp_path / "back"
    shutil.copytree(longer, there)
    (there / "manifest.json").write_bytes(canonical_json(value))
    assert relation(parse_manifest(canonical_json(value), "x"), load_manifest(tiny)) == "other"
    pull(tiny, back)
    with pytest.raises(BuildError, match="holds dataset"):
        pull(there, back)
    assert content(back) == travelling(tiny)


def test_a_part_of_an_extension_over_a_part(tiny: Path, longer: Path, tmp_path: Path) -> None:
    """Whoever trains the end needs the end."""
    back = tmp_path / "back"
    pull(tiny, back, phases="0")
    pull(longer, back, steps="16-")
    reader = curriculum.open(back)
    assert len(reader) == 24
    for step in (0, 23):
        assert (reader[step].tokens == curriculum.open(longer)[step].tokens).all()
    pull(longer, back)
    assert content(back) == travelling(longer)


def test_a_begun_extension_is_in_the_way(tiny: Path, longer: Path, tmp_path: Path) -> None:
    """Its windows are hours of work and its shards may have the names of others."""
    back = tmp_path / "back"
    pull(tiny, back)
    (back / ".build").mkdir()
    (back / ".build" / "request.json").write_text("{}")
    with pytest.raises(BuildError, match="was begun there and is not finished"):
        pull(longer, back)
    pull(tiny, back)  # of what is there nothing changes
    assert dataclasses.is_dataclass(load_manifest(back))


def test_a_signature_does_not_outlive_what_was_signed(tiny: Path, tmp_path: Path) -> None:
    """Pushed with the longer dataset it would look forged."""
    shutil.copytree(tiny, tmp_path / "dataset")
    (tmp_path / "dataset" / "manifest.json.sig").write_text("of the shorter one")
    grow(tmp_path / "dataset", store=tiny.with_name("dataset.store"), steps=8)
    assert "manifest.json.sig" not in content(tmp_path / "dataset")
