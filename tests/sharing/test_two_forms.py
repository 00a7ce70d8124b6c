"""A dataset that was being sent again, in another form: no bad old shard hides a good new one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from curriculum.errors import DataError
from curriculum.manifest import load_manifest
from pipeline.progress import Advance
from pipeline.sharing.contents import shards_of
from pipeline.sharing.folder_place import FolderPlace
from travels import content, flip, pull, push, travelling


class _Died(Exception):
    pass


class Dying(FolderPlace):
    """Sends two shards at a time; dies before its n-th change."""

    batch_bytes = 600

    def __init__(self, folder: Path, changes: int) -> None:
        super().__init__(folder)
        self._left = changes

    def _live(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise _Died

    def send(self, names: Sequence[str], folder: Path, advance: Advance) -> None:
        self._live()
        super().send(names, folder, advance)

    def remove(self, names: Sequence[str]) -> None:
        self._live()
        super().remove(names)


def forms(folder: Path) -> set[str]:
    """Endings of the shards."""
    return {Path(name).suffix for name in content(folder) if name.startswith(("phases/", "validation/"))}


@pytest.mark.parametrize("compress", [False, True])
def test_a_repair_that_was_interrupted_is_not_taken_for_done(tiny: Path, tmp_path: Path, compress: bool) -> None:
    """Whichever form is asked for then, and without --overwrite: everything is sent again, in one form."""
    broken, there = tmp_path / "broken", tmp_path / "there"
    push(tiny, broken)
    for shard in shards_of(load_manifest(tiny)):
        flip(broken / shard.path)
    died = 0
    for changes in range(1, 99):  # before the first one nothing is begun
        shutil.copytree(broken, there)
        try:
            push(tiny, Dying(there, changes), overwrite=True, compress=True)
        except _Died:
            died += 1
            assert json.loads((there / ".push.json").read_bytes())["anew"] is True
            push(tiny, there, compress=compress)
        assert forms(there) == {".zst" if compress or changes > died else ".arrow"}
        assert ".push.json" not in content(there)
        pull(there, tmp_path / "back")
        assert content(tmp_path / "back") == travelling(tiny)
        shutil.rmtree(there)
        shutil.rmtree(tmp_path / "back")
        if changes > died:
            break
    assert died > 5


def test_a_part_leaves_the_rest_of_such_a_repair_to_another(tiny: Path, tmp_path: Path) -> None:
    """Of the shards of other phases nothing is known: the marker stays until all were sent."""
    there = tmp_path / "there"
    push(tiny, there)
    last = [shard.path for shard in shards_of(load_manifest(tiny)) if shard.path.startswith("phases/00001")][-1]
    flip(there / last)
    with pytest.raises(_Died):
        push(tiny, Dying(there, 2), overwrite=True)
    push(tiny, there, phases="0")
    assert ".push.json" in content(there)
    push(tiny, there)
    assert content(there) == travelling(tiny)


def test_an_extension_goes_on_with_such_a_repair(tiny: Path, longer: Path, tmp_path: Path) -> None:
    """The damaged shards of the one before are its own too: it sends all, and takes itself for a repair if it dies."""
    there = tmp_path / "there"
    push(tiny, there)
    flip(there / shards_of(load_manifest(tiny))[0].path)
    with pytest.raises(_Died):
        push(tiny, Dying(there, 1), overwrite=True)
    with pytest.raises(_Died):
        push(longer, Dying(there, 1))
    push(longer, there)
    assert content(there) == travelling(longer)


@pytest.mark.parametrize("names", [("tiny", "longer"), ("longer", "tiny"), ("tiny", "tiny")])
def test_overwrite_trusts_no_shard_that_is_there(
    names: tuple[str, str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The two datasets share the damaged shard, and the manifest there calls it right."""
    before, after = (request.getfixturevalue(name) for name in names)
    there = tmp_path / "there"
    push(before, there)
    flip(there / shards_of(load_manifest(before))[0].path)
    assert push(after, there, overwrite=True).complete
    assert content(there) == travelling(after)


def test_two_forms_become_one(tiny: Path, tmp_path: Path) -> None:
    """Nobody knows which of them is whole, so the one that is asked for is sent."""
    for compress in (False, True):
        there = tmp_path / f"{compress}"
        push(tiny, there, compress=True)
        shutil.copytree(tiny / "phases", there / "phases", dirs_exist_ok=True)
        flip(there / shards_of(load_manifest(tiny))[0].path)
        push(tiny, there, compress=compress)
        assert {Path(name).suffix for name in content(there / "phases")} == {".zst" if compress else ".arrow"}
        pull(there, tmp_path / f"back-{compress}")
        assert content(tmp_path / f"back-{compress}") == travelling(tiny)


def test_a_pull_takes_the_other_form_if_one_never_matches(tiny: Path, tmp_path: Path) -> None:
    """At a place that nobody repaired: the plain one is read first, and is the old one."""
    there = tmp_path / "there"
    push(tiny, there, compress=True)
    for name in ("phases", "validation"):
        shutil.copytree(tiny / name, there / name, dirs_exist_ok=True)
    broken = [shard.path for shard in shards_of(load_manifest(tiny))][::3]
    for path in broken:
        flip(there / path)
    pull(there, tmp_path / "back")
    assert content(tmp_path / "back") == travelling(tiny)
    flip(there / f"{broken[1]}.zst")
    with pytest.raises(DataError, match=f"never that of the manifest: {broken[1]}. They are"):
        pull(there, tmp_path / "none")
