"""Two pushes to one place: at most one of them ends well, and then the place holds what it pushed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from curriculum.errors import BuildError
from pipeline.progress import Advance
from pipeline.sharing.folder_place import FolderPlace
from travels import content, pull, push, travelling


class Visited(FolderPlace):
    """While files are sent to it, somebody else comes."""

    def __init__(self, folder: Path, dataset: Path) -> None:
        super().__init__(folder)
        self.refused = 0
        self._dataset = dataset

    def send(self, names: Sequence[str], folder: Path, advance: Advance) -> None:
        super().send(names, folder, advance)
        with pytest.raises(BuildError, match=r"there: another process is writing there\. Wait until it ends"):
            push(self._dataset, self.folder, overwrite=True)
        self.refused += 1


@pytest.mark.parametrize("visitor", ["tiny", "other"])
def test_a_folder_is_held_by_who_pushes_to_it(tiny: Path, other: Path, tmp_path: Path, visitor: str) -> None:
    """Names and sizes of the two are the same: mixed, they would pass for a whole dataset until a pull hashes them."""
    place = Visited(tmp_path / "there", {"tiny": tiny, "other": other}[visitor])
    push(tiny, place)
    assert place.refused >= 3  # marker, shards, manifest
    assert content(tmp_path / "there") == travelling(tiny)


def test_a_dry_run_and_a_pull_wait_for_nobody(tiny: Path, tmp_path: Path) -> None:
    """Both only look."""
    there = FolderPlace(tmp_path / "there")
    push(tiny, there)
    with there.held():
        assert push(tiny, tmp_path / "there", dry_run=True).files == ()
        assert pull(tmp_path / "there", tmp_path / "back").complete
