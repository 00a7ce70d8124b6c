"""What people keep beside a dataset is theirs: no push or pull removes it, and none hinders them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from curriculum.errors import BuildError, DataError
from curriculum.manifest import load_manifest
from pipeline.sharing.contents import is_shard_name, shards_of
from pipeline.sharing.moved import report
from travels import Broken, content, pull, push, travelling

THEIRS = {
    "phases/notes.md": b"read this",
    "phases/00000-len0000008/loss.arrow": b"measured for days",
    "phases/00000-len0000008/shard-000000.arrow.bak": b"kept",
    "validation/answers.csv": b"a,b",
    "thesis.tex": b"years of work",
}


@pytest.mark.parametrize("overwrite", [False, True])
def test_they_stay(tiny: Path, longer: Path, other: Path, tmp_path: Path, overwrite: bool) -> None:
    """Under an extension, and under another dataset; only the shards of the one before go."""
    after = other if overwrite else longer
    for run in (push, pull):
        end = tmp_path / run.__name__
        run(tiny, end)
        keep(end)
        run(after, end, overwrite=overwrite)
        assert content(end) == {**travelling(after), **THEIRS}


def test_they_are_no_dataset(tiny: Path, tmp_path: Path) -> None:
    """No --overwrite, and no advice to give it: a card, and folders that are called as ours are."""
    for run in (push, pull):
        end = tmp_path / run.__name__
        for name in ("README.md", "phases/thesis.tex", "validation/answers.csv"):
            (end / name).parent.mkdir(parents=True, exist_ok=True)
            (end / name).write_text("mine")
        before = content(end)
        for overwrite in (False, True):
            with pytest.raises(BuildError, match=r"nothing .* is touched") as refused:
                run(tiny, end, overwrite=overwrite)
            assert "--overwrite" not in str(refused.value)
        assert content(end) == before


def test_a_card_beside_a_licence_is_no_dataset(tiny: Path, tmp_path: Path) -> None:
    """What a new repository of the Hub holds is somebody's work in a folder, which keeps no history."""
    (tmp_path / "LICENSE").write_text("mine")
    push(tiny, tmp_path, dry_run=True)  # a licence alone hinders nobody
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(BuildError, match=r"holds 'README.md' and is not a curriculum dataset"):
        push(tiny, tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_they_do_not_hinder_what_goes_on(
    tiny: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted after the manifest of the one before was removed: the same command is not refused because of them."""
    monkeypatch.setattr("pipeline.sharing.pull.fits_beside", lambda *args: False)  # a pull removes it at once then
    for run in (push, pull):
        end = tmp_path / run.__name__
        run(tiny, end)
        keep(end)
        ends: tuple[Any, Any] = (other, Broken(end, 2)) if run is push else (Broken(other, 2), end)
        with pytest.raises(BuildError, match="the network is gone"):
            run(*ends, overwrite=True)
        assert "manifest.json" not in content(end)
        run(other, end)
        assert content(end) == {**travelling(other), **THEIRS}


def test_what_would_go_is_told_before(tiny: Path, longer: Path, tmp_path: Path) -> None:
    """The names that a dry run lists are those that are gone after the run."""
    for run in (push, pull):
        end = tmp_path / run.__name__
        run(longer, end, build_log=True)
        before = set(content(end))
        told = run(tiny, end, overwrite=True, dry_run=True)
        assert set(content(end)) == before
        done = run(tiny, end, overwrite=True)
        assert told.removed == done.removed
        assert set(told.removed) == before - set(content(end))
        assert any(is_shard_name(name) for name in told.removed)
        assert "build-log.json" in told.removed


def test_a_shard_in_the_other_form_goes(tiny: Path, tmp_path: Path) -> None:
    """Sent compressed where it lay plain."""
    push(tiny, tmp_path / "there")
    told = push(tiny, tmp_path / "there", compress=True, overwrite=True, dry_run=True)
    assert sorted(told.removed) == sorted(each.entry.path for each in told.wanted)
    assert json.loads(json.dumps(told.to_json()))["removed"] == list(told.removed)


def test_names_of_shards(tiny: Path) -> None:
    """Those of a build are known, plain and compressed; nothing that merely lies beside them is."""
    paths = [shard.path for entry in load_manifest(tiny).entries for shard in entry.shards]
    assert all(is_shard_name(path) and is_shard_name(f"{path}.zst") for path in paths)
    for name in (*THEIRS, "phases", "phases/", "shard-000000.arrow", f"x/{paths[0]}", f"{paths[0]}/x", f"{paths[0]}\n"):
        assert not is_shard_name(name)


def keep(folder: Path) -> None:
    for name, data in THEIRS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def test_the_build_log_of_another_dataset_goes(tiny: Path, longer: Path, other: Path, tmp_path: Path) -> None:
    """It names hosts and paths of whoever built what is there no more."""
    for after, asked in ((longer, {}), (other, {"overwrite": True})):
        there = tmp_path / after.parent.name
        push(tiny, there, build_log=True)
        moved = push(after, there, **asked)
        assert moved.removed.count("build-log.json") == 1
        assert content(there) == travelling(after)
        push(after, there, build_log=True)
        assert content(there) == content(after)
        assert push(after, there).removed == ()
        assert content(there) == content(after)


@pytest.mark.parametrize("log", ['{"id": "sha256:0"}', "[]", "[" * 100_000, "\xff", ""])
def test_a_build_log_of_something_else(tiny: Path, tmp_path: Path, log: str) -> None:
    """Refused both ways before anything moves: it would come to light after hours."""
    here = tmp_path / "here"
    pull(tiny, here)
    (here / "build-log.json").write_text(log, "latin-1")
    with pytest.raises(DataError, match=r"build-log\.json: does not tell of this dataset"):
        push(here, tmp_path / "there", build_log=True)
    with pytest.raises(DataError, match=r"build-log\.json does not tell of this dataset"):
        pull(here, tmp_path / "back", build_log=True)
    assert not (tmp_path / "there").exists()
    assert content(tmp_path / "back") == {}


def test_a_card_that_was_edited_there_stays(tiny: Path, longer: Path, tmp_path: Path) -> None:
    """Everybody edits the card on the Hub: the same dataset pushed again says that it is another one, and leaves it."""
    there = tmp_path / "there"
    push(tiny, there)
    (there / "README.md").write_text("# Ours, with a paper")
    (there / "schedule.svg").unlink()
    edited = {**travelling(tiny), "README.md": b"# Ours, with a paper"}
    told = push(tiny, there, dry_run=True)
    assert told.kept == ("README.md",)
    assert "kept README.md as edited there" in report(told)
    assert [file.name for file in push(tiny, there).files] == ["schedule.svg"]
    assert content(there) == edited
    assert push(tiny, there).to_json()["kept"] == ["README.md"]
    assert "Nothing to push" in report(push(tiny, there))
    push(tiny, there, overwrite=True)
    assert content(there) == travelling(tiny)
    (there / "README.md").write_text("# Ours, with a paper")
    assert push(longer, there).kept == ()  # the phases that it tells of are others
    assert content(there) == travelling(longer)


def test_a_dry_run_names_what_goes_beside_the_shards(tiny: Path, tmp_path: Path) -> None:
    """For people, too: a card that is replaced is nothing to find out afterwards."""
    for run in (push, pull):
        told = report(run(tiny, tmp_path / "end", dry_run=True))
        for name in ("README.md", "schedule.svg", "tokenizer.json", "manifest.json"):
            assert f"  {name}: " in told


@pytest.mark.parametrize("compress", [False, True])
def test_what_is_told_is_what_goes_whatever_lay_there(tiny: Path, tmp_path: Path, compress: bool) -> None:
    """Broken shards in and beside the part that is pushed, an interrupted push, both forms of one."""
    paths = [shard.path for shard in shards_of(load_manifest(tiny))]
    cases = itertools.product((paths[0], next(path for path in paths if "/00001" in path), None), *2 * [(False, True)])
    for case, (broken, marker, two) in enumerate(cases):
        there = tmp_path / str(case)
        push(tiny, there)
        if broken is not None:
            (there / broken).write_bytes(b"cut")
        if marker:
            (there / ".push.json").write_text(json.dumps({"id": load_manifest(tiny).id}))
        if two:
            (there / f"{paths[1]}.zst").write_bytes(b"x" * 100)
        before = set(content(there))
        asked: dict[str, Any] = {"phases": "0", "compress": compress}
        told = push(tiny, there, dry_run=True, **asked)
        done = push(tiny, there, **asked)
        assert told.removed == done.removed
        assert set(told.removed) == before - set(content(there)) - {".push.json"}
